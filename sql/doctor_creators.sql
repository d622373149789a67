-- Which other roles may create in the schemas of a search path, and so put operators and functions
-- there that are used in place of others: by a right, or as the owner; and which may create such a
-- schema that does not exist yet. $1: the schemas, in the order of the path. A superuser can do
-- everything anyway; the role itself, the owner of the database and of the schema, and of the
-- mapped tables ($2, $3: their schemas and names) have no need to.
with trusted as (
    select r.oid
    from pg_catalog.pg_roles r
    where r.rolsuper
        or r.rolname = current_user
        -- The owner of the database is its only member.
        or r.rolname = 'pg_database_owner'
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
    r.rolname::text as grantee,
    'create' as how
from unnest($1::text[]) as path (schema)
join pg_catalog.pg_namespace n on n.nspname = path.schema
cross join lateral pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) as a
left join pg_catalog.pg_roles r on r.oid = a.grantee
where a.privilege_type = 'CREATE'
    and a.grantee <> n.nspowner
    and a.grantee not in (select t.oid from trusted t)
union
select
    n.nspname::text,
    r.rolname::text,
    'owner'
from unnest($1::text[]) as path (schema)
join pg_catalog.pg_namespace n on n.nspname = path.schema
join pg_catalog.pg_roles r on r.oid = n.nspowner
where n.nspowner not in (select t.oid from trusted t)
union
select
    path.schema,
    r.rolname::text,
    'database'
from unnest($1::text[]) as path (schema)
join pg_catalog.pg_database d on d.datname = pg_catalog.current_database()
cross join lateral pg_catalog.aclexplode(d.datacl) as a
left join pg_catalog.pg_roles r on r.oid = a.grantee
where a.privilege_type = 'CREATE'
    and a.grantee not in (select t.oid from trusted t)
    and not exists (
        select
        from pg_catalog.pg_namespace n
        where n.nspname = path.schema
    )
order by 1, 2, 3
