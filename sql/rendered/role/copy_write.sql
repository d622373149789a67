-- Target: the same as write, from that table.
with batch as materialized (
    select b.*, case
    when b.p0 is not null and not exists (
        select
        from "salesforce"."editor__c" as parent
        where parent."editoruuid__c" operator(pg_catalog.=) b.p0 and parent.sfid is not null
    ) then 0
    when b.p1 is not null and not exists (
        select
        from "salesforce"."contact" as parent
        where parent."pi_accounts_unique_id__c" operator(pg_catalog.=) b.p1 and parent.sfid is not null
    ) then 1
    end as parent
    from pg_temp.schoolbell_43a633cd5ffe3932 as b
),
needed as materialized (
    select batch.*, t."affiliation_id__c" is null as missing
    from batch
    left join "salesforce"."contact_editor_affiliation__c" as t on t."affiliation_id__c" operator(pg_catalog.=) batch.external_id
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
    select needed.key
    from needed
    join "salesforce"."contact_editor_affiliation__c" as t on t."affiliation_id__c" operator(pg_catalog.=) needed.external_id
    where not needed.missing
    for update of t skip locked
),
updated as (
    update "salesforce"."contact_editor_affiliation__c" as t
    set "contact__r__pi_accounts_unique_id__c" = needed.f0,
    "createdat__c" = needed.f1,
    "editor__r__editoruuid__c" = needed.f2,
    "roletype__c" = needed.f3,
    "updatedat__c" = needed.f4
    from needed
    join free on free.key operator(pg_catalog.=) needed.key
    where not needed.missing and t."affiliation_id__c" operator(pg_catalog.=) needed.external_id
    returning needed.key
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
