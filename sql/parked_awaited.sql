-- The next distinct things that parked keys wait for. $1, $2: after this one. $3: at most this many.
-- Skips through the index from one distinct value to the next, so the cost does not depend on how many
-- keys wait for each. The order is the index's: keys may be longer than what it holds of them.
with recursive awaited (awaits, awaits_key, place) as (
    (
        select awaits, awaits_key, 1
        from schoolbell.parked
        where state = 'waiting'
            and (awaits, left(awaits_key, 200), hashtextextended(awaits_key, 0), hashtextextended(awaits_key, 1))
                > ($1, left($2, 200), hashtextextended($2, 0), hashtextextended($2, 1))
        order by awaits, left(awaits_key, 200), hashtextextended(awaits_key, 0), hashtextextended(awaits_key, 1)
        limit 1
    )
    union all
    select following.awaits, following.awaits_key, awaited.place + 1
    from awaited
    cross join lateral (
        select p.awaits, p.awaits_key
        from schoolbell.parked as p
        where p.state = 'waiting'
            and (p.awaits, left(p.awaits_key, 200), hashtextextended(p.awaits_key, 0), hashtextextended(p.awaits_key, 1))
                > (
                    awaited.awaits,
                    left(awaited.awaits_key, 200),
                    hashtextextended(awaited.awaits_key, 0),
                    hashtextextended(awaited.awaits_key, 1)
                )
        order by
            p.awaits,
            left(p.awaits_key, 200),
            hashtextextended(p.awaits_key, 0),
            hashtextextended(p.awaits_key, 1)
        limit 1
    ) as following
    where awaited.place < $3
)
select
    awaits,
    awaits_key
from awaited
