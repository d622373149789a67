-- Target: which of these keys have no row (resync --missing). $1: keys.
select k.key
from pg_catalog.unnest($1::pg_catalog.text[]) as k (key)
where not coalesce((
        select true
        from "salesforce"."contact_editor_affiliation__c" as t
        where t."affiliation_id__c" operator(pg_catalog.=) k.key::pg_catalog."varchar"
        limit 1
    ), false)
