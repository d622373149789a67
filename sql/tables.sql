-- All tables that an application or Heroku Connect may have made.
select
    n.nspname as schema,
    c.relname as table
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p')
    and not c.relispartition
    and n.nspname not in ('pg_catalog', 'information_schema', 'schoolbell')
    and n.nspname !~ '^pg_(toast|temp)'
order by n.nspname, c.relname
