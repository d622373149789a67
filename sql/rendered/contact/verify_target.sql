-- Target: the same.
select t."pi_accounts_unique_id__c"::pg_catalog.text as key, t."pi_accounts_unique_id__c"::pg_catalog.text as id, pg_catalog.hash_record_extended(row(t."editoragreetouxcontact__c"), 0) as print, array[]::pg_catalog.int8[] as encrypted
from "salesforce"."contact" as t
where t."pi_accounts_unique_id__c" is not null
order by t."pi_accounts_unique_id__c"::pg_catalog.text collate pg_catalog."C"
