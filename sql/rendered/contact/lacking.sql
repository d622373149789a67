-- Target: which of these keys have no row (resync --missing). $1: keys.
select k.key
from pg_catalog.unnest($1::pg_catalog.text[]) as k (key)
where not coalesce((
        select true
        from "salesforce"."contact" as t
        where t."pi_accounts_unique_id__c" operator(pg_catalog.=) k.key::pg_catalog."varchar"
        limit 1
    ), false)
