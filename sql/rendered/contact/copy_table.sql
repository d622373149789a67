-- Target: the temporary table for a large batch.
create temporary table if not exists pg_temp.schoolbell_5ef6a0344cf5f0ff (
    key pg_catalog.text,
    external_id pg_catalog."varchar",
    f0 pg_catalog.bool
) on commit delete rows
