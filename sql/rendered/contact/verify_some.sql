-- Source: the hashes of some rows. Parameters as those of project.
select o.key, o.external_id::pg_catalog.text as id, pg_catalog.hash_record_extended(row(o.f0), 0) as print, array[]::pg_catalog.int8[] as encrypted
from (
    with schoolbell__wanted (schoolbell__key) as materialized (
        select k.key::pg_catalog.uuid from pg_catalog.unnest($1::pg_catalog.text[]) as k (key)
    ),
    schoolbell__preferred as materialized (
        select schoolbell__wanted.schoolbell__key, r.*
        from schoolbell__wanted
        cross join lateral (
            select true as schoolbell__present,
            source."creator_agree_to_ux_contact"::pg_catalog.bool as schoolbell__f0
            from "public"."schools" as source
            where source."creator_id" operator(pg_catalog.=) schoolbell__wanted.schoolbell__key
            and case when source."creator_id" operator(pg_catalog.=) schoolbell__wanted.schoolbell__key then (creator_id is not null) end
            and (rejected_at is null)
            order by updated_at desc nulls last, id desc
            limit 1
        ) as r
    ),
    schoolbell__rest as materialized (
        select distinct on (source."creator_id") source."creator_id" as schoolbell__key, true as schoolbell__present,
        source."creator_agree_to_ux_contact"::pg_catalog.bool as schoolbell__f0
        from (
            select schoolbell__wanted.schoolbell__key from schoolbell__wanted
            except select schoolbell__preferred.schoolbell__key from schoolbell__preferred
        ) as schoolbell__other (schoolbell__key)
        join "public"."schools" as source on source."creator_id" operator(pg_catalog.=) schoolbell__other.schoolbell__key
        and case when source."creator_id" operator(pg_catalog.=) schoolbell__other.schoolbell__key then (creator_id is not null) end
        order by source."creator_id", (rejected_at is null) is true desc, updated_at desc nulls last, id desc
    ),
    schoolbell__winner as (
        select schoolbell__preferred.* from schoolbell__preferred
        union all select schoolbell__rest.* from schoolbell__rest
    )
    select schoolbell__wanted.schoolbell__key::pg_catalog.text as key,
    r.schoolbell__present as present,
    schoolbell__wanted.schoolbell__key::pg_catalog.text::pg_catalog."varchar" as external_id,
    (r.schoolbell__f0)::pg_catalog.bool as f0
    from schoolbell__wanted
    left join schoolbell__winner as r on r.schoolbell__key operator(pg_catalog.=) schoolbell__wanted.schoolbell__key
    order by schoolbell__wanted.schoolbell__key
) as o
where o.present
