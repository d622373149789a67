-- Which of these keys have a change that is not acknowledged, and whether there is one without keys (a TRUNCATE).
-- $1: the object, $2: its table, $3: its key column, $4: keys.
--
-- `in` a query, not `= any`: the keys are hashed once, and the outbox is read once, however many there are of either.
select c.keys ->> $3 as key
from schoolbell.change as c
where c.source_table = $2
    and (c.concerns is null or c.concerns = $1)
    and (c.keys is null or c.keys ->> $3 in (select k.key from pg_catalog.unnest($4) as k (key)))
group by 1
