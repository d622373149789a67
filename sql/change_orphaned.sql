-- Changes that would never be claimed without an object. $1: the object, $2: its table, $3: no
-- other object is read from it.
select count(*)
from schoolbell.change
where concerns = $1
    or concerns is null and source_table = $2 and $3
