-- Target: which of these keys have a row. $1: keys.
select t."editoruuid__c"::pg_catalog.text as key, 'kept' as outcome
from "salesforce"."editor__c" as t
where t."editoruuid__c" operator(pg_catalog.=) any ($1::pg_catalog.text[]::pg_catalog."varchar"[])
