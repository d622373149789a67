-- A resync cannot continue. $1: job, $2: why.
update schoolbell.resync
set state = 'failed',
    reason = $2,
    finished_at = pg_catalog.clock_timestamp()
where id = $1
    and state in ('queued', 'running')
