-- The function of extension hstore that makes an hstore of a row, and how many others share its name and place.
select
    pg_catalog.format('%I.%I', n.nspname, 'hstore') as hstore,
    (
        select count(*)
        from pg_catalog.pg_proc p
        where p.pronamespace = n.oid
            and p.proname = 'hstore'
            and not exists (
                select
                from pg_catalog.pg_depend d
                where d.classid = 'pg_catalog.pg_proc'::regclass
                    and d.objid = p.oid
                    and d.refclassid = 'pg_catalog.pg_extension'::regclass
                    and d.refobjid = e.oid
                    and d.deptype = 'e'
            )
    ) as others
from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'hstore'
