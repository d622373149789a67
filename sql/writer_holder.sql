-- Of those who hold the writer's lock (lock_holders.sql): whether their role may write the mapped tables.
-- $3, $4: schemas and names of the tables, $5: whether rows are inserted.
select
    h.*,
    -- If none of the tables exists, this cannot be decided.
    coalesce(
        (
            select bool_and(
                pg_catalog.has_any_column_privilege(h.usesysid, c.oid, 'update')
                and (not t.inserted or pg_catalog.has_any_column_privilege(h.usesysid, c.oid, 'insert'))
            )
            from unnest($3::text[], $4::text[], $5::boolean[]) as t (schema, name, inserted)
            join pg_catalog.pg_namespace n on n.nspname = t.schema
            join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.name
        ),
        true
    ) as may_write
from holder h
