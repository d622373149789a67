-- Capture for {table}: one change per row, and a ring only when somebody is asleep.
--
-- Per row, not per statement: a logical replication apply worker fires row triggers only.
-- Only keys are stored. The row itself is read when it is applied, so two quick changes become one
-- write, and no personal data sits in the outbox.
-- The columns are compared here and not in a `when` of the trigger: every statement would parse that again, which
-- costs one that changes a single row more than all the rest.
-- Runs with the rights of its owner, who is the table's, so that no application role needs a grant. Every name and
-- operator is qualified, so that no search path can change what it does (`set search_path` would cost writers 8 %). No
-- operator and no cast of a column's type is used, because the type's owner can make these: columns are compared by
-- their images, and keys are written by the output functions of their types.
create or replace function schoolbell.{function}() returns trigger
language plpgsql security definer{settings} as $schoolbell$
declare
    moved boolean := false;
    for_all boolean := false;
{declared}begin
    -- A table of another name is a partition of the captured one, its child, or this one renamed. On any other table of
    -- somebody else's it does nothing, or he could record what he likes. Two steps: a condition with a query in it is no
    -- simple expression, and every row would pay for that.
    if tg_table_name operator(pg_catalog.<>) {name} or tg_table_schema operator(pg_catalog.<>) {schema} then
        if not exists (
            select
            from pg_catalog.pg_class as c
            join pg_catalog.pg_namespace as n on n.oid operator(pg_catalog.=) c.relnamespace
            where c.oid operator(pg_catalog.=)
                    coalesce(pg_catalog.pg_partition_root(tg_relid)::pg_catalog.oid, tg_relid)
                and (
                    (c.relname operator(pg_catalog.=) {name} and n.nspname operator(pg_catalog.=) {schema})
                    or pg_catalog.pg_get_userbyid(c.relowner) operator(pg_catalog.=) current_user
                )
        ) then
            return null;
        end if;
    end if;
    if tg_op operator(pg_catalog.=) 'UPDATE' then
        begin
            moved := {moved};
            for_all := moved{shared};
{narrowed}        exception when others then
            -- A column was renamed, dropped, or has another type. `schoolbell migrate` fixes that; until then every
            -- update counts as one that matters, and none fails.
            for_all := true;
        end;
        -- A row that got another key is found by its former one, too.
        if moved then
            insert into schoolbell.change (source_table, concerns, operation, keys)
            values ({table_literal}, {concerns}, tg_op, {old_keys});
        end if;
        if for_all then
            insert into schoolbell.change (source_table, concerns, operation, keys)
            values ({table_literal}, {concerns}, tg_op, {new_keys});
        end if;
{for_one}    elsif tg_op operator(pg_catalog.=) 'INSERT' then
        insert into schoolbell.change (source_table, concerns, operation, keys)
        values ({table_literal}, {concerns}, tg_op, {new_keys});
    elsif tg_op operator(pg_catalog.=) 'DELETE' then
        insert into schoolbell.change (source_table, concerns, operation, keys)
        values ({table_literal}, {concerns}, tg_op, {old_keys});
    else
        insert into schoolbell.change (source_table, concerns, operation)
        values ({table_literal}, {concerns}, tg_op);
    end if;
{ring}    return null;
end
$schoolbell$
