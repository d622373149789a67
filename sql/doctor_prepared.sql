-- Transactions of two-phase commit that are prepared in this database, the oldest first. $1: from
-- this many seconds on one is long.
select
    p.gid,
    p.owner::text as owner,
    p.prepared,
    p.prepared < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1::float8) as is_long
from pg_catalog.pg_prepared_xacts p
where p.database = pg_catalog.current_database()
order by p.prepared
