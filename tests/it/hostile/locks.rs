//! Locks and the queue of notices, which every role that may connect can use.

use schoolbell::demo::cluster::Options;
use std::sync::Arc;
use std::time::Duration;

use schoolbell::bell::{self, Heard, Wishes};
use schoolbell::postgres::db::Database;
use schoolbell::postgres::name::literal;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::schema::{remedies, result};
use crate::capture::recorded::Listener;
use crate::hostile::privileges::{Roles, as_role, granted};
use crate::support::left_out;
use crate::support::{TestBell, eventually};

/// "SCHBWRIT" and "SCHBBELL", as everybody can read them in the sources.
const WRITER_LOCK: i64 = 0x5343_4842_5752_4954;
const BELL_LOCK: i64 = 0x5343_4842_4245_4c4c;

/// What a listener hears, it hears within seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// "SCHBMIGR".
const MIGRATE_LOCK: i64 = 0x5343_4842_4d49_4752;

/// A role that may connect, and do nothing else.
async fn nobody(bell: &TestBell) -> String {
    let nobody = format!("nobody_{}", bell.source_name);
    bell.on_every_server(&format!("create role {nobody} login")).await;
    nobody
}

async fn connect(url: &str, role: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(&as_role(url, role), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Takes the writer's lock under a name.
async fn take_writer_lock(bell: &TestBell, role: &str, name: &str) -> Client {
    let session = connect(&bell.target_url(), role).await;
    session.batch_execute(&format!("set application_name = '{name}'")).await.unwrap();
    session.query_one("select pg_advisory_lock($1)", &[&WRITER_LOCK]).await.unwrap();
    session
}

/// What every command reports while a session that is no writer holds the lock.
async fn is_reported_everywhere(bell: &TestBell, roles: &Roles, role: &str) {
    let told = format!("of role {role}");

    let status = roles.run(bell, &["status"]).await;
    assert_eq!(status.code, 1, "{status}");
    assert!(status.stdout.starts_with("now        Writing is blocked"), "{status}");
    assert!(
        status.stdout.contains(&told) && status.stdout.contains("pg_terminate_backend"),
        "{status}"
    );
    let drained = roles.run(bell, &["run", "--drain"]).await;
    assert_eq!(drained.code, 1, "changes are left: {drained}");
    assert!(drained.stderr.contains(&told), "{drained}");
    let resync = roles.run(bell, &["resync"]).await;
    assert!(resync.code == 2 && resync.stderr.contains(&told), "it does not wait: {resync}");
    let doctor = roles.run(bell, &["doctor", "--json"]).await;
    assert_eq!(result(&doctor.stdout, "writer"), "failed", "{doctor}");
}

#[tokio::test]
async fn a_prepared_transaction_with_a_lock_of_ours_is_named_and_ended_by_what_is_printed() {
    let (bell, roles) = granted().await;
    let nobody = nobody(&bell).await;
    let (forged, innocent) =
        (format!("it's {}", bell.target_name), format!("other {}", bell.target_name));
    for (name, lock) in [(&innocent, 1), (&forged, WRITER_LOCK)] {
        let session = connect(&bell.target_url(), &nobody).await;
        session
            .batch_execute(&format!("begin; select pg_advisory_xact_lock({lock})"))
            .await
            .unwrap();
        session.batch_execute(&format!("prepare transaction {}", literal(name))).await.unwrap();
    }

    let status = roles.run(&bell, &["status"]).await;
    let named = format!("prepared transaction {forged:?} of role {nobody}");
    assert!(status.code == 1 && status.stdout.contains(&named), "{status}");
    let doctor = roles.run(&bell, &["doctor", "--json"]).await;
    let remedies = remedies(&doctor.stdout, "writer");
    assert_eq!(remedies, [format!("rollback prepared {};", literal(&forged))]);
    bell.target_sql(&remedies[0]).await;

    let doctor = roles.run(&bell, &["doctor", "--json"]).await;
    assert_ne!(result(&doctor.stdout, "writer"), "failed", "{doctor}");
    bell.target_sql(&format!("rollback prepared {}", literal(&innocent))).await;
}

#[tokio::test]
async fn a_stranger_with_the_writer_s_lock_is_never_taken_for_the_writer() {
    let (mut bell, roles) = granted().await;
    let nobody = nobody(&bell).await;
    bell.insert_school("Acme").await;
    // What the writer calls itself, and what it does not.
    let forged = "schoolbell writer web.1/1 since 2026-01-01T00:00:00Z";
    // The auditor and the application may read or write something, but not all that the writer must.
    let auditor = format!("auditor_{}", bell.source_name);
    bell.on_every_server(&format!("create role {auditor} login")).await;
    bell.target_sql(&format!(
        "grant usage on schema salesforce to {auditor}; grant select on all tables in schema salesforce to {auditor}; \
         grant update on salesforce.contact to {auditor}"
    ))
    .await;

    let only = |right: &str| format!("only_{right}_{}", bell.source_name);
    let (updates, inserts) = (only("update"), only("insert"));
    for (role, right) in [(&updates, "update"), (&inserts, "insert")] {
        bell.on_every_server(&format!("create role {role} login")).await;
        bell.target_sql(&format!(
            "grant usage on schema salesforce to {role}; \
             grant {right} on all tables in schema salesforce to {role}"
        ))
        .await;
    }

    for (role, names) in [
        (&nobody, &[forged, "psql", ""][..]),
        (&auditor, &[forged]),
        (&updates, &[forged]),
        (&inserts, &[forged]),
    ] {
        for name in names {
            let session = take_writer_lock(&bell, role, name).await;
            is_reported_everywhere(&bell, &roles, role).await;

            // What doctor prints ends it.
            let doctor = roles.run(&bell, &["doctor", "--json"]).await;
            for remedy in remedies(&doctor.stdout, "writer") {
                bell.target_sql(&remedy).await;
            }
            eventually("the session is ended", || async {
                if session.is_closed() { Ok(()) } else { Err("not yet") }
            })
            .await;
        }
    }

    let drained = roles.run(&bell, &["run", "--drain"]).await;
    assert_eq!(drained.code, 0, "{drained}");
    // The page of a service that stands by because of it.
    let session = take_writer_lock(&bell, &nobody, forged).await;
    bell.service_starts();
    let visitor = bell.visitor().await;
    eventually("readiness names the stranger", || async {
        let answer = visitor.get("/readyz").await;
        match answer.status == 503 && answer.body.contains(&format!("of role {nobody}")) {
            true => Ok(()),
            false => Err(answer),
        }
    })
    .await;
    visitor.measures("schoolbell_lock_strangers{lock=\"writer\"}", 1.0).await;
    visitor.measures("schoolbell_writers", 0.0).await;
    drop(session);
    visitor.becomes("/readyz", 200).await;
}

/// As when somebody tries the lock out in psql, with the service's own role.
#[tokio::test]
async fn a_session_that_may_write_and_does_not_say_that_it_is_the_writer_is_none() {
    let (bell, roles) = granted().await;
    bell.insert_school("Acme").await;
    let _session = take_writer_lock(&bell, &roles.bridge, "psql").await;

    is_reported_everywhere(&bell, &roles, &roles.bridge).await;
}

#[tokio::test]
async fn a_writer_with_another_role_that_may_write_is_a_writer() {
    let (bell, roles) = granted().await;
    bell.insert_school("Acme").await;
    // As after a rotation of credentials: the former role's process is still at work.
    let former = format!("former_{}", bell.source_name);
    bell.on_every_server(&format!("create role {former} login in role {}", roles.bridge)).await;
    let _writer =
        take_writer_lock(&bell, &former, "schoolbell writer web.1/1 since 2026-01-01T00:00:00Z")
            .await;

    let status = roles.run(&bell, &["status"]).await;
    assert!(status.stdout.contains("writer     web.1/1 since 2026-01-01T00:00:00Z"), "{status}");
    let drained = roles.run(&bell, &["run", "--drain"]).await;
    assert_eq!(drained.code, 1, "it is left to the other, and not done: {drained}");
    assert!(drained.stderr.contains("1 change not applied yet"), "{drained}");
}

/// Its service keeps working on everything else, and is no stranger to its own commands.
#[tokio::test]
async fn a_writer_that_lacks_a_right_is_still_the_writer() {
    let (bell, roles) = granted().await;
    let _writer = take_writer_lock(
        &bell,
        &roles.bridge,
        "schoolbell writer web.1/1 since 2026-01-01T00:00:00Z",
    )
    .await;
    for right in ["update", "insert", "select, insert, update"] {
        bell.target_sql(&format!("revoke {right} on salesforce.editor__c from {}", roles.bridge))
            .await;

        let status = roles.run(&bell, &["status"]).await;

        assert!(status.stdout.contains("writer     web.1/1 since 2026"), "{right}: {status}");
    }
}

#[tokio::test]
async fn a_stranger_with_the_doorbell_s_lock_is_named_and_the_service_polls_calmly() {
    for mode in ["pg_advisory_lock", "pg_advisory_lock_shared"] {
        let (mut bell, roles) = granted().await;
        let nobody = nobody(&bell).await;
        let session = connect(&bell.source_url(), &nobody).await;
        session.query_one(&format!("select {mode}($1)"), &[&BELL_LOCK]).await.unwrap();
        let told = format!("of role {nobody}");

        let status = roles.run(&bell, &["status"]).await;
        assert!(status.code == 1 && status.stdout.contains(&told), "{mode}: {status}");
        let doctor = roles.run(&bell, &["doctor", "--json"]).await;
        assert_eq!(result(&doctor.stdout, "bell_lock"), "failed", "{mode}: {doctor}");

        // The service continues, and what is written arrives.
        bell.pace.bell_patience = Duration::from_millis(100);
        let log = crate::support::log::Log::listen();
        bell.service_starts();
        let school = bell.insert_school("Acme").await;
        bell.caught_up().await;
        assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [school]);
        eventually("the stranger is reported", || async {
            if log.lines(&told).is_empty() { Err("not yet") } else { Ok(()) }
        })
        .await;
        let visitor = bell.visitor().await;
        visitor.measures("schoolbell_lock_strangers{lock=\"bell\"}", 1.0).await;

        // What doctor prints ends it, and then the bell is armed.
        for remedy in remedies(&doctor.stdout, "bell_lock") {
            bell.source_sql(&remedy).await;
        }
        bell.asleep().await;
        let status = roles.run(&bell, &["status"]).await;
        assert!(!status.stdout.contains(&told), "{mode}: {status}");
    }
}

/// Whose lock it is shows by the right, the name and the mode together; none of them is enough alone.
#[tokio::test]
async fn a_session_with_the_doorbell_s_lock_is_a_stranger_unless_it_could_be_the_listener() {
    let (bell, roles) = granted().await;
    let nobody = nobody(&bell).await;
    let ours = "schoolbell service";
    for (role, name, mode, is_stranger) in [
        (&roles.bell, ours, "pg_advisory_lock", false),
        (&nobody, ours, "pg_advisory_lock", true),
        (&roles.bell, "psql", "pg_advisory_lock", true),
        (&roles.bell, ours, "pg_advisory_lock_shared", true),
    ] {
        let session = connect(&bell.source_url(), role).await;
        session.batch_execute(&format!("set application_name = '{name}'")).await.unwrap();
        session.query_one(&format!("select {mode}($1)"), &[&BELL_LOCK]).await.unwrap();

        let doctor = roles.run(&bell, &["doctor", "--json"]).await;

        let expected = if is_stranger { "failed" } else { "ok" };
        assert_eq!(result(&doctor.stdout, "bell_lock"), expected, "{role} {name} {mode}: {doctor}");
        let unlock = mode.replace("lock", "unlock");
        session.query_one(&format!("select {unlock}($1)"), &[&BELL_LOCK]).await.unwrap();
    }
    // Another's lock on the outbox is no excuse.
    let writer = connect(&bell.source_url(), &roles.app).await;
    let lock = "begin; lock table schoolbell.change in row exclusive mode";
    bell.source_sql(&format!("grant usage on schema schoolbell to {}", roles.app)).await;
    bell.source_sql(&format!("grant insert on schoolbell.change to {}", roles.app)).await;
    writer.batch_execute(lock).await.unwrap();
    let session = connect(&bell.source_url(), &nobody).await;
    session.query_one("select pg_advisory_lock_shared($1)", &[&BELL_LOCK]).await.unwrap();
    let doctor = roles.run(&bell, &["doctor", "--json"]).await;
    assert_eq!(result(&doctor.stdout, "bell_lock"), "failed", "{doctor}");
}

#[tokio::test]
async fn the_worker_is_told_while_a_stranger_keeps_the_bell_from_being_armed() {
    let bell = TestBell::installed().await;
    let stranger = bell.source_session().await;
    stranger.query_one("select pg_advisory_lock_shared($1)", &[&BELL_LOCK]).await.unwrap();
    let database = Database::new(bell.config().source, "test").unwrap();
    let (_wishes, wished) = watch::channel(Wishes { sleep: Some(1), doubts: 0 });
    let (heard, mut hear) = watch::channel(Heard::default());
    let (others, metrics) = (database.pool(1), Arc::default());
    let listening =
        tokio::spawn(bell::listen(database, others, wished, heard, metrics, Duration::ZERO));

    let mut hears = async |what: &str, wanted: fn(&Heard) -> bool| {
        let heard = timeout(DEADLINE, hear.wait_for(wanted)).await;
        heard.unwrap_or_else(|_| panic!("it never hears that {what}")).unwrap();
    };
    hears("it is blocked", |heard| heard.blocked && heard.armed.is_none()).await;
    drop(stranger);
    hears("the bell is armed", |heard| !heard.blocked && heard.armed == Some(1)).await;
    listening.abort();
}

#[tokio::test]
async fn writers_in_open_or_prepared_transactions_are_no_strangers_to_the_doorbell() {
    let (bell, roles) = granted().await;
    let writer = connect(&bell.source_url(), &roles.app).await;
    let insert = "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
                  values ('Acme', '1 Road', 'Town', 'GB', 'w', now(), now())";
    writer.batch_execute(&format!("begin; {insert}")).await.unwrap();
    let prepared = connect(&bell.source_url(), &roles.app).await;
    let name = &bell.source_name;
    prepared
        .batch_execute(&format!("begin; {insert}; prepare transaction '{name}'"))
        .await
        .unwrap();

    let status = roles.run(&bell, &["status"]).await;
    assert!(!status.stdout.contains("doorbell's lock"), "{status}");
    let doctor = roles.run(&bell, &["doctor", "--json"]).await;
    assert_eq!(result(&doctor.stdout, "bell_lock"), "ok", "{doctor}");
    bell.source_sql(&format!("rollback prepared '{name}'")).await;
}

/// Makes the queue look this full. A real one takes gigabytes before PostgreSQL 17. As far as the
/// server says. What a function does that is built in becomes part of the plans that call it, and
/// these do not notice another one; a schema that comes or goes makes all of them again.
async fn queue_is_filled(bell: &TestBell, share: &str) {
    bell.source_sql(&format!(
        "create or replace function pg_catalog.pg_notification_queue_usage() returns float8 language sql volatile as \
         $$select {share}::float8$$; create schema plans_are_made_anew; drop schema plans_are_made_anew"
    ))
    .await;
}

#[tokio::test]
async fn nobody_rings_while_the_queue_of_notices_fills_up_and_no_change_waits_for_long() {
    let mut bell = TestBell::installed().await;
    queue_is_filled(&bell, "0.5").await;
    let mut listener = Listener::start(&bell).await;
    for mode in ["doorbell", "always"] {
        bell.run_ok(&["migrate", "--notify", mode]).await;
        // The lock is held, so the writers believe that the service sleeps.
        let sleeper = bell.source_session().await;
        sleeper.query_one("select pg_advisory_lock($1)", &[&BELL_LOCK]).await.unwrap();
        bell.insert_school("Acme").await;
        bell.source_sql("update schools set name = name || '!'; delete from schools").await;
        // Everything that rang came before this.
        bell.source_sql("notify schoolbell, 'end'").await;
        assert!(listener.until("end").await.is_empty(), "{mode}");
    }

    let status = bell.run(&["status"]).await;
    assert!(
        status.code == 1 && status.stdout.contains("the queue of notices is 50 % full"),
        "{status}"
    );
    bell.service_starts();
    let school = bell.insert_school("Acme").await;
    bell.caught_up().await;
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [school]);
    assert!(!bell.armed().await, "nobody would ring");

    queue_is_filled(&bell, "0.49").await;
    bell.asleep().await;
}

