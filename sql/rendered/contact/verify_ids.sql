-- Target: the next external ids. $1: after this one.
select t."pi_accounts_unique_id__c"::pg_catalog.text as id
from "salesforce"."contact" as t
where t."pi_accounts_unique_id__c" is not null and (t."pi_accounts_unique_id__c") operator(pg_catalog.>) ($1::pg_catalog.text::pg_catalog."varchar")
order by t."pi_accounts_unique_id__c"
limit 5000
