-- Target: the next external ids. $1: after this one.
select t."editoruuid__c"::pg_catalog.text as id
from "salesforce"."editor__c" as t
where t."editoruuid__c" is not null and (t."editoruuid__c") operator(pg_catalog.>) ($1::pg_catalog.text::pg_catalog."varchar")
order by t."editoruuid__c"
limit 5000