/// From PostgreSQL 17 the queue can be made small enough to be filled.
#[tokio::test]
async fn a_queue_of_notices_that_is_really_full_breaks_no_write() {
    let Some(programs) = left_out::programs(left_out::NEW_SERVER) else { return };
    let settings = vec!["max_notify_queue_pages = 64".to_string()];
    let programs = Some(programs);
    let bell = TestBell::in_a_cluster_with(Options { settings, programs, ..Options::open() }).await;
    let sleeper = bell.source_session().await;
    sleeper.query_one("select pg_advisory_lock($1)", &[&BELL_LOCK]).await.unwrap();
    // It listens and does not read: nothing of the queue may go.
    let deaf = bell.source_session().await;
    deaf.batch_execute("listen other").await.unwrap();
    deaf.batch_execute("begin; select 1").await.unwrap();
    let fill = "select pg_notify('other', repeat('x', 7000) || g) from generate_series(1, 20) g";
    let mut fillings = 0..100;
    while fillings.next().is_some() && bell.source.batch_execute(fill).await.is_ok() {}
    assert!(bell.source.batch_execute(fill).await.is_err(), "it is full");

    for number in 0..50 {
        bell.insert_school(&format!("School {number}")).await;
    }
    bell.source_sql("update schools set name = name || '!'; delete from schools").await;

    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 150);
}

#[tokio::test]
async fn a_stranger_with_the_lock_of_migrate_is_named_and_not_waited_for() {
    let (bell, roles) = granted().await;
    let nobody = nobody(&bell).await;
    let session = connect(&bell.source_url(), &nobody).await;
    session.query_one("select pg_advisory_lock_shared($1)", &[&MIGRATE_LOCK]).await.unwrap();
    let owner = as_role(&bell.source_url(), &roles.owner);

    for command in [&["migrate"][..], &["uninstall", "--yes"]] {
        let ended = bell.run(&[command, &["--source-url", &owner]].concat()).await;
        let told = ended.stderr.contains(&format!("of role {nobody}"))
            && ended.stderr.contains("pg_terminate_backend");
        assert!(ended.code == 2 && told, "{ended}");
    }
}
