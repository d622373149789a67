//! The doorbell: no wake-up is lost, no writer rings needlessly, polling alone delivers everything.

use std::time::Duration;

use crate::support::{TestBell, armed_bell, eventually, texts};

/// Longer than any test: nothing but a ring can wake the service.
const NEVER: Duration = Duration::from_secs(3600);

async fn without_sweep() -> TestBell {
    let mut bell = TestBell::installed().await;
    bell.pace.sweep = NEVER;
    bell.pace.quiet_poll = NEVER;
    bell.pace.awake = Duration::from_millis(3);
    bell.service_starts();
    bell
}

#[tokio::test]
async fn no_wake_up_is_lost_under_concurrent_long_and_rolled_back_transactions() {
    let bell = without_sweep().await;

    // Writers with pauses around the moment at which the service goes to sleep, and some with
    // transactions that last longer.
    let writers = (0..6_u64).map(|writer| {
        let name = bell.source_name.clone();
        let url = bell.source_url();
        tokio::spawn(async move {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            let mut random = fastrand::Rng::with_seed(writer);
            for round in 0..60 {
                let insert = format!(
                    "insert into schools (name, address_line_1, municipality, country_code, website, created_at, \
                     updated_at) values ('{name} {writer} {round}', 'R', 'T', 'GB', 'w', now(), now())"
                );
                let pause = random.u64(0..12);
                let end = if random.u8(0..4) == 0 { "rollback" } else { "commit" };
                client
                    .batch_execute(&format!("begin; {insert}; select pg_sleep({pause} / 1000.0); {end}"))
                    .await
                    .unwrap();
                client.batch_execute(&format!("select pg_sleep({} / 1000.0)", random.u64(0..12))).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }

    bell.caught_up().await;
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn a_change_that_was_open_while_the_bell_was_armed_is_found_when_it_commits() {
    let bell = without_sweep().await;
    let slow = bell.source_session().await;
    // It decides not to ring, because nobody is asleep yet.
    slow.batch_execute(
        "begin; insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         values ('Slow', 'R', 'T', 'GB', 'w', now(), now())",
    )
    .await
    .unwrap();
    let quick = bell.insert_school("Quick").await;
    bell.target_becomes("select editoruuid__c from salesforce.editor__c", &[&quick]).await;

    // The bell cannot be armed while it is open, however long the service has been idle.
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'";
    eventually("the service tries to arm the bell", || async {
        match bell.source_count(waits).await {
            0 => Err("it does not wait"),
            _ => Ok(()),
        }
    })
    .await;
    slow.batch_execute("commit").await.unwrap();

    bell.target_becomes("select count(*)::text from salesforce.editor__c", &["2"]).await;
    bell.asleep().await;
}

#[tokio::test]
async fn every_ring_of_a_sleeping_service_is_heard_again_and_again() {
    let bell = without_sweep().await;

    for round in 1..=20 {
        bell.asleep().await;
        bell.insert_school("Acme").await;
        bell.target_becomes(
            "select count(*)::text from salesforce.editor__c",
            &[&round.to_string()],
        )
        .await;
    }
}

#[tokio::test]
async fn a_service_that_is_awake_lets_writers_commit_without_ringing() {
    let mut bell = TestBell::installed().await;
    bell.pace.awake = Duration::from_secs(2);
    bell.service_starts();
    bell.asleep().await;

    bell.insert_school("Acme").await;

    let armed = format!("select count(*) from pg_locks where {}", armed_bell());
    eventually("the bell is disarmed", || async {
        match bell.source_count(&armed).await {
            0 => Ok(()),
            held => Err(held),
        }
    })
    .await;
}

#[tokio::test]
async fn polling_alone_delivers_everything() {
    let mut bell = TestBell::installed().await;
    bell.run_ok(&["migrate", "--notify", "never"]).await;
    bell.service_starts();

    for _ in 0..5 {
        bell.insert_school("Acme").await;
        bell.caught_up().await;
    }

    bell.every_row_is_right().await;
    let armed = format!("select count(*) from pg_locks where {}", armed_bell());
    assert_eq!(bell.source_count(&armed).await, 0, "nobody rings, so nobody may rely on the bell");
}

#[tokio::test]
async fn the_sweep_finds_what_a_lost_bell_left_behind() {
    let bell = TestBell::start().await;
    bell.asleep().await;

    // A change without a ring, as if the notice had been lost.
    bell.source_sql("alter table schools disable trigger user").await;
    let school = bell.insert_school("Acme").await;
    bell.source_sql(&format!(
        "insert into schoolbell.change (source_table, operation, keys) values ('public.schools', 'INSERT', \
         jsonb_build_object('id', '{school}'))"
    ))
    .await;

    bell.target_becomes("select editoruuid__c from salesforce.editor__c", &[&school]).await;
}

#[tokio::test]
async fn whatever_arrives_on_the_channel_changes_nothing() {
    let bell = TestBell::start().await;
    bell.asleep().await;

    for payload in ["", "ping", "{}", "{\"v\":9}", "' or 1=1 --", &"x".repeat(7_999)] {
        bell.source.execute("select pg_notify('schoolbell', $1)", &[&payload]).await.unwrap();
    }
    let forged = "{\"v\":1,\"table\":\"public.users\",\"op\":\"DELETE\",\"xact\":\"0\",\"at\":0}";
    bell.source.execute("select pg_notify('schoolbell', $1)", &[&forged]).await.unwrap();
    let school = bell.insert_school("Acme").await;

    bell.target_becomes("select editoruuid__c from salesforce.editor__c", &[&school]).await;
}

#[tokio::test]
async fn a_listener_that_was_cut_off_claims_at_once_when_it_is_back() {
    let bell = without_sweep().await;
    bell.asleep().await;
    let listener =
        format!("select count(pg_terminate_backend(pid)) from pg_locks where {}", armed_bell());

    // The only connection that could hear it is gone; the change is committed before it is back.
    let ended = bell.source_count(&listener).await;
    let school = bell.insert_school("Acme").await;

    assert_eq!(ended, 1);
    bell.target_becomes("select editoruuid__c from salesforce.editor__c", &[&school]).await;
}

#[tokio::test]
async fn an_idle_service_makes_no_wal_on_either_side() {
    // A cluster of its own: in the shared one the other tests write.
    let settings = [
        "autovacuum = off",
        "wal_level = minimal",
        "max_wal_senders = 0",
        "checkpoint_timeout = '1h'",
    ];
    let bell = TestBell::in_a_cluster_of_its_own(&settings).await;
    let school = bell.insert_school("Acme").await;
    bell.insert_role(&school, 1).await;
    bell.caught_up().await;
    bell.asleep().await;
    // The first looks may still tidy up pages that the last writes left behind.
    several_looks(&bell).await;
    let lsn = "select pg_current_wal_insert_lsn()::text";
    let before = bell.source_texts(lsn).await;

    several_looks(&bell).await;

    assert_eq!(bell.source_texts(lsn).await, before);
}

/// Waits until the sleeping service has looked at both databases a few times.
async fn several_looks(bell: &TestBell) {
    let latest = "select max(query_start)::text from pg_stat_activity where application_name like 'schoolbell%' \
                  and datname = current_database()";
    for _ in 0..5 {
        for database in [&bell.source, &bell.target] {
            let seen = texts(database, latest).await;
            eventually("the service looks again", || async {
                let now = texts(database, latest).await;
                if now == seen { Err(now) } else { Ok(()) }
            })
            .await;
        }
    }
}
