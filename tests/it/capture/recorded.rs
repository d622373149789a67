//! Capture: what the triggers record, what they leave alone, and when they ring.

use crate::support::{TestBell, eventually};

/// The outbox in the order of capture, one sentence per change.
async fn changes(bell: &TestBell) -> Vec<String> {
    bell.source_texts(
        "select concat_ws(' ', operation, source_table, keys ->> 'id', keys ->> 'creator_id') \
         from schoolbell.change order by xact, id",
    )
    .await
}

#[tokio::test]
async fn insert_update_and_delete_each_leave_one_change_with_the_keys() {
    let bell = TestBell::installed().await;

    let school = bell.insert_school("Acme").await;
    bell.source_sql("update schools set name = 'Beta'").await;
    let creator = bell.source_texts("select creator_id::text from schools").await.remove(0);
    bell.source_sql("delete from schools").await;

    let changes = changes(&bell).await;
    assert_eq!(
        changes,
        ["INSERT", "UPDATE", "DELETE"].map(|op| format!("{op} public.schools {school} {creator}"))
    );
}

#[tokio::test]
async fn truncate_leaves_one_change_without_keys() {
    let bell = TestBell::installed().await;
    bell.insert_school("Acme").await;
    bell.source_sql("delete from schoolbell.change").await;

    bell.source_sql("truncate schools").await;

    assert_eq!(changes(&bell).await, ["TRUNCATE public.schools"]);
}

#[tokio::test]
async fn an_update_of_columns_that_no_mapping_names_is_not_captured() {
    let bell = TestBell::installed().await;
    bell.insert_school("Acme").await;
    bell.source_sql("delete from schoolbell.change").await;

    bell.source_sql("update schools set creator_department = 'x', code = 'y', creator_role = 'z'")
        .await;

    assert!(changes(&bell).await.is_empty());
}

#[tokio::test]
async fn an_update_is_captured_for_all_objects_that_it_matters_to_and_no_other() {
    let bell = TestBell::installed().await;
    bell.insert_school("Acme").await;
    let mut captured = Vec::new();
    for (column, value) in [
        ("name", "'Beta'"),
        ("creator_agree_to_ux_contact", "true"),
        // The contact's winner depends on it, too.
        ("updated_at", "now()"),
        ("name, creator_agree_to_ux_contact", "'Gamma', false"),
        ("name, updated_at", "'Delta', '2026-01-01'"),
    ] {
        bell.source_sql("delete from schoolbell.change").await;
        bell.source_sql(&format!("update schools set ({column}) = row({value})")).await;
        let concerns = "select coalesce(concerns, 'all') from schoolbell.change order by 1";
        captured.push(bell.source_texts(concerns).await.join(" and "));
    }

    assert_eq!(captured, ["school", "contact", "all", "contact and school", "all"]);
}

#[tokio::test]
async fn an_update_that_changes_nothing_is_not_captured() {
    let bell = TestBell::installed().await;
    bell.insert_school("Acme").await;
    bell.source_sql("delete from schoolbell.change").await;

    bell.source_sql(
        "update schools set name = name, reference = reference, updated_at = updated_at",
    )
    .await;

    assert!(changes(&bell).await.is_empty());
}

/// A column's type, and two values that are equal and not the same.
const EQUAL_AND_NOT_THE_SAME: [(&str, &str, &str); 6] = [
    ("numeric", "1.0", "1.00"),
    ("double precision", "0", "'-0'"),
    ("interval", "'1 day'", "'24 hours'"),
    ("text collate without_capitals", "'Acme'", "'ACME'"),
    ("numeric[]", "'{1.0}'", "'{1.00}'"),
    // It has no equality of its own.
    ("json", "'{}'", "'[]'"),
];

#[tokio::test]
async fn a_change_that_the_type_itself_calls_equal_is_captured() {
    for (type_name, before, after) in EQUAL_AND_NOT_THE_SAME {
        let bell = TestBell::bare().await;
        bell.source_sql(&format!(
            "create collation without_capitals (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
             drop index index_schools_on_reference; \
             alter table schools alter column reference type {type_name} using null"
        ))
        .await;
        bell.run_ok(&["migrate"]).await;
        bell.insert_school("Acme").await;
        let set = |value| format!("update schools set reference = {value}");
        bell.source_sql(&format!("{}; delete from schoolbell.change", set(before))).await;

        bell.source_sql(&set(after)).await;

        assert_eq!(changes(&bell).await.len(), 1, "{type_name}");
    }
}

/// Until `migrate` has looked at the table again. The session is the same, as an application's is.
#[tokio::test]
async fn a_watched_column_that_is_renamed_or_dropped_or_gets_another_type_makes_no_write_fail() {
    for change in [
        "alter table schools rename column name to title",
        "alter table schools drop column name",
        "alter table schools alter column name type json using to_json(name)",
        "alter table schools alter column updated_at type text",
    ] {
        let bell = TestBell::installed().await;
        bell.insert_school("Acme").await;
        bell.source_sql("update schools set name = 'Beta', website = 'b'").await;
        bell.source_sql(change).await;
        bell.source_sql("delete from schoolbell.change").await;

        bell.source_sql("update schools set website = 'c'").await;

        assert_eq!(changes(&bell).await.len(), 1, "{change}");
    }
}

