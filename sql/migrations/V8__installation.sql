-- What `migrate` has installed, beside the tables: read by the service and by reports.
create table schoolbell.installation (
    -- A single row.
    single boolean primary key default true check (single),
    -- When the triggers notify.
    notify_mode text not null check (notify_mode in ('always', 'doorbell', 'never'))
);

comment on table schoolbell.installation is
    'What migrate has installed beside the tables.';

do $schoolbell$
declare
    given record;
begin
    -- A function said it before. Its text is read: called, it would run with the rights of whoever migrates, and it may
    -- be somebody else's.
    insert into schoolbell.installation (notify_mode)
    select coalesce(pg_catalog.substring(p.prosrc, '\y(always|doorbell|never)\y'), 'doorbell')
    from pg_catalog.pg_proc p
    where p.oid = pg_catalog.to_regproc('schoolbell.notify_mode');
    drop function if exists schoolbell.notify_mode();
    -- Whoever may see the version of the schema may see this, too: a service that works goes on working.
    for given in
        select distinct
            case a.grantee when 0 then 'public' else a.grantee::pg_catalog.regrole::pg_catalog.text end as grantee
        from pg_catalog.pg_class c
        cross join lateral pg_catalog.aclexplode(c.relacl) as a
        where c.oid = pg_catalog.to_regclass('schoolbell.refinery_schema_history')
            and a.privilege_type = 'SELECT'
            and a.grantee <> c.relowner
    loop
        execute pg_catalog.format('grant select on schoolbell.installation to %s', given.grantee);
    end loop;
    -- Functions of the releases before could be executed by everybody. `migrate` renews them; until it has come that far
    -- they are closed.
    for given in
        select p.oid::pg_catalog.regprocedure as function
        from pg_catalog.pg_proc p
        where p.pronamespace = pg_catalog.to_regnamespace('schoolbell')
    loop
        execute pg_catalog.format('revoke all on function %s from public', given.function);
    end loop;
end
$schoolbell$;
