-- Source: which keys have a published row. Parameters as those of project.
select wanted.key::pg_catalog.text as key
from (
    select k.key::pg_catalog.int8 from pg_catalog.unnest($1::pg_catalog.text[]) as k (key)
) as wanted (key)
where exists (
    select from "public"."roles" as source
    where source."id" operator(pg_catalog.=) wanted.key
    and case when source."id" operator(pg_catalog.=) wanted.key then (role is distinct from 0) end
)
