-- Replication slots that keep dead rows from being removed although nobody uses them.
select
    s.slot_name::text as name
from pg_catalog.pg_replication_slots s
where s.xmin is not null
    and not s.active
order by s.slot_name
