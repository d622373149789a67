-- Deletes the keys that a human wants to drop. $1: objects, $2: keys, $3: state, each null for any.
-- $4: only keys that were parked by then: later ones were not shown to the human.
with dropped as (
    delete from schoolbell.parked
    where ($1::text[] is null or object = any ($1))
        and ($2::text[] is null or key = any ($2))
        and ($3::text is null or state = $3)
        and parked_at <= $4
    returning object, state, held, parked_at
)
select
    object,
    state,
    count(*) as keys,
    count(*) filter (where held) as held,
    min(parked_at) as oldest
from dropped
group by object, state
order by object, state
