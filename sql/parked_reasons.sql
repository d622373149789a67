-- Parked keys by what they wait for, or why they were refused: the dead first, then the largest groups.
-- $1: at most this many groups.
--
-- One pass over all parked keys: the oldest key of a group is kept behind its time in one text,
-- which sorts by the time first. The program stores no reason that quotes a row. An earlier one
-- did, where a trigger raised it: a code of no class of the server's own for values, constraints,
-- rights, names, locks and time-outs is shown without it.
with judged as (
    select
        object,
        state,
        awaits,
        sqlstate,
        remedy,
        case
            when held then reason
            when awaits is null and pg_catalog.left(sqlstate, 2) = any (array['0A', '22', '23', '40', '42', '55', '57'])
                then reason
        end as reason,
        parked_at,
        (extract(epoch from parked_at)::text || ' ' || key) collate "C" as place
    from schoolbell.parked
)
select
    object,
    state,
    awaits,
    sqlstate,
    remedy,
    reason,
    count(*) as keys,
    min(parked_at) as oldest,
    pg_catalog.substr(min(place), pg_catalog.strpos(min(place), ' ') + 1) as oldest_key,
    count(*) over () as groups
from judged
group by object, state, awaits, sqlstate, remedy, reason
order by
    state <> 'dead',
    state <> 'retrying',
    count(*) desc,
    object
limit $1
