-- The next changes after a position among transactions, and the snapshot that they were seen in.
-- $1, $2: transactions that were running when the position passed them, and the last id read of each.
-- $3, $4: the position. $5: at most this many of either kind.
--
-- Both parts begin inside the primary key right after what was read before, so neither the size of
-- the backlog nor dead versions of acknowledged rows make a claim more expensive. One row always
-- comes back, with the snapshot of this very statement: the position may move as far as that
-- snapshot saw.
with late as (
    select c.xact, c.id, c.changed_at, c.source_table, c.concerns, c.operation, c.keys
    from unnest($1::text[], $2::int8[]) as running (xact, after_id)
    cross join lateral (
        select *
        from schoolbell.change
        where change.xact = running.xact::xid8
            and change.id > running.after_id
        order by change.xact, change.id
        limit $5
    ) as c
    limit $5
), fresh as (
    select c.xact, c.id, c.changed_at, c.source_table, c.concerns, c.operation, c.keys
    from schoolbell.change as c
    where (c.xact, c.id) > ($3::text::xid8, $4::int8)
    order by c.xact, c.id
    limit $5
)
select
    s.snapshot,
    s.server,
    c.fresh,
    c.xact::text as xact,
    c.id,
    c.changed_at,
    c.source_table,
    c.concerns,
    c.operation,
    c.keys::text as keys
from (
    select
        pg_catalog.pg_current_snapshot()::text as snapshot,
        -- After a crash or a failover transaction ids may be used again: then positions are void.
        pg_catalog.pg_postmaster_start_time()::text as server
) as s
left join (
    select false as fresh, late.*
    from late
    union all
    select true, fresh.*
    from fresh
) as c on true