#[tokio::test]
async fn a_column_by_which_changes_are_recorded_cannot_be_dropped_by_mistake() {
    let bell = TestBell::installed().await;

    let refused = bell.source.batch_execute("alter table schools drop column creator_id").await;

    let refused = refused.unwrap_err();
    let said = refused.as_db_error().unwrap();
    assert!(said.detail().unwrap().contains("schoolbell_delete"), "{said:?}");
}

#[tokio::test]
async fn a_statement_that_touches_no_row_captures_nothing() {
    let bell = TestBell::installed().await;

    bell.source_sql("update schools set name = 'x'; delete from schools; delete from roles").await;

    assert!(changes(&bell).await.is_empty());
}

#[tokio::test]
async fn a_changed_key_is_captured_as_it_was_and_as_it_is() {
    let bell = TestBell::installed().await;
    let school = bell.insert_school("Acme").await;
    let creator = bell.source_texts("select creator_id::text from schools").await.remove(0);
    bell.source_sql("delete from schoolbell.change").await;
    let (other_id, other_creator) =
        ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002");

    bell.source_sql(&format!("update schools set creator_id = '{other_creator}'")).await;
    bell.source_sql(&format!("update schools set id = '{other_id}'")).await;

    assert_eq!(
        changes(&bell).await,
        [
            format!("UPDATE public.schools {school} {creator}"),
            format!("UPDATE public.schools {school} {other_creator}"),
            format!("UPDATE public.schools {school} {other_creator}"),
            format!("UPDATE public.schools {other_id} {other_creator}"),
        ]
    );
}

#[tokio::test]
async fn the_outbox_holds_keys_and_no_contents() {
    let bell = TestBell::installed().await;

    bell.insert_school("Marker of contents").await;
    bell.source_sql("update schools set website = 'https://marker.example'").await;

    let outbox = bell.source_texts("select change::text from schoolbell.change").await.join("\n");
    assert!(!outbox.to_lowercase().contains("marker"), "{outbox}");
}

#[tokio::test]
async fn a_rolled_back_write_leaves_no_change() {
    let bell = TestBell::installed().await;

    bell.source_sql("begin").await;
    bell.insert_school("Acme").await;
    bell.source_sql("rollback").await;

    assert!(changes(&bell).await.is_empty());
}

#[tokio::test]
async fn an_application_role_without_any_grant_of_ours_is_captured() {
    let bell = TestBell::installed().await;
    let role = format!("app_{}", bell.source_name);
    bell.source_sql(&format!(
        "create role {role}; grant select, insert, update, delete on schools, roles to {role}; set role {role}"
    ))
    .await;

    let school = bell.insert_school("Acme").await;

    bell.source_sql(&format!("reset role; drop owned by {role}; drop role {role}")).await;
    assert!(changes(&bell).await[0].starts_with(&format!("INSERT public.schools {school}")));
}

#[tokio::test]
async fn a_hostile_search_path_does_not_change_what_capture_does() {
    let bell = TestBell::installed().await;
    bell.source_sql(
        "create schema evil; \
         create function evil.jsonb_build_object(text, uuid, text, uuid) returns jsonb language sql as \
            'select null::jsonb'; \
         create function evil.pg_notify(text, text) returns void language plpgsql as \
            'begin raise exception ''hijacked''; end'; \
         create function evil.never(text, text) returns boolean language sql as 'select false'; \
         create operator evil.= (leftarg = text, rightarg = text, function = evil.never); \
         create operator evil.<> (leftarg = text, rightarg = text, function = evil.never); \
         create table evil.change (source_table text, concerns text, operation text, keys jsonb); \
         set search_path = evil, pg_catalog, public",
    )
    .await;

    let school = bell.insert_school("Acme").await;
    bell.source_sql("delete from public.schools").await;

    bell.source_sql("reset search_path").await;
    let changes = changes(&bell).await;
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes.iter().all(|change| change.contains(&school)), "{changes:?}");
    assert_eq!(bell.source_count("select count(*) from evil.change").await, 0);
}

/// The conditions' operators are looked up when the trigger is made.
#[tokio::test]
async fn a_hostile_search_path_of_whoever_migrates_does_not_change_what_is_captured() {
    let bell = TestBell::bare().await;
    bell.source_sql(&format!(
        "create schema evil; \
         create function evil.always(text, text) returns boolean language sql as 'select true'; \
         create operator evil.= (leftarg = text, rightarg = text, function = evil.always); \
         alter database {} set search_path = evil, pg_catalog, public",
        bell.source_name
    ))
    .await;
    bell.run_ok(&["migrate"]).await;
    bell.insert_school("Acme").await;

    bell.source_sql("delete from schoolbell.change; update public.schools set name = 'Beta'").await;

    assert_eq!(changes(&bell).await.len(), 1);
}

