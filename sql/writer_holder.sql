-- Who holds the writer's lock in this database, and whether his role may write the mapped tables.
-- $1: the lock's upper, $2: its lower 32 bits. $3, $4: schemas and names of the tables, $5: whether rows are inserted.
select
    a.pid,
    coalesce(r.rolname, x.owner)::text as role,
    x.gid,
    a.application_name,
    pg_catalog.host(a.client_addr) as client,
    a.backend_start,
    -- Where none of the tables is there, nobody can tell.
    coalesce(
        (
            select bool_and(
                pg_catalog.has_any_column_privilege(a.usesysid, c.oid, 'update')
                and (not t.inserted or pg_catalog.has_any_column_privilege(a.usesysid, c.oid, 'insert'))
            )
            from unnest($3::text[], $4::text[], $5::boolean[]) as t (schema, name, inserted)
            join pg_catalog.pg_namespace n on n.nspname = t.schema
            join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.name
        ),
        true
    ) as may_write
from pg_catalog.pg_locks l
left join pg_catalog.pg_stat_activity a on a.pid = l.pid
left join pg_catalog.pg_roles r on r.oid = a.usesysid
-- A prepared transaction has no process.
left join pg_catalog.pg_locks own
    on l.pid is null and own.virtualtransaction = l.virtualtransaction and own.locktype = 'transactionid'
left join pg_catalog.pg_prepared_xacts x on x.transaction = own.transactionid
where l.locktype = 'advisory'
    and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
    and l.classid = $1::int8::oid
    and l.objid = $2::int8::oid
    and l.objsubid = 1
    and l.granted
