-- Target: the temporary table for a large batch.
create temporary table if not exists pg_temp.schoolbell_c1e0685b0b700b41 (
    key pg_catalog.text,
    external_id pg_catalog."varchar",
    f0 pg_catalog."varchar",
    f1 pg_catalog."varchar",
    f2 pg_catalog."varchar",
    f3 pg_catalog."timestamp",
    f4 pg_catalog."varchar",
    f5 pg_catalog."varchar",
    f6 pg_catalog."varchar",
    f7 pg_catalog."varchar",
    f8 pg_catalog."varchar",
    f9 pg_catalog."varchar",
    f10 pg_catalog."varchar",
    f11 pg_catalog."timestamp",
    f12 pg_catalog."varchar",
    f13 pg_catalog."timestamp",
    f14 pg_catalog."varchar",
    f15 pg_catalog."timestamp",
    f16 pg_catalog."varchar",
    f17 pg_catalog."varchar"
) on commit delete rows
