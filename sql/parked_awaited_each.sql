-- What the next parked keys wait for, one row per waiting key. $1, $2: after this one. $3: at most
-- this many. The order is that of parked_awaited.sql, which is cheaper where many keys wait for the
-- same thing.
select
    p.awaits,
    p.awaits_key
from schoolbell.parked as p
where p.state = 'waiting'
    and (p.awaits, left(p.awaits_key, 200), hashtextextended(p.awaits_key, 0), hashtextextended(p.awaits_key, 1))
        > ($1, left($2, 200), hashtextextended($2, 0), hashtextextended($2, 1))
order by p.awaits, left(p.awaits_key, 200), hashtextextended(p.awaits_key, 0), hashtextextended(p.awaits_key, 1)
limit $3
