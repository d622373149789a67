-- What a captured table was when the service looked last: rows come, go and change with it, and no trigger tells.
create table schoolbell.shape (
    source_table text primary key,
    -- Columns that matter, partitions and children, triggers of ours; each with a mark that changes with it.
    shape jsonb not null,
    seen_at timestamptz not null default pg_catalog.clock_timestamp()
);

comment on table schoolbell.shape is
    'What captured tables were when the service looked last: a change of that is answered with a replay.';

do $schoolbell$
declare
    given record;
begin
    -- Whoever has rights on the pairing has the same on this.
    for given in
        select
            case a.grantee when 0 then 'public' else a.grantee::pg_catalog.regrole::pg_catalog.text end as grantee,
            a.privilege_type as privilege
        from pg_catalog.pg_class c
        cross join lateral pg_catalog.aclexplode(c.relacl) as a
        where c.oid = pg_catalog.to_regclass('schoolbell.pairing')
            and a.grantee <> c.relowner
    loop
        execute pg_catalog.format('grant %s on schoolbell.shape to %s', given.privilege, given.grantee);
    end loop;
end
$schoolbell$;
