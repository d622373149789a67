-- Source: the next page of a resync, as target rows. $1: after this primary key, $2: changed since, $3: how many rows.
select r.key::pg_catalog.text as key,
r.schoolbell__present as present,
r.key::pg_catalog.text::pg_catalog."varchar" as external_id,
(case when r.schoolbell__f0 operator(pg_catalog.<>) '' then r.schoolbell__f0 end)::pg_catalog."varchar" as f0,
(r.schoolbell__f1)::pg_catalog."timestamp" as f1,
(case when r.schoolbell__f2 operator(pg_catalog.<>) '' then r.schoolbell__f2 end)::pg_catalog."varchar" as f2,
(case when pg_catalog.char_length(r.schoolbell__f3) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f3, 254) operator(pg_catalog.||) '…' when r.schoolbell__f3 operator(pg_catalog.<>) '' then r.schoolbell__f3 end)::pg_catalog."varchar" as f3,
(r.schoolbell__f4)::pg_catalog."timestamp" as f4,
r.schoolbell__p0::pg_catalog."varchar" as p0,
r.schoolbell__p1::pg_catalog."varchar" as p1,
r.position
from (
    select source."id" as key, true as schoolbell__present,
    pg_catalog.btrim(source."user_id"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f0,
    pg_catalog.date_trunc('second', source."created_at"::pg_catalog."timestamp") as schoolbell__f1,
    pg_catalog.btrim(source."school_id"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f2,
    pg_catalog.btrim((case role when 1 then 'teacher' when 2 then 'owner' end)::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f3,
    pg_catalog.date_trunc('second', source."updated_at"::pg_catalog."timestamp") as schoolbell__f4,
    case when pg_catalog.btrim(source."school_id"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(source."school_id"::pg_catalog.text, E' \t\n\r\f\x0b') end as schoolbell__p0,
    case when pg_catalog.btrim(source."user_id"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(source."user_id"::pg_catalog.text, E' \t\n\r\f\x0b') end as schoolbell__p1,
    array[source."id"::pg_catalog.text] as position
    from "public"."roles" as source
    where (source."id") operator(pg_catalog.>) (($1::pg_catalog.text[])[1]::pg_catalog.int8) and ($2::pg_catalog.timestamptz is null or source."updated_at" operator(pg_catalog.>=) ($2::pg_catalog.timestamptz at time zone 'UTC')) and source."id" is not null
    and (role is distinct from 0)
    order by source."id"
    limit $3
) as r