#[tokio::test]
async fn one_statement_of_a_hundred_thousand_rows_sends_one_short_notice() {
    let bell = TestBell::installed().await;
    bell.run_ok(&["migrate", "--notify", "always"]).await;
    let mut listener = Listener::start(&bell).await;

    bell.source_sql(
        "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         select 'School ' || n, 'Road', 'Town', 'GB', 'w', now(), now() from generate_series(1, 100000) n",
    )
    .await;
    bell.source_sql("notify schoolbell, 'end'").await;

    let payloads = listener.until("end").await;
    assert_eq!(payloads.len(), 1, "{payloads:?}");
    assert!(payloads[0].len() < 500, "{}", payloads[0]);
    let notice = schoolbell::bell::notice::Notice::decode(&payloads[0]).unwrap();
    assert_eq!((notice.table.as_str(), notice.op.as_str()), ("public.schools", "INSERT"));
}

#[tokio::test]
async fn with_nobody_asleep_no_writer_rings() {
    let bell = TestBell::installed().await;
    let mut listener = Listener::start(&bell).await;

    bell.insert_school("Acme").await;
    bell.source_sql("notify schoolbell, 'end'").await;

    assert!(listener.until("end").await.is_empty());
}

#[tokio::test]
async fn while_somebody_sleeps_every_transaction_rings() {
    let bell = TestBell::installed().await;
    let mut listener = Listener::start(&bell).await;
    let sleeper = bell.source_session().await;
    let lock = format!("select pg_advisory_lock({})", schoolbell::bell::BELL_LOCK);
    sleeper.batch_execute(&lock).await.unwrap();

    bell.insert_school("Acme").await;
    bell.source_sql("update schools set name = 'Beta'").await;
    bell.source_sql("notify schoolbell, 'end'").await;

    assert_eq!(listener.until("end").await.len(), 2);
}

/// A bulk write must not ring for every row.
#[tokio::test]
async fn a_transaction_rings_once_unless_its_ring_is_rolled_back() {
    for mode in ["doorbell", "always"] {
        let bell = TestBell::bare().await;
        bell.run_ok(&["migrate", "--notify", mode]).await;
        let mut listener = Listener::start(&bell).await;
        let sleeper = bell.source_session().await;
        let lock = format!("select pg_advisory_lock({})", schoolbell::bell::BELL_LOCK);
        sleeper.batch_execute(&lock).await.unwrap();

        bell.source_sql("begin; savepoint here").await;
        bell.insert_school("Taken back").await;
        bell.source_sql("rollback to here").await;
        bell.insert_school("Acme").await;
        bell.source_sql("update schools set name = 'Beta'").await;
        bell.source_sql("commit; notify schoolbell, 'end'").await;
        let once = listener.until("end").await;
        bell.source_sql("update schools set name = 'Gamma'; notify schoolbell, 'end'").await;
        let again = listener.until("end").await;

        assert_eq!((once.len(), again.len()), (1, 1), "{mode}: {once:?}, {again:?}");
    }
}

#[tokio::test]
async fn in_mode_never_a_two_phase_commit_is_captured_and_applied() {
    let mut bell = TestBell::installed().await;
    bell.run_ok(&["migrate", "--notify", "never"]).await;
    bell.service_starts();

    bell.source_sql("begin").await;
    let school = bell.insert_school("Acme").await;
    let transaction = &bell.source_name;
    bell.source_sql(&format!("prepare transaction '{transaction}'")).await;
    bell.source_sql(&format!("commit prepared '{transaction}'")).await;

    bell.caught_up().await;
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [school]);
}

/// A plain client that hears the channel, for tests of what the triggers send.
pub struct Listener {
    _client: tokio_postgres::Client,
    heard: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Listener {
    pub async fn start(bell: &TestBell) -> Self {
        let config: tokio_postgres::Config = bell.source_url().parse().unwrap();
        let (client, mut connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        let (sender, heard) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                if let tokio_postgres::AsyncMessage::Notification(notice) = message {
                    _ = sender.send(notice.payload().to_string());
                }
            }
        });
        client.batch_execute("listen schoolbell").await.unwrap();
        Self { _client: client, heard }
    }

    /// What was heard before this payload. Postgres delivers in the order of commits.
    pub async fn until(&mut self, end: &str) -> Vec<String> {
        let mut payloads = Vec::new();
        loop {
            match self.heard.recv().await.expect("the listener is connected") {
                payload if payload == end => return payloads,
                payload => payloads.push(payload),
            }
        }
    }
}

#[tokio::test]
async fn trigger_and_listener_understand_each_other() {
    // Nothing but a ring can wake this service: no sweep, no poll while asleep.
    let mut bell = TestBell::installed().await;
    bell.pace.sweep = std::time::Duration::from_secs(3600);
    bell.service_starts();
    bell.asleep().await;

    let school = bell.insert_school("Acme").await;

    bell.target_becomes("select editoruuid__c from salesforce.editor__c", &[&school]).await;
    eventually("the outbox is empty", || async {
        match bell.source_count("select count(*) from schoolbell.change").await {
            0 => Ok(()),
            left => Err(left),
        }
    })
    .await;
}
