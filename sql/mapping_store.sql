-- The mapping that the triggers are installed for now.
insert into schoolbell.mapping (file, content)
values ({file}, {content})
on conflict (single) do update
set file = excluded.file,
    content = excluded.content,
    migrated_at = pg_catalog.clock_timestamp()
