-- Capture for {table}: one change per row, and a ring only when somebody is asleep.
--
-- Per row, not per statement: a logical replication apply worker fires row triggers only.
-- Only keys are stored. The row itself is read when it is applied, so two quick changes become one
-- write, and no personal data sits in the outbox.
-- Runs with its owner's rights, so that no application role needs a grant; every name and operator is
-- qualified, so that no search path can change what it does (`set search_path` would cost writers 8 %).
create or replace function schoolbell.{function}() returns trigger
language plpgsql security definer as $schoolbell$
begin
    if tg_op operator(pg_catalog.=) 'TRUNCATE' then
        insert into schoolbell.change (source_table, concerns, operation)
        values ({table_literal}, {concerns}, tg_op);
    else
        -- A row that is gone, or got another key, is found by its former one.
        if tg_op operator(pg_catalog.=) 'DELETE' or tg_nargs operator(pg_catalog.>) 0 then
            insert into schoolbell.change (source_table, concerns, operation, keys)
            values ({table_literal}, {concerns}, tg_op, {old_keys});
        end if;
        if tg_op operator(pg_catalog.<>) 'DELETE' then
            insert into schoolbell.change (source_table, concerns, operation, keys)
            values ({table_literal}, {concerns}, tg_op, {new_keys});
        end if;
    end if;
{ring}    return null;
end
$schoolbell$
