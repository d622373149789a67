-- Rights on schema schoolbell and its contents that only its owners should have.
--
-- A role that may create in the schema, or triggers on its tables, gets its code run with the
-- owner's rights. One that may insert or update changes can forge them; one that may truncate or
-- delete them can lose them. Functions are for the triggers alone, and what `migrate` notes is for
-- those who migrate.
with ours as (
    select n.oid, n.nspowner, n.nspacl
    from pg_catalog.pg_namespace n
    where n.nspname = 'schoolbell'
), rights as (
    select 'schema schoolbell' as thing, a.privilege_type, a.grantee, 'schema' as kind, false as outbox
    from ours
    cross join lateral pg_catalog.aclexplode(ours.nspacl) as a
    where a.grantee <> ours.nspowner
    union all
    select
        pg_catalog.format('schoolbell.%I', c.relname),
        a.privilege_type,
        a.grantee,
        'table',
        -- Tables that only the owners write.
        c.relname in ('change', 'installation', 'mapping', 'refinery_schema_history')
    from ours
    join pg_catalog.pg_class c on c.relnamespace = ours.oid and c.relkind in ('r', 'p')
    cross join lateral pg_catalog.aclexplode(c.relacl) as a
    where a.grantee <> c.relowner
        -- The owners of captured tables write the outbox: their triggers run with their rights.
        and not exists (
            select
            from pg_catalog.pg_proc p
            where p.pronamespace = ours.oid
                and p.proowner = a.grantee
        )
    union all
    -- The same of single columns.
    select
        pg_catalog.format('schoolbell.%I', c.relname),
        pg_catalog.format('%s (%I)', a.privilege_type, t.attname),
        a.grantee,
        'column',
        c.relname in ('change', 'installation', 'mapping', 'refinery_schema_history')
    from ours
    join pg_catalog.pg_class c on c.relnamespace = ours.oid and c.relkind in ('r', 'p')
    join pg_catalog.pg_attribute t on t.attrelid = c.oid
    cross join lateral pg_catalog.aclexplode(t.attacl) as a
    where a.grantee <> c.relowner
        and a.privilege_type <> 'SELECT'
    union all
    -- An identity column needs no right on its sequence; a role that has one can stop the writers
    -- with it.
    select
        pg_catalog.format('sequence schoolbell.%I', c.relname),
        a.privilege_type,
        a.grantee,
        'sequence',
        false
    from ours
    join pg_catalog.pg_class c on c.relnamespace = ours.oid and c.relkind = 'S'
    cross join lateral pg_catalog.aclexplode(c.relacl) as a
    where a.grantee <> c.relowner
    union all
    select
        pg_catalog.format('function %s', p.oid::regprocedure),
        a.privilege_type,
        a.grantee,
        'function',
        false
    from ours
    join pg_catalog.pg_proc p on p.pronamespace = ours.oid
    cross join lateral pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) as a
    where a.grantee <> p.proowner
)
select
    t.thing,
    lower(t.privilege_type) as privilege,
    r.rolname::text as grantee
from rights t
left join pg_catalog.pg_roles r on r.oid = t.grantee
-- The role that may delete from the outbox is the service: this role if it may, otherwise any other that may.
cross join (
    select
        coalesce(array_agg(e.grantee) filter (where e.is_this_role), array_agg(e.grantee)) as roles
    from (
        select distinct
            e.grantee,
            e.grantee = (select oid from pg_catalog.pg_roles where rolname = current_user) as is_this_role
        from rights e
        where e.thing = 'schoolbell.change'
            and e.privilege_type = 'DELETE'
    ) as e
) as service
where (r.rolsuper is null or not r.rolsuper)
    and case t.kind
        when 'schema' then t.privilege_type = 'CREATE'
        when 'function' then true
        when 'sequence' then true
        when 'column' then t.outbox or t.privilege_type like 'REFERENCES%'
        else t.privilege_type in ('TRIGGER', 'REFERENCES', 'TRUNCATE', 'MAINTAIN')
            or t.outbox and t.privilege_type in ('INSERT', 'UPDATE')
            or t.outbox
                and t.privilege_type = 'DELETE'
                and (
                    t.thing <> 'schoolbell.change'
                    or cardinality(service.roles) > 1
                    or t.grantee <> all (service.roles)
                )
            -- Only the service writes these.
            or t.thing in ('schoolbell.parked', 'schoolbell.resync', 'schoolbell.verified', 'schoolbell.deletion', 'schoolbell.pairing', 'schoolbell.shape')
                and t.privilege_type in ('INSERT', 'UPDATE', 'DELETE')
                and t.grantee <> all (service.roles)
            -- Any role may be allowed to see keys, or to make them due.
            or t.grantee = 0
    end
order by 1, 2, 3
