-- What these keys waited for has arrived: they are due. $1: what, $2: whose.
-- Locked in the order of their keys, as an acknowledgement of the same keys may lock them at this moment.
with arrived as (
    select object, key
    from schoolbell.parked
    where state = 'waiting'
        and due_at is null
        and awaits = $1
        and awaits_key = any ($2)
    order by object, key
    for update
)
update schoolbell.parked as p
set due_at = pg_catalog.clock_timestamp()
from arrived
where p.object = arrived.object
    and p.key = arrived.key
