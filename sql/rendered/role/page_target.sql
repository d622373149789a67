-- Target: the next page of a walk through its rows. $1: after this external id, $2: how many rows.
select t."affiliation_id__c"::pg_catalog.text as key
from "salesforce"."contact_editor_affiliation__c" as t
where t."affiliation_id__c" is not null
and ($1::pg_catalog.text is null or (t."affiliation_id__c") operator(pg_catalog.>) ($1::pg_catalog.text::pg_catalog."varchar"))
order by t."affiliation_id__c"
limit $2
