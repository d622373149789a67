-- Objects in schema schoolbell, and the schema itself, that belong to a role that should not own
-- them: one that is neither a superuser nor can act as the owner of a captured table. $1, $2:
-- schemas and names of the captured tables.
--
-- Objects of the bootstrap superuser have no row in pg_shdepend.
with recursive ours as (
    select pg_catalog.to_regnamespace('schoolbell')::oid as schema
), captured as (
    select c.oid, c.relowner
    from unnest($1::text[], $2::text[]) as t (schema, name)
    join pg_catalog.pg_namespace n on n.nspname = t.schema
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.name
), tree as (
    -- The captured tables with their partitions and children.
    select c.oid
    from captured c
    union
    select i.inhrelid
    from tree t
    join pg_catalog.pg_inherits i on i.inhparent = t.oid
), own as (
    select r.oid
    from pg_catalog.pg_roles r
    where r.rolsuper
        or exists (
            select
            from captured c
            where pg_catalog.pg_has_role(r.oid, c.relowner, 'member')
        )
), things as (
    select 'pg_catalog.pg_namespace'::regclass::oid as classid, ours.schema as objid
    from ours
    where ours.schema is not null
    union all
    select d.classid, d.objid
    from ours
    join pg_catalog.pg_depend d on d.refobjid = ours.schema
    where d.refclassid = 'pg_catalog.pg_namespace'::regclass
        -- A function that a trigger of these calls is written again, and given to the captured table's owner, or dropped.
        and not (
            d.classid = 'pg_catalog.pg_proc'::regclass
            and exists (
                select
                from pg_catalog.pg_trigger g
                join tree t on t.oid = g.tgrelid
                where g.tgfoid = d.objid
            )
        )
)
select
    pg_catalog.pg_describe_object(t.classid, t.objid, 0) as thing,
    r.rolname::text as owner
from things t
join pg_catalog.pg_shdepend s on s.classid = t.classid and s.objid = t.objid
join pg_catalog.pg_roles r on r.oid = s.refobjid
where s.dbid in (0, (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))
    and s.refclassid = 'pg_catalog.pg_authid'::regclass
    and s.deptype = 'o'
    and r.oid not in (select own.oid from own)
-- The schema first: it explains the rest.
order by t.classid <> 'pg_catalog.pg_namespace'::regclass, 1
