-- Publications that carry every table of schema schoolbell. The catalogue is there since PostgreSQL 15.
select p.pubname::pg_catalog.text as name
from pg_catalog.pg_publication_namespace s
join pg_catalog.pg_publication p on p.oid = s.pnpubid
join pg_catalog.pg_namespace n on n.oid = s.pnnspid
where n.nspname = 'schoolbell'
