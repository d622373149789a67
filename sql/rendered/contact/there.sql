-- Target: which of these keys have a row. $1: keys.
select t."pi_accounts_unique_id__c"::pg_catalog.text as key, 'kept' as outcome
from "salesforce"."contact" as t
where t."pi_accounts_unique_id__c" operator(pg_catalog.=) any ($1::pg_catalog.text[]::pg_catalog."varchar"[])
