-- Replays of existing rows, one job per object. The process that holds the writer's lock carries them out.
create table schoolbell.resync (
    id bigint generated always as identity primary key,
    object text not null,
    state text not null default 'queued' check (state in ('queued', 'running', 'done', 'failed')),
    -- source: every source row; target: every target row, to find those whose source is gone (after TRUNCATE).
    walk text not null default 'source' check (walk in ('source', 'target')),
    only_keys text[],
    since timestamptz,
    only_missing boolean not null default false,
    -- At most this many target writes in all, and per second.
    write_limit bigint check (write_limit > 0),
    write_rate bigint check (write_rate > 0),
    -- The last key that was replayed; the next page begins after it.
    position text[],
    total bigint not null default 0,
    done bigint not null default 0,
    written bigint not null default 0,
    equal bigint not null default 0,
    waiting bigint not null default 0,
    dead bigint not null default 0,
    deleted bigint not null default 0,
    kept bigint not null default 0,
    created_at timestamptz not null default pg_catalog.clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    -- Why it could not go on.
    reason text,
    check ((finished_at is not null) = (state in ('done', 'failed'))),
    check ((reason is not null) = (state = 'failed'))
);

create index resync_open on schoolbell.resync (id)
    where state in ('queued', 'running');

comment on table schoolbell.resync is
    'Replays of existing rows: what was asked for, how far it is, what came of it.';
