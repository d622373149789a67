-- What the server says of this session, and of its role. A pooler's connection to the server is not ours.
select
    r.rolname::text as role,
    pg_catalog.current_database()::text as database,
    pg_catalog.split_part(pg_catalog.current_setting('server_version'), ' ', 1) as version,
    pg_catalog.current_setting('server_version_num')::int4 / 10000 as major_version,
    pg_catalog.pg_is_in_recovery() as in_recovery,
    s.version as tls_version,
    s.cipher as tls_cipher,
    r.rolsuper as is_superuser,
    array_remove(
        array[
            case when r.rolsuper then 'superuser' end,
            case when r.rolcreatedb then 'createdb' end,
            case when r.rolcreaterole then 'createrole' end,
            case when r.rolreplication then 'replication' end,
            case when r.rolbypassrls then 'bypassrls' end
        ],
        null
    ) as attributes
from pg_catalog.pg_roles r
left join pg_catalog.pg_stat_ssl s on s.pid = pg_catalog.pg_backend_pid() and s.ssl
where r.rolname = current_user
