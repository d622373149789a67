-- Settings of our sessions that the server, the database or the role sets to another value. $1:
-- their names.
select
    lower(name) as name,
    reset_val as value
from pg_catalog.pg_settings
where lower(name) = any ($1)
    and reset_val <> setting
    -- It is the default.
    and reset_val <> boot_val
order by name
