-- One page of a resync is done. $1: job, $2: where the next page begins (null: unchanged), $3 to $10: what came of
-- it, $11: that was the last page. A job that has failed meanwhile stays so.
update schoolbell.resync
set position = coalesce($2, position),
    done = done + $3,
    written = written + $4,
    equal = equal + $5,
    waiting = waiting + $6,
    retrying = retrying + $7,
    dead = dead + $8,
    deleted = deleted + $9,
    kept = kept + $10,
    passed_over_at = null,
    started_at = coalesce(started_at, pg_catalog.clock_timestamp()),
    state = case when $11 then 'done' else 'running' end,
    finished_at = case when $11 then pg_catalog.clock_timestamp() end
where id = $1
    and state in ('queued', 'running')
