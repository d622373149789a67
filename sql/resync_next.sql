-- The replay whose turn it is: jobs are carried out one after the other, so that parents come first.
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
    written
from schoolbell.resync
where state in ('queued', 'running')
order by id
limit 1
