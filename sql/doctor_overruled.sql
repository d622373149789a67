-- Settings that our sessions have and that the server, the database or the role has otherwise. $1: their names.
select
    lower(name) as name,
    reset_val as value
from pg_catalog.pg_settings
where lower(name) = any ($1)
    and reset_val <> setting
    -- Nobody has set it.
    and reset_val <> boot_val
order by name
