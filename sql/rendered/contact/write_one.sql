-- Target: writes a single row, and waits briefly where it is locked. $1: keys, $2: external ids, then an array for each column and parent.
with batch as materialized (
    select b.*, null::pg_catalog.int4 as parent
    from rows from (
        pg_catalog.unnest($1::pg_catalog.text[]),
        pg_catalog.unnest($2::pg_catalog."varchar"[]),
        pg_catalog.unnest($3::pg_catalog.bool[])
    ) as b (key, external_id, f0)
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
updated as (
    update "salesforce"."contact" as t
    set "editoragreetouxcontact__c" = b.f0
    from needed as b
    where t."pi_accounts_unique_id__c" operator(pg_catalog.>=) b.external_id and t."pi_accounts_unique_id__c" operator(pg_catalog.<=) b.external_id and not b.missing
    returning b.key
)
select batch.key, 'waits' as outcome, batch.parent, null::pg_catalog.text as parent_key
from batch
where batch.parent is not null
union all
select updated.key, 'updated', null, null
from updated
union all
select needed.key, 'waits', null, needed.key
from needed
where needed.missing
