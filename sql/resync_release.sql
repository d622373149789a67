-- Resyncs that were asked for with another mapping than the one that is migrated now are from now
-- on for whichever mapping the writer has.
update schoolbell.resync
set mapping = null,
    passed_over_at = null
where state in ('queued', 'running')
    and mapping <> all ({fingerprints})
