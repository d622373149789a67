-- Heroku Connect's database: stand-in for tests, demo and compose. It reproduces everything that a
-- client of the real one can notice: types and lengths, names of indexes, who may set which column,
-- what ends in the log that Salesforce is fed from, and the traps (unqualified function calls, an
-- int4 sequence, triggers that look at xmlbinary). accept.sql simulates Salesforce.

create schema salesforce;

-- Newer databases have it in schema heroku_ext, which is then on the default search path.
create extension if not exists hstore with schema public;

-- Who is writing? Heroku Connect sets xmlbinary to hex in its own sessions, a setting that no other
-- program changes; the server's default, base64, therefore means "a user".
create function public.get_xmlbinary() returns varchar
language sql stable as $$
    select pg_catalog.current_setting('xmlbinary')::varchar
$$;


-- Bookkeeping -------------------------------------------------------------------------------------

create sequence salesforce._hcmeta_id_seq as integer;

create table salesforce._hcmeta (
    id integer not null default nextval('salesforce._hcmeta_id_seq') primary key,
    hcver integer,
    org_id varchar(50),
    details text
);

alter sequence salesforce._hcmeta_id_seq owned by salesforce._hcmeta.id;

create sequence salesforce._trigger_log_id_seq as integer;

-- What is to be sent to Salesforce, one row per write. States: NEW, IGNORE, READONLY, PENDING, SUCCESS,
-- MERGED, IGNORED, FAILED, REQUEUE, REQUEUED.
create table salesforce._trigger_log (
    id integer not null default nextval('salesforce._trigger_log_id_seq') primary key,
    txid bigint,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    processed_at timestamptz,
    processed_tx bigint,
    state varchar(8),
    action varchar(7),
    table_name varchar(128),
    record_id integer,
    sfid varchar(18),
    old text,
    "values" text,
    sf_result integer,
    sf_message text
);

alter sequence salesforce._trigger_log_id_seq owned by salesforce._trigger_log.id;

create index _trigger_log_idx_created_at
    on salesforce._trigger_log (created_at);

create index _trigger_log_idx_state_id
    on salesforce._trigger_log (state, id);

create index _trigger_log_idx_state_table_name
    on salesforce._trigger_log (state, table_name)
    where state in ('NEW', 'PENDING');

-- Where finished entries are moved after a while. Nothing in the stand-in moves them.
create table salesforce._trigger_log_archive (
    id integer not null primary key,
    txid bigint,
    created_at timestamptz,
    updated_at timestamptz,
    processed_at timestamptz,
    processed_tx bigint,
    state varchar(8),
    action varchar(7),
    table_name varchar(128),
    record_id integer,
    sfid varchar(18),
    old text,
    "values" text,
    sf_result integer,
    sf_message text
);

create index _trigger_log_archive_idx_created_at
    on salesforce._trigger_log_archive (created_at);

create index _trigger_log_archive_idx_state_id
    on salesforce._trigger_log_archive (state, id);

create index _trigger_log_archive_idx_state_table_name
    on salesforce._trigger_log_archive (state, table_name)
    where state in ('NEW', 'PENDING');


-- Mapped tables -----------------------------------------------------------------------------------
-- Everything but id may be null, and there are no foreign keys, checks or defaults.

create sequence salesforce.editor__c_id_seq as integer;

create table salesforce.editor__c (
    createddate timestamp,
    isdeleted boolean,
    name varchar(80),
    systemmodstamp timestamp,
    editoruuid__c varchar(36),
    editorreference__c varchar(255),
    addressline1__c varchar(255),
    addressline2__c varchar(255),
    editormunicipality__c varchar(255),
    editoradministrativearea__c varchar(255),
    postcode__c varchar(40),
    countrycode__c varchar(20),
    verifiedat__c timestamp,
    createdat__c timestamp,
    updatedat__c timestamp,
    rejectedat__c timestamp,
    website__c varchar(255),
    userorigin__c varchar(255),
    districtnamesupplied__c varchar(255),
    ncesid__c varchar(255),
    schoolrollnumber__c varchar(255),
    status__c varchar(255),
    sfid varchar(18),
    id integer not null default nextval('salesforce.editor__c_id_seq') primary key,
    _hc_lastop varchar(32),
    _hc_err text
);

