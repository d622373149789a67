-- Who holds an advisory lock in this database. $1: the lock's upper, $2: its lower 32 bits.
select
    l.pid,
    coalesce(r.rolname, x.owner)::text as role,
    x.gid,
    a.application_name,
    pg_catalog.host(a.client_addr) as client,
    a.backend_start,
    -- For the queries that decide whether it may.
    a.usesysid,
    l.mode,
    l.virtualtransaction
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
order by l.pid
