-- Notes in each trigger's comment what it was rendered from and what Postgres made of that, so that a later
-- change of either is noticed: by another release, or by somebody's `create or replace`.
do $schoolbell$
declare
    noted text;
begin
    for noted in
        select pg_catalog.format(
            'comment on trigger %I on %s is %L',
            t.tgname,
            t.tgrelid::pg_catalog.regclass,
            pg_catalog.concat_ws(
                ' ',
                rendered.fingerprint,
                pg_catalog.md5(pg_catalog.pg_get_triggerdef(t.oid) || pg_catalog.pg_get_functiondef(t.tgfoid))
            )
        )
        from (values {fingerprints}) as rendered (trigger_name, fingerprint)
        join pg_catalog.pg_trigger t on t.tgname = rendered.trigger_name
        where t.tgrelid = {table}::pg_catalog.regclass
    loop
        execute noted;
    end loop;
end
$schoolbell$
