-- This source, and this target, from now on. Parameters as those of the claim.
insert into schoolbell.pairing (source_system, source_database, target_system, target_database, target_address)
values ($1, $2, $3, $4, $5)
on conflict (single) do update
set source_system = excluded.source_system,
    source_database = excluded.source_database,
    target_system = excluded.target_system,
    target_database = excluded.target_database,
    target_address = excluded.target_address,
    paired_at = pg_catalog.clock_timestamp()
