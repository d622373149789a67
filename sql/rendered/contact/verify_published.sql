-- Source: which keys have a published row. Parameters as those of project.
select wanted.key::pg_catalog.text as key
from (
    select k.key::pg_catalog.uuid from pg_catalog.unnest($1::pg_catalog.text[]) as k (key)
) as wanted (key)
where exists (
    select from "public"."schools" as source
    where source."creator_id" operator(pg_catalog.=) wanted.key
    and case when source."creator_id" operator(pg_catalog.=) wanted.key then (creator_id is not null) end
)
