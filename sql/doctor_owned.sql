-- Which of these tables belong to this session's role, for people. $1: schemas, $2: tables.
select
    string_agg(distinct c.relname::text, ', ') as owned
from unnest($1::text[], $2::text[]) as t (schema, name)
join pg_catalog.pg_namespace n on n.nspname = t.schema
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.name
where pg_catalog.pg_has_role(c.relowner, 'usage')
