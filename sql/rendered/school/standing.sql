-- Target: how many rows there are, for the brake. $1: count no further.
select pg_catalog.count(*) from (select from "salesforce"."editor__c" limit $1) as standing
