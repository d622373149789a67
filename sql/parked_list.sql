-- Parked keys for a human, the oldest first. $1: objects or null, $2: keys or null, $3: state or null, $4: a part of the
-- reason, or the whole SQLSTATE, or null, $5: at most this many.
select
    object,
    key,
    state,
    awaits,
    awaits_key,
    due_at,
    held,
    attempts,
    reason,
    sqlstate,
    remedy,
    parked_at
from schoolbell.parked
where ($1::text[] is null or object = any ($1))
    and ($2::text[] is null or key = any ($2))
    and ($3::text is null or state = $3)
    and ($4::text is null or strpos(lower(reason), lower($4)) > 0 or sqlstate = $4)
order by parked_at, object, key
limit $5
