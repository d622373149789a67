-- The changes of one source row that are not acknowledged. $1: object, $2: its table, $3: its key column, $4: key.
select
    count(*) as changes,
    min(c.changed_at) as oldest
from schoolbell.change as c
where c.source_table = $2
    and (c.concerns is null or c.concerns = $1)
    and (c.keys is null or c.keys ->> $3 = $4)
