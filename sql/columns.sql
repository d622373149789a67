-- The columns of one table, with everything that a plan needs to know of them. $1: schema, $2:
-- table.
select
    pg_catalog.getdatabaseencoding() as encoding,
    c.relpersistence = 'u' as is_unlogged,
    a.attname as name,
    a.atttypid as type_oid,
    -- For people.
    pg_catalog.format_type(a.atttypid, null) as type_name,
    -- For statements: found on every search path, and without its length. A cast to varchar(80)
    -- would cut silently, where we cut with an ellipsis; `character` alone is one character. For a
    -- domain its base type: an operator for enums, ranges, rows or arrays does not accept a domain
    -- over one.
    case
        -- Not oidvector, which has elements and is not an array.
        when et.typarray = bt.oid then pg_catalog.format('%I.%I[]', en.nspname, et.typname)
        else pg_catalog.format('%I.%I', tn.nspname, bt.typname)
    end as type_sql,
    t.typtype = 'd' as is_domain,
    -- The schema of the operators by which an index finds its values. Those of enums, arrays, rows
    -- and ranges are built in, and only a superuser can make a default for a type of his own.
    case
        when base.built_in then 'pg_catalog'
        else pg_catalog.quote_ident(coalesce(
            (
                select n.nspname
                from pg_catalog.pg_opclass o
                join pg_catalog.pg_am m on m.oid = o.opcmethod
                join pg_catalog.pg_amop p on p.amopfamily = o.opcfamily
                join pg_catalog.pg_operator e on e.oid = p.amopopr
                join pg_catalog.pg_namespace n on n.oid = e.oprnamespace
                where o.opcintype = base.type
                    and o.opcdefault
                    and m.amname = 'btree'
                    and p.amoplefttype = o.opcintype
                    and p.amoprighttype = o.opcintype
                    -- Equality.
                    and p.amopstrategy = 3
            ),
            'pg_catalog'
        ))
    end as operators,
    t.typcategory::text as category,
    case
        when a.atttypid in ('pg_catalog.varchar'::regtype, 'pg_catalog.bpchar'::regtype) and a.atttypmod > 4
            then a.atttypmod - 4
    end as max_chars,
    -- Values are written alike whatever the settings of the session. Not so for dates, floating point, intervals, money and others.
    base.type in (
        'pg_catalog.bool'::regtype,
        'pg_catalog.int2'::regtype,
        'pg_catalog.int4'::regtype,
        'pg_catalog.int8'::regtype,
        'pg_catalog.numeric'::regtype,
        'pg_catalog.oid'::regtype,
        'pg_catalog.uuid'::regtype,
        'pg_catalog.text'::regtype,
        'pg_catalog.varchar'::regtype,
        'pg_catalog.bpchar'::regtype,
        'pg_catalog.name'::regtype,
        'pg_catalog.inet'::regtype,
        'pg_catalog.cidr'::regtype,
        'pg_catalog.macaddr'::regtype,
        'pg_catalog.bit'::regtype,
        'pg_catalog.varbit'::regtype
    )
        or t.typcategory = 'E'
        as steady,
    -- Texts that the database considers equal may be written in several ways: 'Ann' and 'ann' of
    -- citext.
    t.typcategory = 'S' and (not base.built_in or not coalesce(co.collisdeterministic, true)) as folds,
    -- The same of numbers and others: 1.0 and 1.00. These are the types whose btree operators lack "equalimage".
    base.type in (
        'pg_catalog.float4'::regtype,
        'pg_catalog.float8'::regtype,
        'pg_catalog.interval'::regtype,
        'pg_catalog.jsonb'::regtype,
        'pg_catalog.tsvector'::regtype,
        'pg_catalog.tsquery'::regtype,
        'pg_catalog.numrange'::regtype,
        'pg_catalog.nummultirange'::regtype
    )
        or base.type = 'pg_catalog.numeric'::regtype and a.atttypmod = -1 and t.typtypmod = -1
        as is_written_in_several_ways,
    base.type in (
        'pg_catalog.date'::regtype,
        'pg_catalog.timestamp'::regtype,
        'pg_catalog.timestamptz'::regtype
    ) as is_moment,
    -- Computed when it is read: a trigger finds nothing in it.
    a.attgenerated = 'v' as is_virtual,
    -- The columns that its value is computed from; empty for one that is no generated column.
    array(
        select distinct of.attname::text
        from pg_catalog.pg_depend d
        join pg_catalog.pg_attribute of on of.attrelid = d.refobjid and of.attnum = d.refobjsubid
        where a.attgenerated <> ''
            and d.classid = 'pg_catalog.pg_attrdef'::regclass
            and d.objid = (
                select e.oid
                from pg_catalog.pg_attrdef e
                where e.adrelid = c.oid
                    and e.adnum = a.attnum
            )
            and d.refclassid = 'pg_catalog.pg_class'::regclass
            and d.refobjid = c.oid
            and d.refobjsubid not in (0, a.attnum)
    ) as computed_from,
    exists (
        select
        from pg_catalog.pg_index i
        where i.indrelid = c.oid
            and i.indisvalid
            and i.indkey[0] = a.attnum
            and i.indpred is null
            -- One that has the column's own equality and order.
            and i.indcollation[0] = a.attcollation
            and exists (
                select
                from pg_catalog.pg_opclass used
                join pg_catalog.pg_am m on m.oid = used.opcmethod and m.amname = 'btree'
                join pg_catalog.pg_opclass usual on usual.opcfamily = used.opcfamily and usual.opcdefault
                where used.oid = i.indclass[0]
            )
    ) as indexed,
    exists (
        select
        from pg_catalog.pg_index i
        where i.indrelid = c.oid
            and i.indisvalid
            and i.indkey[0] = a.attnum
            and i.indpred is not null
    ) as partly_indexed,
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
left join pg_catalog.pg_collation co on co.oid = a.attcollation
-- The base type of a domain, through any number of domains. Oids from 16384 on belong to objects
-- that users have created.
cross join lateral (
    select
        made_of.type,
        made_of.type < 16384 as built_in
    from (
        select
            case
                when t.typtype <> 'd' then t.oid
                else (
                    with recursive underlying as (
                        select t.typbasetype as type
                        union all
                        select b.typbasetype
                        from underlying u
                        join pg_catalog.pg_type b on b.oid = u.type
                        where b.typtype = 'd'
                    )
                    select u.type
                    from underlying u
                    join pg_catalog.pg_type b on b.oid = u.type
                    where b.typtype <> 'd'
                )
            end as type
        offset 0
    ) as made_of
    offset 0
) as base
join pg_catalog.pg_type bt on bt.oid = base.type
join pg_catalog.pg_namespace tn on tn.oid = bt.typnamespace
left join pg_catalog.pg_type et on et.oid = bt.typelem
left join pg_catalog.pg_namespace en on en.oid = et.typnamespace
where n.nspname = $1
    and c.relname = $2
    and c.relkind in ('r', 'p')
    and a.attnum > 0
    and not a.attisdropped
order by a.attnum
