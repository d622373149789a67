-- A human has dismissed the failure of a resync. $1: job.
update schoolbell.resync
set dismissed_at = pg_catalog.clock_timestamp()
where id = $1
    and state = 'failed'
