-- Who wants a replay decides when its turn is and what becomes of it where a row refuses it.
alter table schoolbell.resync
    -- Somebody asked for it, by a command. Otherwise it stands for changes that were acknowledged already: it goes first,
    -- and no error ends it.
    add column asked boolean not null default false,
    -- Keys that were refused for now, and are tried again.
    add column retrying bigint not null default 0,
    -- When somebody has said that its failure is of no interest any more.
    add column dismissed_at timestamptz;

-- One without a mapping may have been released from it. To take it for one that stands for changes loses nothing.
update schoolbell.resync
set asked = true
where mapping is not null;

-- What a comparison finds is in flight while such a replay is not finished: whoever may compare may see that.
do $schoolbell$
declare
    given record;
begin
    for given in
        select distinct
            case a.grantee when 0 then 'public' else a.grantee::pg_catalog.regrole::pg_catalog.text end as grantee
        from pg_catalog.pg_class c
        cross join lateral pg_catalog.aclexplode(c.relacl) as a
        where c.oid = pg_catalog.to_regclass('schoolbell.parked')
            and a.privilege_type = 'SELECT'
            and a.grantee <> c.relowner
    loop
        execute pg_catalog.format('grant select on schoolbell.resync to %s', given.grantee);
    end loop;
end
$schoolbell$;
