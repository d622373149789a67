-- What these keys waited for has arrived: they are due. $1: what, $2: whose.
-- Locked in the order of their keys, as an acknowledgement of the same keys may lock them at this moment.
with waiting as materialized (
    -- Each through the index, however many rows the planner believes that there are.
    select w.id, w.object, w.key
    from unnest($2::text[]) as k (key)
    cross join lateral (
        select p.id, p.object, p.key
        from schoolbell.parked as p
        where p.state = 'waiting'
            and p.awaits = $1
            and left(p.awaits_key, 200) = left(k.key, 200)
            and p.awaits_key = k.key
            and p.due_at is null
        offset 0
    ) as w
), arrived as materialized (
    select p.id
    from (
        select *
        from waiting
        order by object, key
    ) as w
    cross join lateral (
        select p.id, p.state, p.awaits
        from schoolbell.parked as p
        where p.id = w.id
        offset 0
        for update
    ) as p
    -- Another session may have changed it before it was locked.
    where p.state = 'waiting'
        and p.awaits = $1
)
update schoolbell.parked as p
set due_at = pg_catalog.clock_timestamp()
where p.id = any (array(select a.id from arrived as a))
