-- What is parked of these keys. $1: object, $2: keys as they are parked.
select
    f.key,
    f.state,
    f.awaits,
    f.reason
from (
    select distinct n.key
    from unnest($2::text[]) as n (key)
) as k
cross join lateral (
    select
        p.key,
        p.state,
        p.awaits,
        p.reason
    from schoolbell.parked as p
    where p.object = $1
        and left(p.key, 200) = left(k.key, 200)
        and p.key = k.key
    offset 0
) as f
