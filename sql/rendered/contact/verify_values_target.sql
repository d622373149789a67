-- Target: the same. $1: external ids.
select t."pi_accounts_unique_id__c"::pg_catalog.text as key, t."pi_accounts_unique_id__c"::pg_catalog.text as id, array[(t."editoragreetouxcontact__c")::pg_catalog.text]::pg_catalog.text[] as values, pg_catalog.hash_record_extended(row(t."editoragreetouxcontact__c"), 0) as print, array[]::pg_catalog.int8[] as encrypted
from pg_catalog.unnest($1::pg_catalog.text[]) as wanted (id)
join "salesforce"."contact" as t on t."pi_accounts_unique_id__c" operator(pg_catalog.=) wanted.id::pg_catalog."varchar"
