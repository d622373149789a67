-- Source: the next page of a resync, as target rows. $1: after this primary key, $2: changed since, $3: how many rows.
select r.key::pg_catalog.text as key,
r.schoolbell__present as present,
r.key::pg_catalog.text::pg_catalog."varchar" as external_id,
(case when pg_catalog.char_length(r.schoolbell__f0) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f0, 254) operator(pg_catalog.||) '…' when r.schoolbell__f0 operator(pg_catalog.<>) '' then r.schoolbell__f0 end)::pg_catalog."varchar" as f0,
(case when pg_catalog.char_length(r.schoolbell__f1) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f1, 254) operator(pg_catalog.||) '…' when r.schoolbell__f1 operator(pg_catalog.<>) '' then r.schoolbell__f1 end)::pg_catalog."varchar" as f1,
(case when pg_catalog.char_length(r.schoolbell__f2) operator(pg_catalog.>) 20 then pg_catalog.left(r.schoolbell__f2, 19) operator(pg_catalog.||) '…' when r.schoolbell__f2 operator(pg_catalog.<>) '' then r.schoolbell__f2 end)::pg_catalog."varchar" as f2,
(r.schoolbell__f3)::pg_catalog."timestamp" as f3,
(case when pg_catalog.char_length(r.schoolbell__f4) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f4, 254) operator(pg_catalog.||) '…' when r.schoolbell__f4 operator(pg_catalog.<>) '' then r.schoolbell__f4 end)::pg_catalog."varchar" as f4,
(case when pg_catalog.char_length(r.schoolbell__f5) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f5, 254) operator(pg_catalog.||) '…' when r.schoolbell__f5 operator(pg_catalog.<>) '' then r.schoolbell__f5 end)::pg_catalog."varchar" as f5,
(case when pg_catalog.char_length(r.schoolbell__f6) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f6, 254) operator(pg_catalog.||) '…' when r.schoolbell__f6 operator(pg_catalog.<>) '' then r.schoolbell__f6 end)::pg_catalog."varchar" as f6,
(case when pg_catalog.char_length(r.schoolbell__f7) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f7, 254) operator(pg_catalog.||) '…' when r.schoolbell__f7 operator(pg_catalog.<>) '' then r.schoolbell__f7 end)::pg_catalog."varchar" as f7,
(case when pg_catalog.char_length(r.schoolbell__f8) operator(pg_catalog.>) 80 then pg_catalog.left(r.schoolbell__f8, 79) operator(pg_catalog.||) '…' when r.schoolbell__f8 operator(pg_catalog.<>) '' then r.schoolbell__f8 end)::pg_catalog."varchar" as f8,
(case when pg_catalog.char_length(r.schoolbell__f9) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f9, 254) operator(pg_catalog.||) '…' when r.schoolbell__f9 operator(pg_catalog.<>) '' then r.schoolbell__f9 end)::pg_catalog."varchar" as f9,
(case when pg_catalog.char_length(r.schoolbell__f10) operator(pg_catalog.>) 40 then pg_catalog.left(r.schoolbell__f10, 39) operator(pg_catalog.||) '…' when r.schoolbell__f10 operator(pg_catalog.<>) '' then r.schoolbell__f10 end)::pg_catalog."varchar" as f10,
(r.schoolbell__f11)::pg_catalog."timestamp" as f11,
(case when pg_catalog.char_length(r.schoolbell__f12) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f12, 254) operator(pg_catalog.||) '…' when r.schoolbell__f12 operator(pg_catalog.<>) '' then r.schoolbell__f12 end)::pg_catalog."varchar" as f12,
(r.schoolbell__f13)::pg_catalog."timestamp" as f13,
(case when pg_catalog.char_length(r.schoolbell__f14) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f14, 254) operator(pg_catalog.||) '…' when r.schoolbell__f14 operator(pg_catalog.<>) '' then r.schoolbell__f14 end)::pg_catalog."varchar" as f14,
(r.schoolbell__f15)::pg_catalog."timestamp" as f15,
(case when pg_catalog.char_length(r.schoolbell__f16) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f16, 254) operator(pg_catalog.||) '…' when r.schoolbell__f16 operator(pg_catalog.<>) '' then r.schoolbell__f16 end)::pg_catalog."varchar" as f16,
(case when pg_catalog.char_length(r.schoolbell__f17) operator(pg_catalog.>) 255 then pg_catalog.left(r.schoolbell__f17, 254) operator(pg_catalog.||) '…' when r.schoolbell__f17 operator(pg_catalog.<>) '' then r.schoolbell__f17 end)::pg_catalog."varchar" as f17,
r.position
from (
    select source."id" as key, true as schoolbell__present,
    pg_catalog.btrim(source."address_line_1"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f0,
    pg_catalog.btrim(source."address_line_2"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f1,
    pg_catalog.btrim(source."country_code"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f2,
    pg_catalog.date_trunc('second', source."created_at"::pg_catalog."timestamp") as schoolbell__f3,
    pg_catalog.btrim(source."district_name"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f4,
    pg_catalog.btrim(source."administrative_area"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f5,
    pg_catalog.btrim(source."municipality"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f6,
    pg_catalog.btrim(source."reference"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f7,
    pg_catalog.btrim(source."name"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f8,
    pg_catalog.btrim(source."district_nces_id"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f9,
    pg_catalog.btrim(source."postal_code"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f10,
    pg_catalog.date_trunc('second', source."rejected_at"::pg_catalog."timestamp") as schoolbell__f11,
    pg_catalog.btrim(source."school_roll_number"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f12,
    pg_catalog.date_trunc('second', source."updated_at"::pg_catalog."timestamp") as schoolbell__f13,
    pg_catalog.btrim((case user_origin when 1 then 'experience_cs' else 'for_education' end)::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f14,
    pg_catalog.date_trunc('second', source."verified_at"::pg_catalog."timestamp") as schoolbell__f15,
    pg_catalog.btrim(source."website"::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f16,
    pg_catalog.btrim(('New')::pg_catalog.text, E' \t\n\r\f\x0b') as schoolbell__f17,
    array[source."id"::pg_catalog.text] as position
    from "public"."schools" as source
    where (source."id") operator(pg_catalog.>) (($1::pg_catalog.text[])[1]::pg_catalog.uuid) and ($2::pg_catalog.timestamptz is null or source."updated_at" operator(pg_catalog.>=) ($2::pg_catalog.timestamptz at time zone 'UTC')) and source."id" is not null
    order by source."id"
    limit $3
) as r
