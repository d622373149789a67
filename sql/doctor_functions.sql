-- The functions that Heroku Connect's triggers call without a schema: where they are, and whether a
-- session finds them on the database's own search path. That path decides nothing else here, so
-- every name and operator has its schema.
select
    pg_catalog.to_regprocedure('get_xmlbinary()') is not null as finds_get_xmlbinary,
    pg_catalog.to_regprocedure('hstore(record)') is not null as finds_hstore,
    (
        select pg_catalog.array_agg(distinct n.nspname::pg_catalog.text)
        from pg_catalog.pg_proc p
        join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) p.pronamespace
        where p.proname operator(pg_catalog.=) 'get_xmlbinary'
            and p.pronargs operator(pg_catalog.=) 0::pg_catalog.int2
    ) as get_xmlbinary_in,
    (
        select n.nspname::pg_catalog.text
        from pg_catalog.pg_extension e
        join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) e.extnamespace
        where e.extname operator(pg_catalog.=) 'hstore'
    ) as hstore_in
