-- The tables that hold rows of one table: its partitions and its children by inheritance, of every level.
-- $1: schema, $2: table.
with recursive parts as (
    select i.inhrelid as oid
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhparent
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1
        and c.relname = $2
    union
    select i.inhrelid
    from parts p
    join pg_catalog.pg_inherits i on i.inhparent = p.oid
)
select
    n.nspname as schema,
    c.relname as table,
    c.relispartition as is_partition,
    c.relkind in ('r', 'p') as has_triggers,
    pg_catalog.pg_get_userbyid(c.relowner) as owner,
    c.relowner = root.relowner as same_owner
from parts p
join pg_catalog.pg_class c on c.oid = p.oid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
cross join (
    select c.relowner
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1
        and c.relname = $2
) as root
order by n.nspname, c.relname
