-- These tables as this session's role has them. $1: schemas, $2: tables.
select
    n.nspname::text as schema,
    c.relname::text as name,
    pg_catalog.pg_has_role(c.relowner, 'usage') as is_owner,
    c.relrowsecurity as has_policies,
    pg_catalog.row_security_active(c.oid) as hides_rows
from unnest($1::text[], $2::text[]) as t (schema, name)
join pg_catalog.pg_namespace n on n.nspname = t.schema
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.name
order by 1, 2
