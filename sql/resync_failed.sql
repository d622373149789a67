-- Resyncs that have failed, and were neither repeated (by one of at least the same rows) nor dismissed.
select
    f.id
from schoolbell.resync as f
where f.state = 'failed'
    and f.dismissed_at is null
    and not exists (
        select
        from schoolbell.resync as later
        where later.id > f.id
            and later.object = f.object
            and later.walk = f.walk
            and (later.only_keys is null or later.only_keys = f.only_keys)
            and (later.since is null or later.since <= f.since)
            and (not later.only_missing or f.only_missing)
            and (later.write_limit is null or later.write_limit >= f.write_limit)
    )
order by f.id
