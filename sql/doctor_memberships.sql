-- Roles that this session's role can act as, and that have more rights than we need.
select r.rolname::text as role
from pg_catalog.pg_roles r
where r.rolname <> current_user
    and pg_catalog.pg_has_role(r.oid, 'member')
    and (
        r.rolsuper
        or r.rolcreaterole
        or r.rolcreatedb
        or r.rolreplication
        -- Built-in roles, except those that only monitor the server.
        or r.rolname like 'pg\_%'
            and r.rolname not in (
                'pg_monitor', 'pg_read_all_settings', 'pg_read_all_stats', 'pg_stat_scan_tables', 'pg_database_owner'
            )
    )
order by 1
