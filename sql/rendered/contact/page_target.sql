-- Target: the next page of a walk through its rows. $1: after this external id, $2: how many rows.
select t."pi_accounts_unique_id__c"::pg_catalog.text as key
from "salesforce"."contact" as t
where t."pi_accounts_unique_id__c" is not null
and ($1::pg_catalog.text is null or (t."pi_accounts_unique_id__c") operator(pg_catalog.>) ($1::pg_catalog.text::pg_catalog."varchar"))
order by t."pi_accounts_unique_id__c"
limit $2
