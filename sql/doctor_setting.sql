-- A setting of this session, and where it comes from. $1: its name. Some are read on the database's
-- own search path.
select
    setting,
    source
from pg_catalog.pg_settings
where name operator(pg_catalog.=) $1