alter sequence salesforce.editor__c_id_seq owned by salesforce.editor__c.id;

create unique index hcu_idx_editor__c_sfid
    on salesforce.editor__c (sfid);

create unique index hcu_idx_editor__c_editoruuid__c
    on salesforce.editor__c (editoruuid__c);

create index hc_idx_editor__c_systemmodstamp
    on salesforce.editor__c (systemmodstamp);

create sequence salesforce.contact_editor_affiliation__c_id_seq as integer;

create table salesforce.contact_editor_affiliation__c (
    createddate timestamp,
    isdeleted boolean,
    name varchar(80),
    systemmodstamp timestamp,
    affiliation_id__c varchar(36),
    -- Relationships by external id: the type of the parent's external id, and no index.
    contact__r__pi_accounts_unique_id__c varchar(36),
    editor__r__editoruuid__c varchar(36),
    roletype__c varchar(255),
    createdat__c timestamp,
    updatedat__c timestamp,
    sfid varchar(18),
    id integer not null default nextval('salesforce.contact_editor_affiliation__c_id_seq') primary key,
    _hc_lastop varchar(32),
    _hc_err text
);

alter sequence salesforce.contact_editor_affiliation__c_id_seq
    owned by salesforce.contact_editor_affiliation__c.id;

create unique index hcu_idx_contact_editor_affiliation__c_sfid
    on salesforce.contact_editor_affiliation__c (sfid);

create unique index hcu_idx_contact_editor_affiliation__c_affiliation_id__c
    on salesforce.contact_editor_affiliation__c (affiliation_id__c);

create index hc_idx_contact_editor_affiliation__c_systemmodstamp
    on salesforce.contact_editor_affiliation__c (systemmodstamp);

create sequence salesforce.contact_id_seq as integer;

create table salesforce.contact (
    createddate timestamp,
    isdeleted boolean,
    name varchar(121),
    systemmodstamp timestamp,
    firstname varchar(40),
    lastname varchar(80),
    email varchar(80),
    pi_accounts_unique_id__c varchar(36),
    editoragreetouxcontact__c boolean,
    sfid varchar(18),
    id integer not null default nextval('salesforce.contact_id_seq') primary key,
    _hc_lastop varchar(32),
    _hc_err text
);

alter sequence salesforce.contact_id_seq owned by salesforce.contact.id;

create unique index hcu_idx_contact_sfid
    on salesforce.contact (sfid);

create unique index hcu_idx_contact_pi_accounts_unique_id__c
    on salesforce.contact (pi_accounts_unique_id__c);

create index hc_idx_contact_systemmodstamp
    on salesforce.contact (systemmodstamp);


-- Triggers ----------------------------------------------------------------------------------------
-- get_xmlbinary() and hstore() are called unqualified and the functions set no search path of their
-- own: as with the real thing, a client that empties its search path cannot write at all.

-- The row's state. A user cannot choose it: each write makes the row PENDING, one that changes
-- nothing included. Heroku Connect's own writes end as SYNCED unless they set another value.
create function salesforce.hc_status() returns trigger
language plpgsql as $$
begin
    if get_xmlbinary() = 'base64' then
        new._hc_lastop := 'PENDING';
        new._hc_err := null;
        return new;
    end if;

    if tg_op = 'INSERT' and new._hc_lastop is not null then
        return new;
    end if;
    -- As in the real trigger, "another value" is one that differs from the row's present one.
    if tg_op = 'UPDATE' and new._hc_lastop is not null and new._hc_lastop is distinct from old._hc_lastop then
        return new;
    end if;
    new._hc_lastop := 'SYNCED';
    new._hc_err := null;
    return new;
end
$$;

-- The log entry of a user's write: an insert with all columns, an update with the old row and what
-- changed, a delete with the old row. Two kinds are logged but never sent: an update that changes
-- nothing, and the delete of a row that Salesforce never knew.
create function salesforce.hc_logger() returns trigger
language plpgsql as $$
declare
    own_columns constant text[] := array['_hc_lastop', '_hc_err'];
    entry salesforce._trigger_log;
