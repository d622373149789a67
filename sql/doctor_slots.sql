-- Replication slots, with what each of them keeps. Columns that not every version has are read by name.
select
    s.slot_name::pg_catalog.text as name,
    s.slot_type as kind,
    s.plugin::pg_catalog.text as plugin,
    s.database::pg_catalog.text as database,
    s.active,
    s.wal_status,
    pg_catalog.pg_wal_lsn_diff(
        case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
            else pg_catalog.pg_current_wal_lsn() end,
        s.restart_lsn
    )::pg_catalog.int8 as kept_bytes,
    pg_catalog.age(s.xmin) as rows_age,
    pg_catalog.age(s.catalog_xmin) as catalog_age,
    -- Since PostgreSQL 17.
    pg_catalog.to_jsonb(s) operator(pg_catalog.->>) 'invalidation_reason' as invalidation,
    (pg_catalog.to_jsonb(s) operator(pg_catalog.->>) 'inactive_since')::pg_catalog.timestamptz as inactive_since,
    -- Since PostgreSQL 16.
    coalesce((pg_catalog.to_jsonb(s) operator(pg_catalog.->>) 'conflicting')::pg_catalog.bool, false) as conflicting
from pg_catalog.pg_replication_slots s
order by s.slot_name
