-- The next resync: jobs are carried out one after the other, so that parents come first. One that
-- was asked for with another mapping is foreign, and is reported as such once. $1: the fingerprints
-- of this mapping's objects, $2: jobs that cannot continue at this moment.
select
    id,
    object,
    walk,
    only_keys,
    since,
    only_missing,
    write_limit,
    write_rate,
    position,
    written,
    coalesce(mapping <> all ($1::text[]), false) as foreign,
    not asked as own
from schoolbell.resync
where state in ('queued', 'running')
    and (mapping is null or mapping = any ($1::text[]) or passed_over_at is null)
    and id <> all ($2::int8[])
-- Those that replace changes come first: one that a human has asked for may have a rate limit and
-- take days.
order by asked, id
limit 1
