-- Target: the next page of a walk through its rows. $1: after this external id, $2: how many rows.
select t."editoruuid__c"::pg_catalog.text as key
from "salesforce"."editor__c" as t
where t."editoruuid__c" is not null
and ($1::pg_catalog.text is null or (t."editoruuid__c") operator(pg_catalog.>) ($1::pg_catalog.text::pg_catalog."varchar"))
order by t."editoruuid__c"
limit $2
