-- How the outbox is kept small.
select
    pg_catalog.current_setting('autovacuum') = 'on' and pg_catalog.current_setting('track_counts') = 'on' as server_on,
    coalesce('autovacuum_enabled=false' = any (c.reloptions), false) as table_off,
    coalesce(s.n_live_tup, 0) as live,
    coalesce(s.n_dead_tup, 0) as dead,
    s.last_autovacuum,
    pg_catalog.pg_total_relation_size(c.oid) as bytes
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid
where n.nspname = 'schoolbell'
    and c.relname = 'change'
