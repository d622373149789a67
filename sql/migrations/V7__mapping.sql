-- The mapping that the triggers were last installed for. Written by `migrate`, which tells from it what another one
-- changes; nothing else reads it.
create table schoolbell.mapping (
    -- A single row.
    single boolean primary key default true check (single),
    -- Where it was read from, for people.
    file text not null,
    content text not null,
    migrated_at timestamptz not null default pg_catalog.clock_timestamp()
);

comment on table schoolbell.mapping is
    'The text of the mapping that the triggers were last installed for.';

-- A replay is of use only to the mapping it was asked for with.
alter table schoolbell.resync
    -- What stands for its object in that mapping; null: whichever mapping the writer has.
    add column mapping text,
    -- When a writer has found that its own mapping is another one.
    add column passed_over_at timestamptz;
