-- Resyncs for a report: those asked for by id, or ($1 null) those that are not finished.
select
    id,
    object,
    state,
    walk,
    total,
    done,
    written,
    equal,
    waiting,
    retrying,
    dead,
    deleted,
    kept,
    created_at,
    started_at,
    finished_at,
    passed_over_at,
    reason
from schoolbell.resync
where case when $1::int8[] is null then state in ('queued', 'running') else id = any ($1) end
order by id
