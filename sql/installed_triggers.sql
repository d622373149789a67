-- Our triggers on any table, with what was noted when they were created (see triggers/seal.sql),
-- the same for their present state, and who owns their functions. Those of partitions are clones of
-- their parent's, which counts as enabled only if each of them is.
select
    n.nspname as schema,
    c.relname as table,
    t.tgname as trigger,
    coalesce(
        (
            select pg_catalog.min(clone.tgenabled::text)
            from pg_catalog.pg_trigger clone
            where clone.tgfoid = t.tgfoid
                and clone.tgname = t.tgname
                and clone.tgparentid <> 0
                and clone.tgenabled <> t.tgenabled
        ),
        t.tgenabled::text
    ) as enabled,
    -- It must run with the rights of the captured table's owner, who may be another role than a
    -- partition's, and nobody else may attach or call it.
    p.proowner <> (
        select root.relowner
        from pg_catalog.pg_class root
        where root.oid = coalesce(pg_catalog.pg_partition_root(c.oid)::pg_catalog.oid, c.oid)
    ) as foreign_owner,
    exists (
        select
        from pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) as a
        where a.grantee <> p.proowner
    ) as open_to_others,
    pg_catalog.obj_description(t.oid, 'pg_trigger') as comment,
    -- Both functions look at the catalogue of this moment: null when somebody has just dropped it.
    coalesce(
        pg_catalog.md5(pg_catalog.pg_get_triggerdef(t.oid) || pg_catalog.pg_get_functiondef(t.tgfoid)),
        ''
    ) as made
from pg_catalog.pg_trigger t
join pg_catalog.pg_class c on c.oid = t.tgrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_proc p on p.oid = t.tgfoid
join pg_catalog.pg_namespace pn on pn.oid = p.pronamespace
where pn.nspname = 'schoolbell'
    and t.tgparentid = 0
