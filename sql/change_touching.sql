-- The recorded keys of changes for one object in another table that are not acknowledged. $1: object, $2: table.
select distinct c.keys::text as keys
from schoolbell.change as c
where c.source_table = $2
    and c.concerns = $1
    and c.keys is not null
limit 10000
