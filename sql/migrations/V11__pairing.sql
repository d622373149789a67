-- An outbox has one reader: two services with two targets would each get some of the changes. And a copy of the
-- application's database, with our schema in it, must not write to the target of the original.
create table schoolbell.pairing (
    -- A single row; none before the first service has worked.
    single boolean primary key default true check (single),
    -- Which database this was then: the cluster's own number, and the database's name.
    source_system text not null,
    source_database text not null,
    -- Which one it is applied to.
    target_system text not null,
    target_database text not null,
    -- Where that was reached, for people.
    target_address text not null,
    paired_at timestamptz not null default pg_catalog.clock_timestamp()
);

comment on table schoolbell.pairing is
    'Which database this is, and to which target its changes go. Another one needs: schoolbell adopt';

do $schoolbell$
declare
    given record;
begin
    -- Whoever empties the outbox is the service, and whoever sees parked keys reports: what worked goes on working.
    for given in
        select distinct
            case a.grantee when 0 then 'public' else a.grantee::pg_catalog.regrole::pg_catalog.text end as grantee,
            case a.privilege_type when 'DELETE' then 'select, insert, update' else 'select' end as rights
        from pg_catalog.pg_class c
        cross join lateral pg_catalog.aclexplode(c.relacl) as a
        where (c.oid = pg_catalog.to_regclass('schoolbell.change') and a.privilege_type = 'DELETE'
            or c.oid = pg_catalog.to_regclass('schoolbell.parked') and a.privilege_type = 'SELECT')
            and a.grantee <> c.relowner
            -- The owners of captured tables have every right on the outbox, for their triggers.
            and not exists (
                select
                from pg_catalog.pg_proc p
                where p.pronamespace = c.relnamespace
                    and p.proowner = a.grantee
            )
    loop
        execute pg_catalog.format('grant %s on schoolbell.pairing to %s', given.rights, given.grantee);
    end loop;
end
$schoolbell$;
