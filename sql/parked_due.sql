-- Parked keys that are due again, the longest due first. $1: at most so many.
select
    object,
    key
from schoolbell.parked
where due_at <= pg_catalog.clock_timestamp()
order by due_at
limit $1
