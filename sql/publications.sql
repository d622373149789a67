-- Publications that carry tables of schema schoolbell to subscribers, or would as soon as there are any, and what it
-- takes to publish everything else as before. $1: the publications that name our schema (sql/publications_schema.sql).
select
    p.pubname::pg_catalog.text as name,
    p.puballtables as all_tables,
    p.pubname::pg_catalog.text = any ($1) as our_schema,
    ours.tables as our_tables,
    -- Its settings, to create the new one with the same.
    pg_catalog.concat_ws(
        ', ',
        case when p.pubinsert then 'insert' end,
        case when p.pubupdate then 'update' end,
        case when p.pubdelete then 'delete' end,
        case when p.pubtruncate then 'truncate' end
    ) as operations,
    p.pubviaroot as via_root,
    -- Since PostgreSQL 18.
    coalesce(pg_catalog.to_jsonb(p) operator(pg_catalog.->>) 'pubgencols', 'n') = 's' as stored_columns,
    -- Of a publication for all tables: the schemas that have tables, and the tables, without ours.
    others.schemas as other_schemas,
    others.tables as other_tables
from pg_catalog.pg_publication p
cross join lateral (
    select coalesce(pg_catalog.array_agg(c.relname::pg_catalog.text order by c.relname), '{}') as tables
    from pg_catalog.pg_publication_rel r
    join pg_catalog.pg_class c on c.oid = r.prrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where r.prpubid = p.oid
        and n.nspname = 'schoolbell'
) as ours
cross join lateral (
    select
        coalesce(pg_catalog.array_agg(distinct t.schemaname::pg_catalog.text), '{}') as schemas,
        coalesce(
            pg_catalog.array_agg(pg_catalog.format('%I.%I', t.schemaname, t.tablename)
                order by t.schemaname, t.tablename),
            '{}'
        ) as tables
    from pg_catalog.pg_publication_tables t
    where p.puballtables
        and t.pubname = p.pubname
        and t.schemaname operator(pg_catalog.<>) 'schoolbell'
) as others
where p.puballtables
    or p.pubname::pg_catalog.text = any ($1)
    or pg_catalog.cardinality(ours.tables) operator(pg_catalog.>) 0
order by p.pubname
