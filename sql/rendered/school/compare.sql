-- Target: what write would do (resync --dry-run). $1: keys, $2: external ids, then an array for each column and parent.
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
)
select batch.key, 'waits' as outcome, batch.parent, null::pg_catalog.text as parent_key
from batch
where batch.parent is not null
union all
select needed.key, 'updated', null, null
from needed
where not needed.missing
union all
select needed.key, 'inserted', null, null
from needed
where needed.missing
