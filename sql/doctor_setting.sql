-- A setting of this session, and where it comes from. $1: its name.
select
    setting,
    source
from pg_catalog.pg_settings
where name = $1
