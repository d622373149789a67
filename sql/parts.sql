-- The parts of a table (parts_of.sql), and whether a trigger of ours can see their changes.
select
    n.nspname as schema,
    c.relname as table,
    c.relispartition as is_partition,
    c.relkind in ('r', 'p') as has_triggers,
    c.relpersistence = 'u' as is_unlogged,
    pg_catalog.pg_get_userbyid(c.relowner) as owner,
    c.relowner = root.relowner as same_owner
from parts p
join pg_catalog.pg_class c on c.oid = p.oid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
cross join root
order by n.nspname, c.relname
