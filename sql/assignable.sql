-- Which pairs of types an assignment converts by itself. $1: from, $2: to, of equal length. An
-- explicit cast would accept more ('yes'::text::boolean, 1::boolean) and fail, or lie, row by row.
select
    pair.place::int4 as place
from unnest($1::oid[], $2::oid[]) with ordinality as pair (source_type, target_type, place)
where pair.source_type <> pair.target_type
    and not exists (
        select
        from pg_catalog.pg_cast c
        where c.castsource = pair.source_type
            and c.casttarget = pair.target_type
            and c.castcontext in ('a', 'i')
    )
