-- Target: the same as write, from that table.
with batch as materialized (
    select b.*, case
    when b.p0 is not null and not coalesce((
            select true
            from "salesforce"."editor__c" as parent
            where parent."editoruuid__c" operator(pg_catalog.=) b.p0 and parent.sfid is not null
            limit 1
        ), false) then 0
    when b.p1 is not null and not coalesce((
            select true
            from "salesforce"."contact" as parent
            where parent."pi_accounts_unique_id__c" operator(pg_catalog.=) b.p1 and parent.sfid is not null
            limit 1
        ), false) then 1
    end as parent
    from pg_temp.schoolbell_43a633cd5ffe3932 as b
),
needed as materialized (
    select batch.*, t."affiliation_id__c" is null as missing
    from batch
    left join lateral (
        select t."contact__r__pi_accounts_unique_id__c", t."createdat__c", t."editor__r__editoruuid__c", t."roletype__c", t."updatedat__c", t."affiliation_id__c"
        from "salesforce"."contact_editor_affiliation__c" as t
        where t."affiliation_id__c" operator(pg_catalog.=) batch.external_id
        offset 0
    ) as t on true
    where batch.parent is null
    and (
        t."affiliation_id__c" is null or (
            coalesce((t."contact__r__pi_accounts_unique_id__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f0)::pg_catalog.text, ((t."contact__r__pi_accounts_unique_id__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f0)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."contact__r__pi_accounts_unique_id__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."contact__r__pi_accounts_unique_id__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f0)::pg_catalog.text, ((case when pg_catalog.btrim(t."contact__r__pi_accounts_unique_id__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."contact__r__pi_accounts_unique_id__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f0)::pg_catalog.text is null))
        )
        or (
            coalesce(t."createdat__c" operator(pg_catalog.<>) batch.f1, (t."createdat__c" is null) operator(pg_catalog.<>) (batch.f1 is null))
            and coalesce(pg_catalog.date_trunc('second', t."createdat__c") operator(pg_catalog.<>) batch.f1, (pg_catalog.date_trunc('second', t."createdat__c") is null) operator(pg_catalog.<>) (batch.f1 is null))
        )
        or (
            coalesce((t."editor__r__editoruuid__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f2)::pg_catalog.text, ((t."editor__r__editoruuid__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f2)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."editor__r__editoruuid__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."editor__r__editoruuid__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f2)::pg_catalog.text, ((case when pg_catalog.btrim(t."editor__r__editoruuid__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."editor__r__editoruuid__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f2)::pg_catalog.text is null))
        )
        or (
            coalesce((t."roletype__c")::pg_catalog.text operator(pg_catalog.<>) (batch.f3)::pg_catalog.text, ((t."roletype__c")::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f3)::pg_catalog.text is null))
            and coalesce((case when pg_catalog.btrim(t."roletype__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."roletype__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text operator(pg_catalog.<>) (batch.f3)::pg_catalog.text, ((case when pg_catalog.btrim(t."roletype__c"::pg_catalog.text, E' \t\n\r\f\x0b') operator(pg_catalog.<>) '' then pg_catalog.btrim(t."roletype__c"::pg_catalog.text, E' \t\n\r\f\x0b') end)::pg_catalog.text is null) operator(pg_catalog.<>) ((batch.f3)::pg_catalog.text is null))
        )
        or (
            coalesce(t."updatedat__c" operator(pg_catalog.<>) batch.f4, (t."updatedat__c" is null) operator(pg_catalog.<>) (batch.f4 is null))
            and coalesce(pg_catalog.date_trunc('second', t."updatedat__c") operator(pg_catalog.<>) batch.f4, (pg_catalog.date_trunc('second', t."updatedat__c") is null) operator(pg_catalog.<>) (batch.f4 is null))
        )
    )
),
free as materialized (
    select needed.*
    from needed
    cross join lateral (
        select
        from "salesforce"."contact_editor_affiliation__c" as t
        where t."affiliation_id__c" operator(pg_catalog.=) needed.external_id
        for update skip locked
    ) as t
    where not needed.missing
),
updated as (
    update "salesforce"."contact_editor_affiliation__c" as t
    set "contact__r__pi_accounts_unique_id__c" = b.f0,
    "createdat__c" = b.f1,
    "editor__r__editoruuid__c" = b.f2,
    "roletype__c" = b.f3,
    "updatedat__c" = b.f4
    from free as b
    where t."affiliation_id__c" operator(pg_catalog.>=) b.external_id and t."affiliation_id__c" operator(pg_catalog.<=) b.external_id
    returning b.key
),
inserted as (
    insert into "salesforce"."contact_editor_affiliation__c" ("affiliation_id__c", "contact__r__pi_accounts_unique_id__c", "createdat__c", "editor__r__editoruuid__c", "roletype__c", "updatedat__c")
    select needed.external_id, needed.f0, needed.f1, needed.f2, needed.f3, needed.f4
    from needed
    where needed.missing
    order by needed.key
    returning "affiliation_id__c"::pg_catalog.text as key
)
select batch.key, 'waits' as outcome, batch.parent, case when batch.parent operator(pg_catalog.=) 0 then batch.p0::pg_catalog.text when batch.parent operator(pg_catalog.=) 1 then batch.p1::pg_catalog.text end as parent_key
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
