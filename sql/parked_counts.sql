-- Parked keys by object and state.
select
    object,
    state,
    count(*) as keys,
    count(*) filter (where held) as held,
    min(parked_at) as oldest
from schoolbell.parked
group by object, state
order by object, state
