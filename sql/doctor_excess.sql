-- Rights on tables that this session's role has by a grant, and to which role that grant was made.
-- $1: schemas, $2: tables. What comes with owning a table cannot be taken away from its owner, so
-- it is left out.
select
    n.nspname::text as schema,
    c.relname::text as name,
    lower(a.privilege_type) as privilege,
    r.rolname::text as grantee
from unnest($1::text[], $2::text[]) as t (schema, name)
join pg_catalog.pg_namespace n on n.nspname = t.schema
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.name
cross join lateral pg_catalog.aclexplode(c.relacl) as a
left join pg_catalog.pg_roles r on r.oid = a.grantee
where (a.grantee = 0 or pg_catalog.pg_has_role(a.grantee, 'member'))
    and not pg_catalog.pg_has_role(c.relowner, 'usage')
order by 1, 2, 3, 4
