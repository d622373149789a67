-- Who holds the writer's lock in this database. $1: the lock's upper, $2: its lower 32 bits.
select
    a.pid,
    a.application_name,
    a.client_addr::text as client,
    a.backend_start
from pg_catalog.pg_locks l
left join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory'
    and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
    and l.classid = $1::int8::oid
    and l.objid = $2::int8::oid
    and l.objsubid = 1
    and l.granted
