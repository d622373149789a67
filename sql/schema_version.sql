-- The newest migration that was run. refinery writes history rows in order.
select
    max(version)::int4 as version
from schoolbell.refinery_schema_history
