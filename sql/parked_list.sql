-- Parked keys for a human, the oldest first. $1: objects or null, $2: state or null, $3: at most so many.
select
    object,
    key,
    state,
    awaits,
    awaits_key,
    due_at,
    attempts,
    reason,
    sqlstate,
    remedy,
    parked_at
from schoolbell.parked
where ($1::text[] is null or object = any ($1))
    and ($2::text is null or state = $2)
order by parked_at, object, key
limit $3
