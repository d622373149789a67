-- Common tables: a table (root), and those that hold rows of it: its partitions and its children by inheritance, of every
-- level (parts). $1: schema, $2: table.
with recursive root as (
    select c.oid, c.relowner
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1
        and c.relname = $2
), parts as (
    select i.inhrelid as oid
    from root r
    join pg_catalog.pg_inherits i on i.inhparent = r.oid
    union
    select i.inhrelid
    from parts p
    join pg_catalog.pg_inherits i on i.inhparent = p.oid
)
