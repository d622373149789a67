-- The recorded keys of changes for one object in another table that are not acknowledged; null: the table was truncated.
-- $1: object, $2: table, $3: at most this many.
select distinct c.keys::text as keys
from schoolbell.change as c
where c.source_table = $2
    and c.concerns = $1
limit $3
