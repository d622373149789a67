-- Of those who hold the writer's lock (lock_holders.sql): whether theirs is a writer's role, which is
-- this session's own, or one that may write all mapped tables. The own role counts even where it
-- lacks a right: its service keeps working on everything else.
-- $3, $4: schemas and names of the tables, $5: whether rows are inserted.
select
    h.*,
    coalesce(h.role = session_user, false)
    -- If none of the tables exists, this cannot be decided.
    or coalesce(
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
