-- Target: rows whose source row is gone. $1: keys.
select t."affiliation_id__c"::pg_catalog.text as key, 'kept' as outcome
from "salesforce"."contact_editor_affiliation__c" as t
where t."affiliation_id__c" operator(pg_catalog.=) any ($1::pg_catalog.text[]::pg_catalog."varchar"[])
