-- Source: only which keys are wanted. $1: keys, then for each `touched_by` what its triggers recorded.
select k.key::pg_catalog.text as key
from (
    select k.key::pg_catalog.int8 from pg_catalog.unnest($1::pg_catalog.text[]) as k (key)
) as k (key)
order by k.key
