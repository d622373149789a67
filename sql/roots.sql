-- The tables, and for a partition the table that it is part of. $1, $2: schemas and names.
select distinct
    n.nspname::text as schema,
    root.relname::text as table
from unnest($1::text[], $2::text[]) as named (schema, name)
join pg_catalog.pg_namespace as own on own.nspname = named.schema
join pg_catalog.pg_class as c on c.relnamespace = own.oid and c.relname = named.name
join pg_catalog.pg_class as root on root.oid = coalesce(pg_catalog.pg_partition_root(c.oid)::oid, c.oid)
join pg_catalog.pg_namespace as n on n.oid = root.relnamespace
