-- The outbox: one row per captured change, deleted when it has been applied.
--
-- Ordered by (xact, id), not by id alone: ids are handed out before commit, so a reader that remembers
-- the last id would pass over a slow transaction. Transaction ids tell, with the reader's own snapshot,
-- exactly who was still running (see src/change.rs), so that a claim starts where the last one ended
-- and never walks over the dead versions of rows that were acknowledged before it.
create table schoolbell.change (
    xact xid8 not null default pg_catalog.pg_current_xact_id(),
    -- Orders the changes of one transaction, nothing else. The cache spares writers the sequence's lock.
    id bigint not null generated always as identity (cache 32),
    changed_at timestamptz not null default pg_catalog.statement_timestamp(),
    source_table text not null,
    -- The one object this change is for, or null: every object that is read from source_table.
    concerns text,
    operation text not null check (operation in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')),
    -- The columns by which objects find their rows, as they were in this row: {"id": …, "creator_id": …}.
    keys jsonb,
    primary key (xact, id),
    check ((keys is null) = (operation = 'TRUNCATE'))
);

-- A table that is emptied as fast as it fills wants to be vacuumed by its size, not by a share of it.
alter table schoolbell.change set (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 50000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 500000,
    autovacuum_vacuum_cost_delay = 0
);

comment on table schoolbell.change is
    'The outbox: committed changes that are not applied yet. Keys only, no row contents.';
