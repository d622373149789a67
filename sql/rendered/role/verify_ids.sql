-- Target: the next external ids. $1: after this one.
select t."affiliation_id__c"::pg_catalog.text as id
from "salesforce"."contact_editor_affiliation__c" as t
where t."affiliation_id__c" is not null and (t."affiliation_id__c") operator(pg_catalog.>) ($1::pg_catalog.text::pg_catalog."varchar")
order by t."affiliation_id__c"
limit 5000
