-- What is parked of these keys. $1: object, $2: keys as they are parked.
select
    p.key,
    p.state,
    p.awaits,
    p.reason
from schoolbell.parked as p
join (
    select distinct k.key
    from unnest($2::text[]) as k (key)
) as k on left(p.key, 200) = left(k.key, 200) and p.key = k.key
where p.object = $1
