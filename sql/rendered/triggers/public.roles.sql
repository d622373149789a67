-- What `schoolbell migrate` installs on public.roles.

-- Capture for public.roles: one change per row, and a ring only when somebody is asleep.
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
create or replace function schoolbell."capture_public_roles"() returns trigger
language plpgsql security definer as $schoolbell$
declare
    moved boolean := false;
    for_all boolean := false;
begin
    -- A table of another name is a partition of the captured one, its child, or this one renamed. On any other table of
    -- somebody else's it does nothing, or he could record what he likes. Two steps: a condition with a query in it is no
    -- simple expression, and every row would pay for that.
    if tg_table_name operator(pg_catalog.<>) 'roles' or tg_table_schema operator(pg_catalog.<>) 'public' then
        if not exists (
            select
            from pg_catalog.pg_class as c
            join pg_catalog.pg_namespace as n on n.oid operator(pg_catalog.=) c.relnamespace
            where c.oid operator(pg_catalog.=)
                    coalesce(pg_catalog.pg_partition_root(tg_relid)::pg_catalog.oid, tg_relid)
                and (
                    (c.relname operator(pg_catalog.=) 'roles' and n.nspname operator(pg_catalog.=) 'public')
                    or pg_catalog.pg_get_userbyid(c.relowner) operator(pg_catalog.=) current_user
                )
        ) then
            return null;
        end if;
    end if;
    if tg_op operator(pg_catalog.=) 'UPDATE' then
        begin
            moved := pg_catalog.record_image_ne(
                row(old."id"),
                row(new."id"));
            for_all := moved or pg_catalog.record_image_ne(
                row(old."user_id", old."school_id", old."role", old."created_at", old."updated_at"),
                row(new."user_id", new."school_id", new."role", new."created_at", new."updated_at"));
            if not for_all then
                return null;
            end if;
        exception when others then
            -- A column was renamed, dropped, or has another type. `schoolbell migrate` fixes that; until then every
            -- update counts as one that matters, and none fails.
            for_all := true;
        end;
        -- A row that got another key is found by its former one, too.
        if moved then
            insert into schoolbell.change (source_table, concerns, operation, keys)
            values ('public.roles', null, tg_op, pg_catalog.jsonb_build_object('id', case when old."id" is not null then pg_catalog.format('%s', old."id") end));
        end if;
        if for_all then
            insert into schoolbell.change (source_table, concerns, operation, keys)
            values ('public.roles', null, tg_op, pg_catalog.jsonb_build_object('id', case when new."id" is not null then pg_catalog.format('%s', new."id") end));
        end if;
    elsif tg_op operator(pg_catalog.=) 'INSERT' then
        insert into schoolbell.change (source_table, concerns, operation, keys)
        values ('public.roles', null, tg_op, pg_catalog.jsonb_build_object('id', case when new."id" is not null then pg_catalog.format('%s', new."id") end));
    elsif tg_op operator(pg_catalog.=) 'DELETE' then
        insert into schoolbell.change (source_table, concerns, operation, keys)
        values ('public.roles', null, tg_op, pg_catalog.jsonb_build_object('id', case when old."id" is not null then pg_catalog.format('%s', old."id") end));
    else
        insert into schoolbell.change (source_table, concerns, operation)
        values ('public.roles', null, tg_op);
    end if;
    -- Whoever sleeps holds this lock exclusively. Getting it shared means: nobody to wake. One ring for a transaction
    -- is enough; a savepoint that is rolled back takes both back, the ring and the note of it.
    if not pg_catalog.pg_try_advisory_xact_lock_shared(5999718578004511820)
        and coalesce(pg_catalog.current_setting('schoolbell.rung', true), '') operator(pg_catalog.<>) 'public.roles'
    then
        -- A full queue of notices makes the writers' commits fail. The service looks by itself while it fills.
        if pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.5::pg_catalog.float8 then
            perform pg_catalog.pg_notify('schoolbell', pg_catalog.json_build_object('v', 1, 'table', 'public.roles'::pg_catalog.text, 'op', tg_op::pg_catalog.text, 'xact', pg_catalog.pg_current_xact_id()::pg_catalog.text, 'at', (pg_catalog.date_part('epoch', pg_catalog.statement_timestamp()) operator(pg_catalog.*) 1000000)::pg_catalog.int8)::pg_catalog.text);
        end if;
        perform pg_catalog.set_config('schoolbell.rung', 'public.roles', true);
    end if;
    return null;
end
$schoolbell$

create or replace trigger "schoolbell_insert"
    after insert on "public"."roles"
    for each row
    execute function schoolbell."capture_public_roles"()

create or replace trigger "schoolbell_update"
    after update on "public"."roles"
    for each row
    execute function schoolbell."capture_public_roles"()

create or replace trigger "schoolbell_delete"
    after delete on "public"."roles"
    for each row
    when (old."id" is not null or true)
    execute function schoolbell."capture_public_roles"()

create or replace trigger "schoolbell_truncate"
    after truncate on "public"."roles"
    for each statement
    execute function schoolbell."capture_public_roles"()
