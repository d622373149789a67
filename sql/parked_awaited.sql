-- The next distinct things that parked keys wait for. $1, $2: after this one. $3: at most so many.
-- Skips through the index from one distinct value to the next, so the cost does not depend on how many
-- keys wait for each.
with recursive awaited (awaits, awaits_key, place) as (
    (
        select awaits, awaits_key, 1
        from schoolbell.parked
        where state = 'waiting'
            and (awaits, awaits_key) > ($1, $2)
        order by awaits, awaits_key
        limit 1
    )
    union all
    select following.awaits, following.awaits_key, awaited.place + 1
    from awaited
    cross join lateral (
        select p.awaits, p.awaits_key
        from schoolbell.parked as p
        where p.state = 'waiting'
            and (p.awaits, p.awaits_key) > (awaited.awaits, awaited.awaits_key)
        order by p.awaits, p.awaits_key
        limit 1
    ) as following
    where awaited.place < $3
)
select
    awaits,
    awaits_key
from awaited
