-- Of the keys that a human named, those that are not parked. $1: objects or null, $2: keys.
select
    k.key
from unnest($2::text[]) with ordinality as k (key, place)
where not exists (
    select
    from schoolbell.parked as p
    where p.key = k.key
        and ($1::text[] is null or p.object = any ($1))
)
order by k.place
