-- Stores a resync, or finds the unfinished one that asks for the same and continues with it. $1:
-- object, $2: walk, $3: keys or null, $4: since or null, $5: only missing, $6: write limit or null,
-- $7: write rate or null, $8: how many rows it will look at, $9: the fingerprint of the object in
-- its mapping, or null, $10: a human asks for it; then one that is in progress is enough.
with unfinished as (
    select r.id
    from schoolbell.resync as r
    where r.state in ('queued', 'running')
        and r.object = $1
        and r.walk = $2
        and r.only_keys is not distinct from $3
        and r.since is not distinct from $4
        and r.only_missing = $5
        and r.write_limit is not distinct from $6
        and r.write_rate is not distinct from $7
        -- One of another mapping that continued in the middle would leave the rows before it as
        -- that mapping has them.
        and r.mapping is not distinct from $9
        -- Rows that have changed, or are gone, behind the position would be missed by one that only continues.
        and ($10 or r.position is null)
        and r.asked = $10
    order by r.id
    limit 1
), stored as (
    insert into schoolbell.resync (object, walk, only_keys, since, only_missing, write_limit, write_rate, total, mapping, asked)
    select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
    where not exists (select from unfinished)
    returning id
)
select id from unfinished
union all
select id from stored
