-- Which of these rights this session's role has; null: it does not exist. By oid, not by name, so
-- that a schema without USAGE hides nothing. Arrays of the same length, $1: kind of thing, $2:
-- schema, $3: name, $4: column, $5: privilege.
select
    case w.kind
        when 'schema' then (
            select pg_catalog.has_schema_privilege(n.oid, w.privilege)
            from pg_catalog.pg_namespace n
            where n.nspname = w.schema
        )
        when 'sequence' then pg_catalog.has_sequence_privilege(c.oid, w.privilege)
        when 'column' then (
            select pg_catalog.has_column_privilege(c.oid, a.attnum, w.privilege)
            from pg_catalog.pg_attribute a
            where a.attrelid = c.oid
                and a.attname = w.column_name
                and not a.attisdropped
        )
        else pg_catalog.has_table_privilege(c.oid, w.privilege)
    end as held
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) with ordinality
    as w (kind, schema, name, column_name, privilege, place)
left join (
    select n.nspname, c.relname, c.oid
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
) as c on c.nspname = w.schema and c.relname = w.name
order by w.place
