-- Source: all rows as hashes, in the order of the external ids.
select o.key, o.external_id::pg_catalog.text as id, pg_catalog.hash_record_extended(row(o.f0), 0) as print, array[]::pg_catalog.int8[] as encrypted
from (
    select r.schoolbell__key::pg_catalog.text as key,
    r.schoolbell__present as present,
    r.schoolbell__key::pg_catalog.text::pg_catalog."varchar" as external_id,
    (r.schoolbell__f0)::pg_catalog.bool as f0
    from (
        select distinct on (source."creator_id") source."creator_id" as schoolbell__key,
        true as schoolbell__present,
        source."creator_agree_to_ux_contact"::pg_catalog.bool as schoolbell__f0
        from "public"."schools" as source
        where source."creator_id" is not null and true
        and (creator_id is not null)
        order by source."creator_id", (rejected_at is null) is true desc, updated_at desc nulls last, id desc
    ) as r
) as o
order by o.external_id::pg_catalog.text collate pg_catalog."C"
