-- Keys whose target rows are about to be deleted and written again: if the command dies between the
-- two, they become due by themselves. $1: object, $2: keys, $3: after this many seconds.
insert into schoolbell.parked (object, key, state, due_at, reason, remedy)
select
    $1,
    reserved.key,
    'retrying',
    pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $3::int4),
    'Salesforce refused the row; it is deleted and written again',
    'it is retried by itself'
from pg_catalog.unnest($2::text[]) as reserved (key)
on conflict (object, left(key, 200), hashtextextended(key, 0), hashtextextended(key, 1)) do nothing
