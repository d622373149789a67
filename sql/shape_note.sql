-- What a table is from now on. $1: table, $2: its shape.
insert into schoolbell.shape (source_table, shape)
values ($1, $2::text::jsonb)
on conflict (source_table) do update
set shape = excluded.shape,
    seen_at = pg_catalog.clock_timestamp()
