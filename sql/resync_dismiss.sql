-- The failure of a resync is of no interest any more. $1: job.
update schoolbell.resync
set dismissed_at = pg_catalog.clock_timestamp()
where id = $1
    and state = 'failed'
