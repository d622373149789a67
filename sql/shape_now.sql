-- What a captured table is now, with its parts (parts_of.sql). $3: the columns that matter.
--
-- A mark is the transaction that last wrote the catalogue's row: it changes with every `alter`,
-- even if the result looks the same, and does not when the table is vacuumed, clustered or
-- analysed.
select
    pg_catalog.jsonb_build_object(
        'columns',
        (
            select
                pg_catalog.jsonb_object_agg(
                    a.attname,
                    pg_catalog.concat_ws(
                        ' ',
                        a.xmin::text,
                        (
                            select e.xmin::text
                            from pg_catalog.pg_attrdef e
                            where a.attgenerated <> ''
                                and e.adrelid = a.attrelid
                                and e.adnum = a.attnum
                        ),
                        (
                            select pg_catalog.string_agg(e.enumlabel, ' ' order by e.enumsortorder)
                            from pg_catalog.pg_enum e
                            where e.enumtypid in (t.oid, t.typelem, t.typbasetype)
                        )
                    )
                )
            from pg_catalog.pg_attribute a
            join pg_catalog.pg_type t on t.oid = a.atttypid
            where a.attrelid = r.oid
                -- The columns that a virtual column is computed from are among the columns that
                -- matter; its expression is compared here.
                and (a.attname = any ($3::text[]) or a.attgenerated <> '')
                and not a.attisdropped
        ),
        -- A crash empties unlogged tables, and resets these statistics.
        'crash',
        (
            select pg_catalog.min(b.stats_reset)
            from pg_catalog.pg_class u
            cross join pg_catalog.pg_stat_bgwriter b
            where u.relpersistence = 'u'
                and (
                    u.oid = r.oid
                    or u.oid in (
                        select p.oid
                        from parts p
                    )
                )
        ),
        'parts',
        (
            select pg_catalog.jsonb_agg(p.oid::pg_catalog.int8 order by p.oid)
            from parts p
        ),
        'triggers',
        (
            select
                pg_catalog.jsonb_object_agg(
                    pg_catalog.format('%s %s', t.tgrelid, t.tgname),
                    pg_catalog.concat_ws(
                        ' ',
                        t.tgenabled,
                        t.xmin,
                        -- On a child by inheritance the trigger does nothing while the child
                        -- belongs to another role.
                        case
                            when p.proowner <> c.relowner and not c.relispartition and c.oid <> r.oid then 'silent'
                        end
                    )
                )
            from pg_catalog.pg_trigger t
            join pg_catalog.pg_class c on c.oid = t.tgrelid
            join pg_catalog.pg_proc p on p.oid = t.tgfoid
            join pg_catalog.pg_namespace n on n.oid = p.pronamespace
            where n.nspname = 'schoolbell'
                -- Those of a partition, too, which are clones of its parent's: they come and go with it.
                and (
                    t.tgrelid = r.oid
                    or t.tgrelid in (
                        select p.oid
                        from parts p
                    )
                )
        )
    ) as shape
from root r
