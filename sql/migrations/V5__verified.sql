-- What the last whole comparison of each object has found. Written by `verify` and by `run --verify-every`.
create table schoolbell.verified (
    object text primary key,
    verified_at timestamptz not null default pg_catalog.clock_timestamp(),
    seconds double precision not null check (seconds >= 0),
    rows bigint not null,
    equal bigint not null,
    missing bigint not null,
    differing bigint not null,
    unexpected bigint not null,
    unreadable bigint not null,
    in_flight bigint not null,
    parked bigint not null,
    kept bigint not null
);

comment on table schoolbell.verified is
    'When each object was last compared as a whole, and what was found. Counts only.';
