-- Triggers, rules and policies on the tables of schema schoolbell. There are none of ours: their code would run with the rights
-- of whoever writes there, which are the owner's.
select
    pg_catalog.format('trigger %I on schoolbell.%I', t.tgname, c.relname) as thing,
    pg_catalog.format('drop trigger %I on schoolbell.%I;', t.tgname, c.relname) as remedy
from pg_catalog.pg_trigger t
join pg_catalog.pg_class c on c.oid = t.tgrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'schoolbell'
    and not t.tgisinternal
union all
select
    pg_catalog.format('rule %I on schoolbell.%I', r.rulename, c.relname),
    pg_catalog.format('drop rule %I on schoolbell.%I;', r.rulename, c.relname)
from pg_catalog.pg_rewrite r
join pg_catalog.pg_class c on c.oid = r.ev_class
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'schoolbell'
    and c.relkind in ('r', 'p')
union all
-- A policy hides changes from the service, or runs somebody's function as it.
select
    pg_catalog.format('row security on schoolbell.%I', c.relname),
    pg_catalog.format('alter table schoolbell.%I disable row level security;', c.relname)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'schoolbell'
    and c.relrowsecurity
order by 1
