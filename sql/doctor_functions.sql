-- What Heroku Connect's triggers call without naming a schema: where it is, and whether this session finds it.
select
    pg_catalog.to_regprocedure('get_xmlbinary()') is not null as finds_get_xmlbinary,
    pg_catalog.to_regprocedure('hstore(record)') is not null as finds_hstore,
    (
        select array_agg(distinct n.nspname::text)
        from pg_catalog.pg_proc p
        join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        where p.proname = 'get_xmlbinary'
            and p.pronargs = 0
    ) as get_xmlbinary_in,
    (
        select n.nspname::text
        from pg_catalog.pg_extension e
        join pg_catalog.pg_namespace n on n.oid = e.extnamespace
        where e.extname = 'hstore'
    ) as hstore_in
