-- Triggers, rules, policies and references on the tables of schema schoolbell, and who may write
-- every table. None of these are ours: their code would run with the rights of the role that writes
-- there, which are the owner's.
select
    pg_catalog.format('somebody made trigger %I on schoolbell.%I', t.tgname, c.relname) as found,
    pg_catalog.format('drop trigger %I on schoolbell.%I;', t.tgname, c.relname) as remedy
from pg_catalog.pg_trigger t
join pg_catalog.pg_class c on c.oid = t.tgrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'schoolbell'
    and not t.tgisinternal
union all
select
    pg_catalog.format('somebody made rule %I on schoolbell.%I', r.rulename, c.relname),
    pg_catalog.format('drop rule %I on schoolbell.%I;', r.rulename, c.relname)
from pg_catalog.pg_rewrite r
join pg_catalog.pg_class c on c.oid = r.ev_class
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'schoolbell'
    and c.relkind in ('r', 'p')
union all
-- A policy hides changes from the service, or runs a function with the service's rights.
select
    pg_catalog.format('somebody made row security on schoolbell.%I', c.relname),
    pg_catalog.format('alter table schoolbell.%I disable row level security;', c.relname)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'schoolbell'
    and c.relrowsecurity
union all
-- A row that refers to a change keeps it from being acknowledged.
select
    pg_catalog.format('%s refers to schoolbell.%I by a foreign key', f.conrelid::pg_catalog.regclass, c.relname),
    pg_catalog.format('alter table %s drop constraint %I;', f.conrelid::pg_catalog.regclass, f.conname)
from pg_catalog.pg_constraint f
join pg_catalog.pg_class c on c.oid = f.confrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where f.contype = 'f'
    and n.nspname = 'schoolbell'
union all
select
    pg_catalog.format('%s may write every table', r.rolname),
    pg_catalog.format('revoke pg_write_all_data from %I;', r.rolname)
from pg_catalog.pg_auth_members m
join pg_catalog.pg_roles g on g.oid = m.roleid
join pg_catalog.pg_roles r on r.oid = m.member
where g.rolname = 'pg_write_all_data'
    and not r.rolsuper
order by 1
