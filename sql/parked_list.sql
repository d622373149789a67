-- Parked keys for a human, the oldest first. $1: objects or null, $2: state or null, $3: a part of the reason,
-- or the whole SQLSTATE, or null, $4: at most so many.
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
    and ($3::text is null or strpos(lower(reason), lower($3)) > 0 or sqlstate = $3)
order by parked_at, object, key
limit $4
