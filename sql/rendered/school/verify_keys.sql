-- Source: the next keys. $1: after this key.
select source."id"::pg_catalog.text as key
from "public"."schools" as source
where source."id" is not null and (source."id") operator(pg_catalog.>) ($1::pg_catalog.text::pg_catalog.uuid)
group by source."id"
order by source."id"
limit 5000
