-- The sequences from which the defaults of these tables' columns take their values. $1: schemas, $2: tables.
select distinct
    sn.nspname::text as schema,
    s.relname::text as name
from unnest($1::text[], $2::text[]) as t (schema, name)
join pg_catalog.pg_namespace n on n.nspname = t.schema
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.name
join pg_catalog.pg_attrdef d on d.adrelid = c.oid
join pg_catalog.pg_depend dep on dep.classid = 'pg_catalog.pg_attrdef'::regclass
    and dep.objid = d.oid
    and dep.refclassid = 'pg_catalog.pg_class'::regclass
join pg_catalog.pg_class s on s.oid = dep.refobjid and s.relkind = 'S'
join pg_catalog.pg_namespace sn on sn.oid = s.relnamespace
order by 1, 2
