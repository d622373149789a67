-- The mapping that the triggers were last installed for.
select
    file,
    content,
    migrated_at
from schoolbell.mapping
