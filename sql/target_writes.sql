-- How many rows were ever written to these tables, as far as the server has counted. $1, $2:
-- schemas and names.
select coalesce(pg_catalog.sum(s.n_tup_ins + s.n_tup_upd), 0)::int8 as writes
from unnest($1::text[], $2::text[]) as t (schema, name)
join pg_catalog.pg_stat_all_tables s on s.schemaname = t.schema and s.relname = t.name
