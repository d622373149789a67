-- What these keys waited for has arrived: they are due. $1: what, $2: whose.
-- Locked in the order of their keys, as an acknowledgement of the same keys may lock them at this moment.
with arrived as (
    select p.id
    from schoolbell.parked as p
    join (
        select distinct k.key
        from unnest($2::text[]) as k (key)
    ) as k on left(p.awaits_key, 200) = left(k.key, 200) and p.awaits_key = k.key
    where p.state = 'waiting'
        and p.due_at is null
        and p.awaits = $1
    order by p.object, p.key
    for update of p
)
update schoolbell.parked as p
set due_at = pg_catalog.clock_timestamp()
from arrived
where p.id = arrived.id
