-- Source: the hashes of some rows. Parameters as those of project.
select o.key, o.external_id::pg_catalog.text as id, pg_catalog.hash_record_extended(row(coalesce((o.f0)::pg_catalog.text, '') collate pg_catalog."C", o.f1, coalesce((o.f2)::pg_catalog.text, '') collate pg_catalog."C", coalesce((o.f3)::pg_catalog.text, '') collate pg_catalog."C", o.f4), 0) as print, array[]::pg_catalog.int8[] as encrypted
from (
    with schoolbell__wanted (schoolbell__key) as materialized (
        select k.key::pg_catalog.int8 from pg_catalog.unnest($1::pg_catalog.text[]) as k (key)
    )
    select schoolbell__wanted.schoolbell__key::pg_catalog.text as key,
    r.schoolbell__present as present,
    schoolbell__wanted.schoolbell__key::pg_catalog.text::pg_catalog."varchar" as external_id,
    (case when r.schoolbell__f0 operator(pg_catalog.<>) '' then r.schoolbell__f0 end)::pg_catalog."varchar" as f0,
    (r.schoolbell__f1)::pg_catalog."timestamp" as f1,
    (case when r.schoolbell__f2 operator(pg_catalog.<>) '' then r.schoolbell__f2 end)::pg_catalog."varchar" as f2,
    (case when pg_catalog.char_length(r.schoolbell__f3) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f3, 254) operator(pg_catalog.||) '…' when r.schoolbell__f3 operator(pg_catalog.<>) '' then r.schoolbell__f3 end)::pg_catalog."varchar" as f3,
    (r.schoolbell__f4)::pg_catalog."timestamp" as f4,
    r.schoolbell__p0::pg_catalog."varchar" as p0,
    r.schoolbell__p1::pg_catalog."varchar" as p1
    from schoolbell__wanted
    left join lateral (
        select true as schoolbell__present,
        pg_catalog.btrim(source."user_id"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f0,
        pg_catalog.date_trunc('second', source."created_at"::pg_catalog."timestamp") as schoolbell__f1,
        pg_catalog.btrim(source."school_id"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f2,
        pg_catalog.btrim((case role when 1 then 'teacher' when 2 then 'owner' end)::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f3,
        pg_catalog.date_trunc('second', source."updated_at"::pg_catalog."timestamp") as schoolbell__f4,
        case when pg_catalog.btrim(source."school_id"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(source."school_id"::pg_catalog.text, E' \t\n\r\f\x0b') end as schoolbell__p0,
        case when pg_catalog.btrim(source."user_id"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(source."user_id"::pg_catalog.text, E' \t\n\r\f\x0b') end as schoolbell__p1
        from "public"."roles" as source
        where source."id" operator(pg_catalog.=) schoolbell__wanted.schoolbell__key
        and case when source."id" operator(pg_catalog.=) schoolbell__wanted.schoolbell__key then (role is distinct from 0) end
        offset 0
    ) as r on true
    order by schoolbell__wanted.schoolbell__key
) as o
where o.present
