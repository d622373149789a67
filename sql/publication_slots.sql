-- The logical slots of this database, and so its possible subscribers.
select s.slot_name::pg_catalog.text as name
from pg_catalog.pg_replication_slots s
where s.slot_type = 'logical'
    and s.database = pg_catalog.current_database()
order by s.slot_name
