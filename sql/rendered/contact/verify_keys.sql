-- Source: the next keys. $1: after this key.
select source."creator_id"::pg_catalog.text as key
from "public"."schools" as source
where source."creator_id" is not null and (source."creator_id") operator(pg_catalog.>) ($1::pg_catalog.text::pg_catalog.uuid)
group by source."creator_id"
order by source."creator_id"
limit 5000
