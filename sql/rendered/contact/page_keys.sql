-- Source: its keys alone. $1: after this primary key, $2: changed since, $3: how many rows.
select r.key::pg_catalog.text as key, r.position
from (
    select source."creator_id" as key, array[source."id"::pg_catalog.text] as position
    from "public"."schools" as source
    where (source."id") operator(pg_catalog.>) (($1::pg_catalog.text[])[1]::pg_catalog.uuid) and ($2::pg_catalog.timestamptz is null or source."updated_at" operator(pg_catalog.>=) ($2::pg_catalog.timestamptz at time zone 'UTC')) and source."creator_id" is not null
    order by source."id"
    limit $3
) as r
