-- Target: the same.
select t."affiliation_id__c"::pg_catalog.text as key, t."affiliation_id__c"::pg_catalog.text as id, pg_catalog.hash_record_extended(row(coalesce((pg_catalog.btrim(t."contact__r__pi_accounts_unique_id__c"::pg_catalog.text, E' \t\n\r\f\x0b'))::pg_catalog.text, '') collate pg_catalog."C", pg_catalog.date_trunc('second', t."createdat__c"), coalesce((pg_catalog.btrim(t."editor__r__editoruuid__c"::pg_catalog.text, E' \t\n\r\f\x0b'))::pg_catalog.text, '') collate pg_catalog."C", coalesce((pg_catalog.btrim(t."roletype__c"::pg_catalog.text, E' \t\n\r\f\x0b'))::pg_catalog.text, '') collate pg_catalog."C", pg_catalog.date_trunc('second', t."updatedat__c")), 0) as print, array[]::pg_catalog.int8[] as encrypted
from "salesforce"."contact_editor_affiliation__c" as t
where t."affiliation_id__c" is not null
order by t."affiliation_id__c"::pg_catalog.text collate pg_catalog."C"
