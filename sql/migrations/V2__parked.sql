-- Keys that could not be applied: one row per object and key.
create table schoolbell.parked (
    object text not null,
    key text not null,
    -- waiting: for a parent, or for a row that Salesforce creates; retrying: after a time; dead: for a human.
    state text not null check (state in ('waiting', 'retrying', 'dead')),
    -- What a waiting key waits for: "contact sfid", "contact row", and whose.
    awaits text,
    awaits_key text,
    -- When it is due again. A waiting key becomes due when what it waits for arrives, a dead one by a human.
    due_at timestamptz,
    attempts integer not null default 0,
    reason text not null,
    sqlstate text,
    remedy text,
    parked_at timestamptz not null default pg_catalog.clock_timestamp(),
    tried_at timestamptz not null default pg_catalog.clock_timestamp(),
    primary key (object, key),
    check ((state = 'waiting') = (awaits is not null)),
    check ((awaits is null) = (awaits_key is null)),
    check (state <> 'retrying' or due_at is not null)
);

create index parked_due on schoolbell.parked (due_at)
    where due_at is not null;
-- The sweep asks for the distinct parents that are waited for, however many rows wait for each.
create index parked_awaits on schoolbell.parked (awaits, awaits_key)
    where state = 'waiting';

comment on table schoolbell.parked is
    'Keys that wait for a parent, are retried later, or need a human. Keys only, no row contents.';
