-- The longest transactions in this database, and how many sessions are out of sight. No text of a query: it may
-- hold what is in a row. $1: this many seconds or longer.
select
    a.pid,
    coalesce(a.usename::text, '') as role,
    coalesce(a.application_name, '') as program,
    coalesce(a.state, '') as state,
    a.xact_start,
    -- For a session that the role may not see, the query is a note that says so, and the transaction is null.
    coalesce(a.query = '<insufficient privilege>', false) as hidden
from pg_catalog.pg_stat_activity a
where a.datname = pg_catalog.current_database()
    and a.pid <> pg_catalog.pg_backend_pid()
    and (
        a.query = '<insufficient privilege>'
        or (
            a.backend_type = 'client backend'
            and a.xact_start < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1::float8)
        )
    )
order by a.xact_start nulls last
