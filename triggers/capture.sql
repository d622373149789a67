-- Capture for {table}: one change per row, and a ring only when somebody is asleep.
--
-- Per row, not per statement: a logical replication apply worker fires row triggers only.
-- Only keys are stored. The row itself is read when it is applied, so two quick changes become one
-- write, and no personal data sits in the outbox.
-- The columns are compared here and not in a `when` of the trigger: every statement would parse that anew, which
-- costs one that changes a single row more than all the rest.
-- Runs with its owner's rights, so that no application role needs a grant; every name and operator is
-- qualified, so that no search path can change what it does (`set search_path` would cost writers 8 %).
create or replace function schoolbell.{function}() returns trigger
language plpgsql security definer as $schoolbell$
declare
    moved boolean := false;
    for_all boolean := false;
{declared}begin
    if tg_op operator(pg_catalog.=) 'UPDATE' then
        begin
            moved := {moved};
            for_all := moved{shared};
{narrowed}        exception when others then
            -- A column was renamed, dropped, or has another type. `schoolbell migrate` mends that; until then every
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
