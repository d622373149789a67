-- The writer has another mapping than the one that this resync was asked for with. $1: job.
update schoolbell.resync
set passed_over_at = pg_catalog.clock_timestamp()
where id = $1
    -- Not if it was released meanwhile.
    and mapping is not null
