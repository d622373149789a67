-- Schema schoolbell as the migrations leave it, read from the catalogue.
-- Renew it with: SCHOOLBELL_BLESS=1 cargo test --test it the_schema_is_the_one

table change
    xact xid8 not null default pg_current_xact_id()
    id bigint not null generated always as identity
    changed_at timestamp with time zone not null default statement_timestamp()
    source_table text not null
    concerns text
    operation text not null
    keys jsonb
    PRIMARY KEY (xact, id)
    CREATE UNIQUE INDEX change_pkey ON schoolbell.change USING btree (xact, id)
    with autovacuum_vacuum_cost_delay=0
    with autovacuum_vacuum_insert_scale_factor=0
    with autovacuum_vacuum_insert_threshold=500000
    with autovacuum_vacuum_scale_factor=0
    with autovacuum_vacuum_threshold=50000

table deletion
    id bigint not null generated always as identity
    object text not null
    rows bigint not null
    noted_at timestamp with time zone not null default clock_timestamp()
    CHECK ((rows > 0))
    PRIMARY KEY (id)
    CREATE INDEX deletion_object ON schoolbell.deletion USING btree (object, noted_at)
    CREATE UNIQUE INDEX deletion_pkey ON schoolbell.deletion USING btree (id)

table installation
    single boolean not null default true
    notify_mode text not null
    CHECK ((notify_mode = ANY (ARRAY['always'::text, 'doorbell'::text, 'never'::text])))
    CHECK (single)
    PRIMARY KEY (single)
    CREATE UNIQUE INDEX installation_pkey ON schoolbell.installation USING btree (single)

table mapping
    single boolean not null default true
    file text not null
    content text not null
    migrated_at timestamp with time zone not null default clock_timestamp()
    CHECK (single)
    PRIMARY KEY (single)
    CREATE UNIQUE INDEX mapping_pkey ON schoolbell.mapping USING btree (single)

table pairing
    single boolean not null default true
    source_system text not null
    source_database text not null
    target_system text not null
    target_database text not null
    target_address text not null
    paired_at timestamp with time zone not null default clock_timestamp()
    CHECK (single)
    PRIMARY KEY (single)
    CREATE UNIQUE INDEX pairing_pkey ON schoolbell.pairing USING btree (single)

table parked
    object text not null
    key text not null
    state text not null
    awaits text
    awaits_key text
    due_at timestamp with time zone
    attempts integer not null default 0
    reason text not null
    sqlstate text
    remedy text
    parked_at timestamp with time zone not null default clock_timestamp()
    tried_at timestamp with time zone not null default clock_timestamp()
    held boolean not null default false
    id bigint not null generated always as identity
    CHECK (((NOT held) OR (state = 'dead'::text)))
    CHECK (((awaits IS NULL) = (awaits_key IS NULL)))
    CHECK (((state <> 'retrying'::text) OR (due_at IS NOT NULL)))
    CHECK (((state = 'waiting'::text) = (awaits IS NOT NULL)))
    CHECK ((state = ANY (ARRAY['waiting'::text, 'retrying'::text, 'dead'::text])))
    PRIMARY KEY (id)
    CREATE INDEX parked_awaits ON schoolbell.parked USING btree (awaits, "left"(awaits_key, 200), hashtextextended(awaits_key, (0)::bigint), hashtextextended(awaits_key, (1)::bigint)) WHERE (state = 'waiting'::text)
    CREATE INDEX parked_due ON schoolbell.parked USING btree (due_at) WHERE (due_at IS NOT NULL)
    CREATE INDEX parked_held ON schoolbell.parked USING btree (object) WHERE held
    CREATE UNIQUE INDEX parked_key ON schoolbell.parked USING btree (object, "left"(key, 200), hashtextextended(key, (0)::bigint), hashtextextended(key, (1)::bigint))
    CREATE UNIQUE INDEX parked_pkey ON schoolbell.parked USING btree (id)

table refinery_schema_history
    version integer not null
    name character varying(255)
    applied_on character varying(255)
    checksum character varying(255)
    PRIMARY KEY (version)
    CREATE UNIQUE INDEX refinery_schema_history_pkey ON schoolbell.refinery_schema_history USING btree (version)

table resync
    id bigint not null generated always as identity
    object text not null
    state text not null default 'queued'::text
    walk text not null default 'source'::text
    only_keys text[]
    since timestamp with time zone
    only_missing boolean not null default false
    write_limit bigint
    write_rate bigint
    position text[]
    total bigint not null default 0
    done bigint not null default 0
    written bigint not null default 0
    equal bigint not null default 0
    waiting bigint not null default 0
    dead bigint not null default 0
    deleted bigint not null default 0
    kept bigint not null default 0
    created_at timestamp with time zone not null default clock_timestamp()
    started_at timestamp with time zone
    finished_at timestamp with time zone
    reason text
    mapping text
    passed_over_at timestamp with time zone
    asked boolean not null default false
    retrying bigint not null default 0
    dismissed_at timestamp with time zone
    CHECK (((finished_at IS NOT NULL) = (state = ANY (ARRAY['done'::text, 'failed'::text]))))
    CHECK (((reason IS NOT NULL) = (state = 'failed'::text)))
    CHECK ((state = ANY (ARRAY['queued'::text, 'running'::text, 'done'::text, 'failed'::text])))
    CHECK ((walk = ANY (ARRAY['source'::text, 'target'::text])))
    CHECK ((write_limit > 0))
    CHECK ((write_rate > 0))
    PRIMARY KEY (id)
    CREATE INDEX resync_open ON schoolbell.resync USING btree (id) WHERE (state = ANY (ARRAY['queued'::text, 'running'::text]))
    CREATE UNIQUE INDEX resync_pkey ON schoolbell.resync USING btree (id)

table shape
    source_table text not null
    shape jsonb not null
    seen_at timestamp with time zone not null default clock_timestamp()
    PRIMARY KEY (source_table)
    CREATE UNIQUE INDEX shape_pkey ON schoolbell.shape USING btree (source_table)

table verified
    object text not null
    verified_at timestamp with time zone not null default clock_timestamp()
    seconds double precision not null
    rows bigint not null
    equal bigint not null
    missing bigint not null
    differing bigint not null
    unexpected bigint not null
    unreadable bigint not null
    in_flight bigint not null
    parked bigint not null
    kept bigint not null
    CHECK ((seconds >= (0)::double precision))
    PRIMARY KEY (object)
    CREATE UNIQUE INDEX verified_pkey ON schoolbell.verified USING btree (object)
