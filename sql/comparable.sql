-- Whether keys of two types may be compared as texts of each other, and the name of the first. $1, $2: types.
select
    $1 = $2 or one.typcategory = other.typcategory and one.typcategory in ('S', 'N') as comparable,
    pg_catalog.format_type($1, null) as type_name
from pg_catalog.pg_type as one
join pg_catalog.pg_type as other on other.oid = $2
where one.oid = $1
