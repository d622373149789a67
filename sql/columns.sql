-- The columns of one table, with what a mapping must know of them. $1: schema, $2: table.
select
    a.attname as name,
    a.atttypid as type_oid,
    -- Without its length: a cast to varchar(80) would cut silently, where we cut with an ellipsis.
    pg_catalog.format_type(a.atttypid, null) as type_name,
    t.typcategory::text as category,
    case
        when a.atttypid in ('pg_catalog.varchar'::regtype, 'pg_catalog.bpchar'::regtype) and a.atttypmod > 4
            then a.atttypmod - 4
    end as max_chars,
    -- Values that are equal are written alike. Not so for numeric (1.0 and 1.00), citext, intervals, arrays of these…
    a.atttypid in (
        'pg_catalog.bool'::regtype,
        'pg_catalog.int2'::regtype,
        'pg_catalog.int4'::regtype,
        'pg_catalog.int8'::regtype,
        'pg_catalog.uuid'::regtype,
        'pg_catalog.text'::regtype,
        'pg_catalog.varchar'::regtype,
        'pg_catalog.bytea'::regtype,
        'pg_catalog.date'::regtype,
        'pg_catalog.timestamp'::regtype,
        'pg_catalog.timestamptz'::regtype
    )
        and coalesce(l.collisdeterministic, true) as exact,
    exists (
        select
        from pg_catalog.pg_index i
        where i.indrelid = c.oid
            and i.indisvalid
            and i.indkey[0] = a.attnum
            and i.indpred is null
    ) as indexed,
    exists (
        select
        from pg_catalog.pg_index i
        where i.indrelid = c.oid
            and i.indisvalid
            and i.indisunique
            and i.indnkeyatts = 1
            and i.indkey[0] = a.attnum
            and i.indpred is null
    ) as unique_index,
    -- The place in the primary key, from 1; null outside it.
    (
        select pg_catalog.array_position(i.indkey::int2[], a.attnum) - pg_catalog.array_lower(i.indkey::int2[], 1) + 1
        from pg_catalog.pg_index i
        where i.indrelid = c.oid
            and i.indisprimary
    ) as primary_key_position
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid
join pg_catalog.pg_type t on t.oid = a.atttypid
left join pg_catalog.pg_collation l on l.oid = a.attcollation
where n.nspname = $1
    and c.relname = $2
    and c.relkind in ('r', 'p')
    and a.attnum > 0
    and not a.attisdropped
order by a.attnum
