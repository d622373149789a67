-- Who holds a lock on a table, longest first, without the text of their queries. $1: the table, quoted.
select
    pg_catalog.format(
        'process %s (%s, %s for %s)',
        a.pid,
        coalesce(nullif(a.application_name, ''), a.usename::text, a.backend_type),
        a.state,
        pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start)
    ) as blocker
from pg_catalog.pg_locks l
join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'relation'
    and l.relation = pg_catalog.to_regclass($1)
    and l.granted
    and l.pid <> pg_catalog.pg_backend_pid()
order by a.xact_start
limit 5
