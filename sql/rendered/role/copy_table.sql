-- Target: the temporary table for a large batch.
create temporary table if not exists pg_temp.schoolbell_43a633cd5ffe3932 (
    key pg_catalog.text,
    external_id pg_catalog."varchar",
    f0 pg_catalog."varchar",
    f1 pg_catalog."timestamp",
    f2 pg_catalog."varchar",
    f3 pg_catalog."varchar",
    f4 pg_catalog."timestamp",
    p0 pg_catalog."varchar",
    p1 pg_catalog."varchar"
) on commit delete rows
