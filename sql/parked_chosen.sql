-- Parked keys that a human chose, by object and state, with the first few of each, those that the brake holds first.
-- $1: objects, $2: keys, $3: state, each null for any. $4: this many of each.
select
    chosen.object,
    chosen.state,
    count(*) as keys,
    count(*) filter (where chosen.held) as held,
    min(chosen.parked_at) as oldest,
    array_agg(chosen.key order by chosen.place) filter (where chosen.place <= $4) as first_keys,
    pg_catalog.statement_timestamp() as seen_at
from (
    select
        object,
        state,
        key,
        held,
        parked_at,
        row_number() over (partition by object, state order by held desc, parked_at, key) as place
    from schoolbell.parked
    where ($1::text[] is null or object = any ($1))
        and ($2::text[] is null or key = any ($2))
        and ($3::text is null or state = $3)
) as chosen
group by chosen.object, chosen.state
order by chosen.object, chosen.state
