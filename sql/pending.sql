-- The outbox at a glance.
select
    count(*) as changes,
    min(changed_at) as oldest
from schoolbell.change
