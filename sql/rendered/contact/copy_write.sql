-- Target: the same as write, from that table.
with batch as not materialized (
    select b.*, null::pg_catalog.int4 as parent
    from pg_temp.schoolbell_5ef6a0344cf5f0ff as b
),
needed as materialized (
    select batch.*, t."pi_accounts_unique_id__c" is null as missing
    from batch
    left join lateral (
        select t."editoragreetouxcontact__c", t."pi_accounts_unique_id__c"
        from "salesforce"."contact" as t
        where t."pi_accounts_unique_id__c" operator(pg_catalog.=) batch.external_id
        offset 0
    ) as t on true
    where batch.parent is null
    and (
        t."pi_accounts_unique_id__c" is null or coalesce(t."editoragreetouxcontact__c" operator(pg_catalog.<>) batch.f0, (t."editoragreetouxcontact__c" is null) operator(pg_catalog.<>) (batch.f0 is null))
    )
),
free as materialized (
    select needed.*
    from needed
    cross join lateral (
        select
        from "salesforce"."contact" as t
        where t."pi_accounts_unique_id__c" operator(pg_catalog.=) needed.external_id
        for update skip locked
    ) as t
    where not needed.missing
),
updated as (
    update "salesforce"."contact" as t
    set "editoragreetouxcontact__c" = b.f0
    from free as b
    where t."pi_accounts_unique_id__c" operator(pg_catalog.>=) b.external_id and t."pi_accounts_unique_id__c" operator(pg_catalog.<=) b.external_id
    returning b.key
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
select needed.key, 'waits', null, needed.key
from needed
where needed.missing
