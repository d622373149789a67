-- Heroku Connect's triggers on mapped tables, or the table alone where it has none. $1: schemas, $2: tables.
select distinct
    n.nspname::text as schema,
    c.relname::text as name,
    g.tgname::text as trigger,
    g.tgenabled::text as enabled,
    coalesce(g.tgname like '%logtrigger', false) as logs,
    coalesce(g.tgname like '%status\_trigger', false) as marks,
    coalesce(p.prosecdef, false) as runs_as_owner,
    l.oid is not null as has_log
from unnest($1::text[], $2::text[]) as t (schema, name)
join pg_catalog.pg_namespace n on n.nspname = t.schema
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.name
left join pg_catalog.pg_trigger g on g.tgrelid = c.oid
    and not g.tgisinternal
    and g.tgname like 'hc\_%'
left join pg_catalog.pg_proc p on p.oid = g.tgfoid
left join pg_catalog.pg_class l on l.relnamespace = n.oid and l.relname = '_trigger_log'
order by 1, 2, 3
