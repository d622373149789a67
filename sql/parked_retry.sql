-- Makes due the keys that a human wants to be tried now. $1: objects, $2: keys, $3: state, each
-- null for any. $4: deletions that the brake held by then are released, too; null: none is. Keys
-- that are due already keep their place.
with due as (
    update schoolbell.parked
    set due_at = least(due_at, pg_catalog.clock_timestamp())
    where ($1::text[] is null or object = any ($1))
        and ($2::text[] is null or key = any ($2))
        and ($3::text is null or state = $3)
        and (not held or tried_at <= $4::timestamptz)
    returning object, state, held, parked_at
)
select
    object,
    state,
    count(*) as keys,
    count(*) filter (where held) as held,
    min(parked_at) as oldest
from due
group by object, state
order by object, state
