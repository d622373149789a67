-- Parked keys that are due again, the longest due first. $1: the objects of the mapping, $2: at most so many.
-- The statement's time, not the clock's: that one would be asked for every row instead of the index.
select
    object,
    key
from schoolbell.parked
where due_at <= pg_catalog.statement_timestamp()
    and object = any ($1)
order by due_at
limit $2
