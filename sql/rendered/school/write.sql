-- Target: writes rows that differ or are missing, and passes over locked ones. $1: keys, $2: external ids, then an array for each column and parent.
with batch as materialized (
    select b.*, null::pg_catalog.int4 as parent
    from rows from (
        pg_catalog.unnest($1::pg_catalog.text[]),
        pg_catalog.unnest($2::pg_catalog."varchar"[]),
        pg_catalog.unnest($3::pg_catalog."varchar"[]),
        pg_catalog.unnest($4::pg_catalog."varchar"[]),
        pg_catalog.unnest($5::pg_catalog."varchar"[]),
        pg_catalog.unnest($6::pg_catalog."timestamp"[]),
        pg_catalog.unnest($7::pg_catalog."varchar"[]),
        pg_catalog.unnest($8::pg_catalog."varchar"[]),
        pg_catalog.unnest($9::pg_catalog."varchar"[]),
        pg_catalog.unnest($10::pg_catalog."varchar"[]),
        pg_catalog.unnest($11::pg_catalog."varchar"[]),
        pg_catalog.unnest($12::pg_catalog."varchar"[]),
        pg_catalog.unnest($13::pg_catalog."varchar"[]),
        pg_catalog.unnest($14::pg_catalog."timestamp"[]),
        pg_catalog.unnest($15::pg_catalog."varchar"[]),
        pg_catalog.unnest($16::pg_catalog."timestamp"[]),
        pg_catalog.unnest($17::pg_catalog."varchar"[]),
        pg_catalog.unnest($18::pg_catalog."timestamp"[]),
        pg_catalog.unnest($19::pg_catalog."varchar"[]),
        pg_catalog.unnest($20::pg_catalog."varchar"[])
    ) as b (key, external_id, f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15, f16, f17)
),
needed as materialized (
    select batch.*, t."editoruuid__c" is null as missing
    from batch
    left join lateral (
        select t."addressline1__c", t."addressline2__c", t."countrycode__c", t."createdat__c", t."districtnamesupplied__c", t."editoradministrativearea__c", t."editormunicipality__c", t."editorreference__c", t."name", t."ncesid__c", t."postcode__c", t."rejectedat__c", t."schoolrollnumber__c", t."updatedat__c", t."userorigin__c", t."verifiedat__c", t."website__c", t."editoruuid__c"
        from "salesforce"."editor__c" as t
        where t."editoruuid__c" operator(pg_catalog.=) batch.external_id
        offset 0
    ) as t on true
    where batch.parent is null
    and (
        t."editoruuid__c" is null or (
            coalesce((t."addressline1__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f0)::pg_catalog.text, ((t."addressline1__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f0)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."addressline1__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."addressline1__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f0)::pg_catalog.text, ((case when pg_catalog.btrim(t."addressline1__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."addressline1__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f0)::pg_catalog.text is null))
        )
        or (
            coalesce((t."addressline2__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f1)::pg_catalog.text, ((t."addressline2__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f1)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."addressline2__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."addressline2__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f1)::pg_catalog.text, ((case when pg_catalog.btrim(t."addressline2__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."addressline2__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f1)::pg_catalog.text is null))
        )
        or (
            coalesce((t."countrycode__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f2)::pg_catalog.text, ((t."countrycode__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f2)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."countrycode__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."countrycode__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f2)::pg_catalog.text, ((case when pg_catalog.btrim(t."countrycode__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."countrycode__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f2)::pg_catalog.text is null))
        )
        or (
            coalesce(t."createdat__c" operator(pg_catalog.<>) batch.f3, (t."createdat__c" is null) operator(pg_catalog.<>) (batch.f3 is null))
            and coalesce(pg_catalog.date_trunc('second', t."createdat__c") operator(pg_catalog.<>) batch.f3, (pg_catalog.date_trunc('second', t."createdat__c") is null) operator(pg_catalog.<>) (batch.f3 is null))
        )
        or (
            coalesce((t."districtnamesupplied__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f4)::pg_catalog.text, ((t."districtnamesupplied__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f4)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."districtnamesupplied__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."districtnamesupplied__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f4)::pg_catalog.text, ((case when pg_catalog.btrim(t."districtnamesupplied__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."districtnamesupplied__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f4)::pg_catalog.text is null))
        )
        or (
            coalesce((t."editoradministrativearea__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f5)::pg_catalog.text, ((t."editoradministrativearea__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f5)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."editoradministrativearea__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."editoradministrativearea__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f5)::pg_catalog.text, ((case when pg_catalog.btrim(t."editoradministrativearea__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."editoradministrativearea__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f5)::pg_catalog.text is null))
        )
        or (
            coalesce((t."editormunicipality__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f6)::pg_catalog.text, ((t."editormunicipality__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f6)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."editormunicipality__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."editormunicipality__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f6)::pg_catalog.text, ((case when pg_catalog.btrim(t."editormunicipality__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."editormunicipality__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f6)::pg_catalog.text is null))
        )
        or (
            coalesce((t."editorreference__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f7)::pg_catalog.text, ((t."editorreference__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f7)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."editorreference__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."editorreference__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f7)::pg_catalog.text, ((case when pg_catalog.btrim(t."editorreference__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."editorreference__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f7)::pg_catalog.text is null))
        )
        or (
            coalesce((t."name")::pg_catalog.text operator(pg_catalog.<>) (batch.f8)::pg_catalog.text, ((t."name")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f8)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."name"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."name"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f8)::pg_catalog.text, ((case when pg_catalog.btrim(t."name"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."name"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f8)::pg_catalog.text is null))
        )
        or (
            coalesce((t."ncesid__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f9)::pg_catalog.text, ((t."ncesid__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f9)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."ncesid__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."ncesid__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f9)::pg_catalog.text, ((case when pg_catalog.btrim(t."ncesid__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."ncesid__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f9)::pg_catalog.text is null))
        )
        or (
            coalesce((t."postcode__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f10)::pg_catalog.text, ((t."postcode__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f10)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."postcode__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."postcode__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f10)::pg_catalog.text, ((case when pg_catalog.btrim(t."postcode__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."postcode__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f10)::pg_catalog.text is null))
        )
        or (
            coalesce(t."rejectedat__c" operator(pg_catalog.<>) batch.f11, (t."rejectedat__c" is null) operator(pg_catalog.<>) (batch.f11 is null))
            and coalesce(pg_catalog.date_trunc('second', t."rejectedat__c") operator(pg_catalog.<>) batch.f11, (pg_catalog.date_trunc('second', t."rejectedat__c") is null) operator(pg_catalog.<>) (batch.f11 is null))
        )
        or (
            coalesce((t."schoolrollnumber__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f12)::pg_catalog.text, ((t."schoolrollnumber__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f12)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."schoolrollnumber__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."schoolrollnumber__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f12)::pg_catalog.text, ((case when pg_catalog.btrim(t."schoolrollnumber__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."schoolrollnumber__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f12)::pg_catalog.text is null))
        )
        or (
            coalesce(t."updatedat__c" operator(pg_catalog.<>) batch.f13, (t."updatedat__c" is null) operator(pg_catalog.<>) (batch.f13 is null))
            and coalesce(pg_catalog.date_trunc('second', t."updatedat__c") operator(pg_catalog.<>) batch.f13, (pg_catalog.date_trunc('second', t."updatedat__c") is null) operator(pg_catalog.<>) (batch.f13 is null))
        )
        or (
            coalesce((t."userorigin__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f14)::pg_catalog.text, ((t."userorigin__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f14)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."userorigin__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."userorigin__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f14)::pg_catalog.text, ((case when pg_catalog.btrim(t."userorigin__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."userorigin__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f14)::pg_catalog.text is null))
        )
        or (
            coalesce(t."verifiedat__c" operator(pg_catalog.<>) batch.f15, (t."verifiedat__c" is null) operator(pg_catalog.<>) (batch.f15 is null))
            and coalesce(pg_catalog.date_trunc('second', t."verifiedat__c") operator(pg_catalog.<>) batch.f15, (pg_catalog.date_trunc('second', t."verifiedat__c") is null) operator(pg_catalog.<>) (batch.f15 is null))
        )
        or (
            coalesce((t."website__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f16)::pg_catalog.text, ((t."website__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f16)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."website__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."website__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f16)::pg_catalog.text, ((case when pg_catalog.btrim(t."website__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."website__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f16)::pg_catalog.text is null))
        )
    )
),
free as materialized (
    select needed.*
    from needed
    cross join lateral (
        select
        from "salesforce"."editor__c" as t
        where t."editoruuid__c" operator(pg_catalog.=) needed.external_id
        for update skip locked
    ) as t
    where not needed.missing
),
updated as (
    update "salesforce"."editor__c" as t
    set "addressline1__c" = b.f0,
    "addressline2__c" = b.f1,
    "countrycode__c" = b.f2,
    "createdat__c" = b.f3,
    "districtnamesupplied__c" = b.f4,
    "editoradministrativearea__c" = b.f5,
    "editormunicipality__c" = b.f6,
    "editorreference__c" = b.f7,
    "name" = b.f8,
    "ncesid__c" = b.f9,
    "postcode__c" = b.f10,
    "rejectedat__c" = b.f11,
    "schoolrollnumber__c" = b.f12,
    "updatedat__c" = b.f13,
    "userorigin__c" = b.f14,
    "verifiedat__c" = b.f15,
    "website__c" = b.f16
    from free as b
    where t."editoruuid__c" operator(pg_catalog.>=) b.external_id and t."editoruuid__c" operator(pg_catalog.<=) b.external_id
    returning b.key
),
inserted as (
    insert into "salesforce"."editor__c" ("editoruuid__c", "addressline1__c", "addressline2__c", "countrycode__c", "createdat__c", "districtnamesupplied__c", "editoradministrativearea__c", "editormunicipality__c", "editorreference__c", "name", "ncesid__c", "postcode__c", "rejectedat__c", "schoolrollnumber__c", "updatedat__c", "userorigin__c", "verifiedat__c", "website__c", "status__c")
    select needed.external_id, needed.f0, needed.f1, needed.f2, needed.f3, needed.f4, needed.f5, needed.f6, needed.f7, needed.f8, needed.f9, needed.f10, needed.f11, needed.f12, needed.f13, needed.f14, needed.f15, needed.f16, needed.f17
    from needed
    where needed.missing
    order by needed.key
    returning "editoruuid__c"::pg_catalog.text as key
)
select batch.key, 'waits' as outcome, batch.parent, null::pg_catalog.text as parent_key
from batch
where batch.parent is not null
union all
select needed.key, 'locked', null, null
from needed
where not needed.missing
and not exists (select from free where free.key operator(pg_catalog.=) needed.key)
union all
select updated.key, 'updated', null, null
from updated
union all
select inserted.key, 'inserted', null, null
from inserted