begin
    entry.id := nextval('salesforce._trigger_log_id_seq');
    entry.txid := txid_current();
    entry.created_at := clock_timestamp();
    entry.updated_at := entry.created_at;
    entry.state := 'NEW';
    entry.action := tg_op;
    entry.table_name := tg_table_name;

    if tg_op = 'INSERT' then
        entry.record_id := new.id;
        entry."values" := hstore(new) - own_columns;
    elsif tg_op = 'UPDATE' then
        entry.record_id := new.id;
        entry.sfid := old.sfid;
        entry.old := hstore(old) - own_columns;
        entry."values" := (hstore(new) - hstore(old)) - own_columns;
        if entry."values" = '' then
            entry.state := 'IGNORE';
        end if;
    else
        entry.record_id := old.id;
        entry.sfid := old.sfid;
        entry.old := hstore(old) - own_columns;
        if old.sfid is null then
            entry.state := 'IGNORE';
        end if;
    end if;

    insert into salesforce._trigger_log
    select entry.*;
    return null;
end
$$;

-- Wakes Heroku Connect. It is notified of every entry, even of those that it ignores.
create function salesforce.tlog_notify_trigger() returns trigger
language plpgsql as $$
begin
    perform pg_notify('salesforce.hc_trigger_log', 'ping');
    return null;
end
$$;

create trigger tlog_insert_trigger
    after insert on salesforce._trigger_log
    for each row
    execute function salesforce.tlog_notify_trigger();

create trigger hc_editor__c_status_trigger
    before insert or update on salesforce.editor__c
    for each row
    execute function salesforce.hc_status();

create trigger hc_editor__c_logtrigger
    after insert or update or delete on salesforce.editor__c
    for each row
    when (public.get_xmlbinary() = 'base64')
    execute function salesforce.hc_logger();

create trigger hc_contact_editor_affiliation__c_status_trigger
    before insert or update on salesforce.contact_editor_affiliation__c
    for each row
    execute function salesforce.hc_status();

create trigger hc_contact_editor_affiliation__c_logtrigger
    after insert or update or delete on salesforce.contact_editor_affiliation__c
    for each row
    when (public.get_xmlbinary() = 'base64')
    execute function salesforce.hc_logger();

create trigger hc_contact_status_trigger
    before insert or update on salesforce.contact
    for each row
    execute function salesforce.hc_status();

create trigger hc_contact_logtrigger
    after insert or update or delete on salesforce.contact
    for each row
    when (public.get_xmlbinary() = 'base64')
    execute function salesforce.hc_logger();


-- Cures -------------------------------------------------------------------------------------------
-- What Heroku offers to send a failed row again: an entry made from the row as it is, so that no
-- write has to change a value. Example:
--     select salesforce.hc_capture_update_from_row(hstore(row.*), 'editor__c')
--     from salesforce.editor__c as row
--     where row._hc_lastop = 'FAILED' and row.sfid is not null

create function salesforce.hc_capture_insert_from_row(
    source_row public.hstore,
    table_name varchar,
    excluded_cols text[] default array[]::text[]
) returns integer
language plpgsql as $$
declare
    entry_id integer;
begin
    if source_row -> 'id' is null then
        return null;
    end if;
    insert into salesforce._trigger_log (txid, created_at, state, action, table_name, record_id, "values")
    values (
        txid_current(),
        clock_timestamp(),
        'NEW',
        'INSERT',
        table_name,
        (source_row -> 'id')::integer,
        (source_row - (excluded_cols || array['_hc_lastop', '_hc_err']))::text
    )
    returning id into entry_id;
    return entry_id;
end
$$;

-- No column named means all of them.
create function salesforce.hc_capture_update_from_row(
    source_row public.hstore,
    table_name varchar,
    columns_to_include text[] default array[]::text[]
) returns integer
language plpgsql as $$
declare
    sent public.hstore := source_row - array['_hc_lastop', '_hc_err'];
    entry_id integer;
begin
    if source_row -> 'id' is null then
        return null;
    end if;
    if cardinality(columns_to_include) > 0 then
        sent := slice(sent, columns_to_include);
    end if;
    insert into salesforce._trigger_log (txid, created_at, state, action, table_name, record_id, sfid, "values")
    values (
        txid_current(),
        clock_timestamp(),
        'NEW',
        'UPDATE',
        table_name,
        (source_row -> 'id')::integer,
        source_row -> 'sfid',
        sent::text
    )
    returning id into entry_id;
    return entry_id;
end
$$;
