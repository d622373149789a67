-- Who holds the doorbell's lock and has no business with it. $1: the lock's upper, $2: its lower 32 bits.
--
-- It is held shared by transactions that have written a change: these have a lock on the outbox, which nobody gets who
-- may not write it. It is held exclusively by the listener, whose role empties the outbox and parks keys.
select
    l.pid,
    coalesce(r.rolname, x.owner)::text as role,
    x.gid,
    a.application_name,
    pg_catalog.host(a.client_addr) as client,
    a.backend_start
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
    and not (
        l.mode = 'ExclusiveLock'
        and a.application_name like 'schoolbell %'
        and coalesce(
            pg_catalog.has_table_privilege(a.usesysid, pg_catalog.to_regclass('schoolbell.change')::oid, 'delete')
            -- One right that is missing makes the service no stranger.
            or pg_catalog.has_table_privilege(a.usesysid, pg_catalog.to_regclass('schoolbell.parked')::oid, 'insert'),
            false
        )
    )
    and not exists (
        select
        from pg_catalog.pg_locks c
        where c.locktype = 'relation'
            and c.relation = pg_catalog.to_regclass('schoolbell.change')::oid
            and c.mode = 'RowExclusiveLock'
            and c.granted
            -- A prepared transaction has no process.
            and c.virtualtransaction = l.virtualtransaction
    )
order by l.pid
