-- Leaves each capture function to the owner of the captured table, and to nobody else: it runs with its owner's rights,
-- and whoever could attach it to a table of his own, or call it, would have a share in these. Partitions may have other
-- owners, and use the function of the table that they are part of.
do $schoolbell$
declare
    capture record;
    given record;
    orphan regprocedure;
begin
    for capture in
        select p.oid::regprocedure as function, c.relowner as table_owner
        from unnest(array[{functions}]::text[], array[{tables}]::text[]) as ours (function_name, captured)
        join pg_class c on c.oid = ours.captured::regclass
        join pg_proc p on p.proname = ours.function_name
        where p.pronamespace = 'schoolbell'::regnamespace
            and p.proowner <> c.relowner
    loop
        execute format('grant usage on schema schoolbell to %s', capture.table_owner::regrole);
        execute format('grant insert on schoolbell.change to %s', capture.table_owner::regrole);
        if has_schema_privilege(capture.table_owner, 'schoolbell', 'create') then
            execute format('alter function %s owner to %s', capture.function, capture.table_owner::regrole);
        else
            -- Needed to be given a function, and for nothing else.
            execute format('grant create on schema schoolbell to %s', capture.table_owner::regrole);
            execute format('alter function %s owner to %s', capture.function, capture.table_owner::regrole);
            execute format('revoke create on schema schoolbell from %s', capture.table_owner::regrole);
        end if;
    end loop;
    for given in
        select
            p.oid::regprocedure as function,
            case a.grantee when 0 then 'public' else a.grantee::regrole::text end as grantee
        from pg_proc p
        cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
        where p.pronamespace = 'schoolbell'::regnamespace
            and a.grantee <> p.proowner
    loop
        execute format('revoke all on function %s from %s cascade', given.function, given.grantee);
    end loop;
    -- Functions of captures that are no longer needed.
    for orphan in
        select p.oid::regprocedure
        from pg_proc p
        where p.pronamespace = 'schoolbell'::regnamespace
            and p.prorettype = 'trigger'::regtype
            and not exists (
                select
                from pg_trigger t
                where t.tgfoid = p.oid
            )
    loop
        execute format('drop function %s', orphan);
    end loop;
end
$schoolbell$
