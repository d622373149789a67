-- Notes that rows are about to be deleted, if the brake lets them pass, and returns the number of
-- the note. $1: object, $2: how many rows, $3: how many of its rows the target has, $4: those
-- deleted within this many seconds count, $5, $6: at most this many rows and this share of all may,
-- $7: objects whose held keys hold these, too.
with lately as (
    select coalesce(sum(d.rows), 0)::int8 as rows
    from schoolbell.deletion as d
    where d.object = $1
        and d.noted_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $4::float8)
), forgotten as (
    delete from schoolbell.deletion as d
    where d.object = $1
        and d.noted_at <= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $4::float8)
), noted as (
    insert into schoolbell.deletion (object, rows)
    select $1, $2::int8
    from lately
    -- The last row of a small table is more than any share of it.
    where $2::int8 + lately.rows <= least(
            $5::int8,
            greatest(pg_catalog.floor($6::float8 * ($3::int8 + lately.rows)), 1)
        )
        and not exists (
            select
            from schoolbell.parked as p
            where p.held
                and p.object = any ($7::text[])
        )
    returning id
)
select noted.id from noted
