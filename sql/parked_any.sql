-- Of these objects, those that have parked keys. $1: objects.
select k.object
from unnest($1::text[]) as k (object)
cross join lateral (
    select
    from schoolbell.parked as p
    where p.object = k.object
    limit 1
) as p
