//! A writer that is lost, stopped or cut off is succeeded.

use std::process::Stdio;
use std::time::{Duration, Instant};

use schoolbell::demo::cluster::{Cluster, Options};
use schoolbell::demo::stand_in;
use schoolbell::failpoint::Failpoint;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::seed;
use super::stage::{STANDING_BY, Stage};
use crate::support::left_out::left_out;
use crate::support::load::stretched;
use crate::support::{eventually, program, texts};

/// Its lock is free, and the other process writes, although the first one still has its other database.
#[tokio::test]
async fn a_writer_that_loses_one_database_leaves_the_writing_to_the_other_process() {
    let mut stage = Stage::start(seed()).await;
    stage.one_side_is_lost(Failpoint::BeforeCommit, |process| &process.source).await;
    stage.one_side_is_lost(Failpoint::AfterCommit, |process| &process.target).await;
    stage.settle("one side was lost").await;
}

/// Whether it was stopped between two transactions or inside one.
#[tokio::test]
async fn a_stopped_writer_is_succeeded_within_20_seconds_and_writes_nothing_when_it_goes_on() {
    let mut stage = Stage::start(seed()).await;
    for place in [Failpoint::AfterProject, Failpoint::BeforeCommit] {
        let succeeded = stage.stopped(place).await;
        println!("take-over from a stopped process: {:.1} s", succeeded.as_secs_f64());
        assert!(succeeded < stretched(Duration::from_secs(20)), "{}: {succeeded:?}", place.name());
    }
    stage.settle("the writers were stopped").await;
}

/// A host that vanishes says nothing, so the servers must notice. In network namespaces of its own, which need
/// root and the programs `unshare`, `nsenter` and `ip`: without them the test says so and ends.
#[tokio::test]
async fn a_host_that_vanishes_without_a_word_is_succeeded_within_15_seconds() {
    const INSIDE: &str = "SCHOOLBELL_IN_A_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return vanish().await;
    }
    let usable = std::process::Command::new("unshare")
        .args(["-n", "sh", "-c", "ip link add one type veth peer name two && nsenter --version"])
        .output();
    if !usable.is_ok_and(|output| output.status.success()) {
        left_out("this machine or user cannot make network namespaces");
        return;
    }
    // This very test again, in a namespace that goes away with it.
    let output = Command::new("unshare")
        .arg("-n")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg(std::thread::current().name().unwrap())
        .env(INSIDE, "yes")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "it was not run: {said}");
    println!("{said}");
}

/// The cable between a writer and its servers is pulled; the other program stands by on the servers' side.
async fn vanish() {
    shell(
        "ip link set lo up && ip link add cable type veth peer name far && ip addr add 10.99.0.1/24 dev cable && \
           ip link set cable up",
    );
    let folder = tempfile::tempdir().unwrap();
    let access = folder.path().join("pg_hba.conf");
    std::fs::write(&access, "host all all 127.0.0.1/32 trust\nhost all all 10.99.0.0/24 trust\n")
        .unwrap();
    // The server may run as another user.
    shell(&format!("chmod 755 {} && chmod 644 {}", folder.path().display(), access.display()));
    let settings = vec![
        "listen_addresses = '127.0.0.1,10.99.0.1'".to_string(),
        format!("hba_file = '{}'", access.display()),
    ];
    let cluster = Cluster::start(Options { settings, ..Options::open() }).await.unwrap();
    cluster.create_database("source", None).await.unwrap();
    cluster.create_database("target", None).await.unwrap();
    let source = cluster.connect("source").await.unwrap();
    let target = cluster.connect("target").await.unwrap();
    stand_in::install_application(&source).await.unwrap();
    stand_in::install_heroku_connect(&target).await.unwrap();
    let migrated =
        program::Program::new(&["migrate"]).env("DATABASE_URL", &cluster.url("source")).run().await;
    assert_eq!(migrated.code, 0, "{migrated}");
    let run = |host: &str, mut command: Command| {
        let url = |database| format!("postgres://postgres@{host}:{}/{database}", cluster.port());
        command
            .env("DATABASE_URL", url("source"))
            .env("SALESFORCE_CONNECT_URL", url("target"))
            .env("SALESFORCE_ENABLED", "true")
            .env("SCHOOLBELL_HTTP", "off")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    // The first one waits at the far end until the cable is there.
    let mut far = Command::new("unshare");
    let start = format!("read ready; exec {} run", program::path());
    far.args(["-n", "sh", "-c", &start]).stdin(Stdio::piped());
    let mut far = run("10.99.0.1", far);
    let pid = far.id().unwrap();
    // The program's own namespace is there once it is not ours any more.
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net"));
    let ours = namespace("self").unwrap();
    eventually("the program has a namespace of its own", || async {
        namespace(&pid.to_string()).ok().filter(|theirs| *theirs != ours).ok_or("not yet")
    })
    .await;
    shell(&format!(
        "ip link set far netns {pid} && nsenter -t {pid} -n sh -c 'ip addr add 10.99.0.2/24 dev far && \
         ip link set lo up && ip link set far up'"
    ));
    far.stdin.take().unwrap().write_all(b"\n").await.unwrap();
    let insert = |name: &str| {
        format!(
            "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
             values ('{name}', 'R', 'T', 'GB', 'w', now(), now())"
        )
    };
    let arrives = async |name: &str| {
        let sql = format!("select name from salesforce.editor__c where name = '{name}'");
        eventually(name, async || match texts(&target, &sql).await.is_empty() {
            false => Ok(()),
            true => Err("it has not arrived"),
        })
        .await;
    };
    source.batch_execute(&insert("by the first")).await.unwrap();
    arrives("by the first").await;
    let mut near = Command::new(program::path());
    near.arg("run").stdin(Stdio::null());
    let _near = run("127.0.0.1", near);
    eventually("the other stands by", async || {
        match texts(&target, STANDING_BY).await.is_empty() {
            false => Ok(()),
            true => Err("it does not"),
        }
    })
    .await;

    shell(&format!("nsenter -t {pid} -n ip link set far down"));
    let vanished = Instant::now();
    source.batch_execute(&insert("by the second")).await.unwrap();
    arrives("by the second").await;

    println!("take-over from a host that vanished: {:.1} s", vanished.elapsed().as_secs_f64());
    assert!(vanished.elapsed() < stretched(Duration::from_secs(15)), "{:?}", vanished.elapsed());
}

fn shell(script: &str) {
    let output = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}
