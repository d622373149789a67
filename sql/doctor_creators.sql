-- Who else may create in the schemas of a search path, and so put operators and functions there that are taken for
-- others. $1: the schemas. A superuser can do everything anyhow; the role itself, the owner of the database and of the
-- schema, and of the mapped tables ($2, $3: their schemas and names) have no need to.
with trusted as (
    select r.oid
    from pg_catalog.pg_roles r
    where r.rolsuper
        or r.rolname = current_user
    union
    select d.datdba
    from pg_catalog.pg_database d
    where d.datname = pg_catalog.current_database()
    union
    select c.relowner
    from unnest($2::text[], $3::text[]) as t (schema, name)
    join pg_catalog.pg_namespace n on n.nspname = t.schema
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.name
)
select
    n.nspname::text as schema,
    r.rolname::text as grantee
from unnest($1::text[]) as path (schema)
join pg_catalog.pg_namespace n on n.nspname = path.schema
cross join lateral pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) as a
left join pg_catalog.pg_roles r on r.oid = a.grantee
where a.privilege_type = 'CREATE'
    and a.grantee <> n.nspowner
    and a.grantee not in (select t.oid from trusted t)
order by 1, 2
