-- What a whole comparison of an object has found just now. $1: object, $2: how long it took, $3 to $11: counts.
insert into schoolbell.verified as v (
    object,
    seconds,
    rows,
    equal,
    missing,
    differing,
    unexpected,
    unreadable,
    in_flight,
    parked,
    kept
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
on conflict (object) do update
set verified_at = pg_catalog.clock_timestamp(),
    seconds = excluded.seconds,
    rows = excluded.rows,
    equal = excluded.equal,
    missing = excluded.missing,
    differing = excluded.differing,
    unexpected = excluded.unexpected,
    unreadable = excluded.unreadable,
    in_flight = excluded.in_flight,
    parked = excluded.parked,
    kept = excluded.kept
