//! `run`: changes as they come, signals, `--drain`, interruptions.

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::proxy::{Cut, Proxy};
use crate::support::{TestBell, eventually};

use super::{PATIENCE, assert_refused, ends, program, signal, text};

// The service as a process --------------------------------------------------------------------------

#[tokio::test]
async fn run_applies_changes_as_they_come_and_ends_well_on_either_signal() {
    let bell = TestBell::installed().await;
    let mut written = 0;
    for name in ["TERM", "INT"] {
        bell.insert_school("Before").await;
        let child = program(&bell, &["run"]).spawn();
        let schools = "select count(*)::text from salesforce.editor__c";
        bell.target_becomes(schools, &[&(written + 1).to_string()]).await;
        bell.insert_school("Meanwhile").await;
        written += 2;
        bell.target_becomes(schools, &[&written.to_string()]).await;

        signal(&child, name);
        let ended = ends(child).await;

        let log = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{name}: {log}");
        assert!(log.contains("stopping after the current batch"), "{log}");
        assert!(log.contains("stopped; every batch is finished"), "{log}");
        assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 0);
    }
}

#[tokio::test]
async fn a_signal_in_the_middle_of_a_batch_lets_it_be_finished_and_acknowledged() {
    let bell = TestBell::installed().await;
    let salesforce = bell.target_session().await;
    salesforce
        .batch_execute("begin; lock table salesforce.editor__c in exclusive mode")
        .await
        .unwrap();
    let school = bell.insert_school("Acme").await;
    let mut child = program(&bell, &["run"]).spawn();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let blocked = "select count(*) from pg_locks where not granted and relation = 'salesforce.editor__c'::regclass";
    eventually("the batch waits for the table", || async {
        match bell.target_count(blocked).await {
            0 => Err("it does not wait"),
            _ => Ok(()),
        }
    })
    .await;

    signal(&child, "TERM");
    while !log
        .next_line()
        .await
        .unwrap()
        .expect("it says that it stops")
        .contains("stopping after ")
    {}
    assert_eq!(bell.target_count(blocked).await, 1, "the signal has ended the batch");
    salesforce.batch_execute("commit").await.unwrap();
    let ended = ends(child).await;

    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [school]);
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 0);
}

#[tokio::test]
async fn run_drain_applies_what_is_due_and_exits() {
    let bell = TestBell::installed().await;
    let school = bell.insert_school("Acme").await;

    let drained = bell.run(&["run", "--drain"]).await;
    let again = bell.run(&["run", "--drain"]).await;

    assert_eq!((drained.code, again.code), (0, 0), "{drained}");
    assert!(drained.stderr.contains("written=1"), "{drained}");
    assert!(again.stderr.contains("changes=0 written=0"), "{again}");
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [school]);
    assert_eq!(bell.salesforce_writes().await, 1);
}

#[tokio::test]
async fn run_drain_ends_when_a_right_on_the_outbox_is_missing_and_goes_through_when_it_is_given() {
    let bell = TestBell::installed().await;
    let role = format!("short_of_a_right_{}", bell.source_name);
    bell.source_sql(&format!(
        "create role {role} login; grant usage on schema schoolbell to {role}; \
         grant select on all tables in schema public, schoolbell to {role}; \
         grant insert, update on all tables in schema schoolbell to {role}"
    ))
    .await;
    let school = bell.insert_school("Acme").await;
    let url = bell.source_url().replacen("postgres@", &format!("{role}@"), 1);
    let drain = program(&bell, &["run", "--drain", "--source-url", &url]).env("RUST_LOG", "off");

    let refused = tokio::time::timeout(PATIENCE, drain.run()).await.expect("it ends");

    let reason = "cannot continue: permission denied for table change (42501); grant the missing right to the role of \
                  the connection URL";
    assert_refused(&refused, &[reason]);
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 1);
    bell.source_sql(&format!("grant delete on schoolbell.change, schoolbell.parked to {role}"))
        .await;
    let drained = drain.run().await;
    assert_eq!(drained.code, 0, "{drained}");
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [school]);
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 0);
}

#[tokio::test]
async fn an_interruption_is_told_once_however_many_attempts_fail_and_once_more_when_it_is_over() {
    let bell = TestBell::installed().await;
    for (side, cluster, database) in [
        ("DATABASE_URL", bell.cluster(), &bell.source_name),
        ("SALESFORCE_CONNECT_URL", bell.target_cluster(), &bell.target_name),
    ] {
        let proxy = Proxy::start(cluster.port()).await;
        let mut child = program(&bell, &["run"])
            .env(side, &proxy.url(database))
            .env("RUST_LOG", "schoolbell=debug")
            .spawn();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = Vec::new();
        let mut until = async |part: &str| {
            let reading = async {
                loop {
                    let line = lines.next_line().await.unwrap().expect("it runs");
                    let found = line.contains(part);
                    log.push(line);
                    if found {
                        break;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, reading)
                .await
                .unwrap_or_else(|_| panic!("{part}: {log:#?}"));
        };
        until("working as the writer").await;

        proxy.refuse();
        proxy.cut(Cut::Reset);
        // Only work meets a target that is gone.
        bell.insert_school(side).await;
        for _ in 0..4 {
            until("still interrupted").await;
        }
        proxy.pass();
        until("resumed as the writer").await;
        let written = format!("select name from salesforce.editor__c where name = '{side}'");
        bell.target_becomes(&written, &[side]).await;
        signal(&child, "TERM");
        until("stopped; every batch is finished").await;

        let told = |part: &str| log.iter().filter(|line| line.contains(part)).count();
        assert_eq!(told("interrupted; nothing is lost"), 1, "{side}: {log:#?}");
        assert_eq!(told("resumed as the writer"), 1, "{side}: {log:#?}");
        assert_eq!(told("working as the writer"), 1, "{side}: {log:#?}");
        assert!(told("still interrupted") >= 4, "{side}: {log:#?}");
        // The listener or the sweep may notice first, and each says so once.
        assert!(told(" WARN ") <= 3, "{side}: {log:#?}");
        assert!(child.wait().await.unwrap().success());
    }
}
