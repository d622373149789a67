-- Of the sessions that hold the doorbell's lock (lock_holders.sql): those that should not.
--
-- It is held shared by transactions that have written a change: these have a lock on the outbox,
-- which only a role that may write it can get. It is held exclusively by the listener, whose role
-- empties the outbox and parks keys.
select h.*
from holder h
where not (
        h.mode = 'ExclusiveLock'
        and h.application_name like 'schoolbell %'
        and coalesce(
            pg_catalog.has_table_privilege(h.usesysid, pg_catalog.to_regclass('schoolbell.change')::oid, 'delete')
            -- A service that lacks one right is still no stranger.
            or pg_catalog.has_table_privilege(h.usesysid, pg_catalog.to_regclass('schoolbell.parked')::oid, 'insert'),
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
            and c.virtualtransaction = h.virtualtransaction
    )
order by h.pid
