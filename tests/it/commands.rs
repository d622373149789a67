//! The commands as a user meets them: what they print where, how they end, what they say about bad input.

use std::collections::BTreeSet;
use std::process::Output;
use std::time::Duration;

use clap::CommandFactory;
use schoolbell::cli::Cli;
use schoolbell::demo::stand_in;
use schoolbell::mapping::BUILT_IN;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::support::program::{Ended, Program};
use crate::support::proxy::{Cut, Proxy};
use crate::support::{TestBell, eventually};

/// In every URL of these tests. It must never be seen again.
const PASSWORD: &str = "hunter2secret";
/// Long enough for a program on a busy machine to end, which it does within a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// The URL with a password in it. The tests' server trusts everybody.
fn with_password(url: &str) -> String {
    url.replacen("postgres@", &format!("postgres:{PASSWORD}@"), 1)
}

/// A server that nobody runs.
fn nowhere(database: &str) -> String {
    format!("postgres://somebody:{PASSWORD}@127.0.0.1:1/{database}")
}

/// A database that the tests' server does not have.
fn no_database(bell: &TestBell) -> String {
    with_password(&bell.source_url()).replace(&bell.source_name, "no_such_database")
}

fn program(bell: &TestBell, arguments: &[&str]) -> Program {
    Program::new(arguments)
        .env("DATABASE_URL", &with_password(&bell.source_url()))
        .env("SALESFORCE_CONNECT_URL", &with_password(&bell.target_url()))
        .env("SALESFORCE_ENABLED", "true")
}

/// It could not do it: exit code 2, one sentence on stderr that contains these parts, and nothing else.
fn assert_refused(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.code, 2, "{ended}");
    assert_eq!(ended.stdout, "", "{ended}");
    assert!(ended.stderr.starts_with("schoolbell: "), "{ended}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
    assert!(!ended.stderr.contains("panicked"), "{ended}");
    assert!(!ended.stderr.contains(PASSWORD), "{ended}");
    for part in parts {
        assert!(ended.stderr.contains(part), "{part:?} is missing: {ended}");
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().expect("it still runs").to_string();
    let sent =
        std::process::Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(sent.unwrap().success());
}

async fn ends(child: Child) -> Output {
    tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// A target that refuses one school for good.
async fn with_a_dead_school() -> (TestBell, String) {
    let bell = TestBell::installed().await;
    bell.target_sql("alter table salesforce.editor__c add constraint no_pirates check (name <> 'Pirate school')").await;
    bell.insert_school("Acme").await;
    let pirates = bell.insert_school("Pirate school").await;
    (bell, pirates)
}

// Bad input -----------------------------------------------------------------------------------------

#[tokio::test]
async fn a_missing_or_unreadable_url_is_refused_with_its_name_and_the_form_that_is_expected() {
    for command in [
        &["migrate"][..],
        &["uninstall"],
        &["run"],
        &["resync"],
        &["status"],
        &["doctor"],
        &["parked", "list"],
    ] {
        let missing = Program::new(command).run().await;
        assert_refused(
            &missing,
            &["Set DATABASE_URL or pass --source-url", "postgres://USER:PASSWORD@HOST"],
        );

        for bad in [
            "schools",
            "https://example.org/schools",
            &format!("postgres://u:{PASSWORD}@h:port/d"),
            &format!("postgres://u:{PASSWORD}@h/d?colour"),
            &format!("host=h password {PASSWORD}"),
        ] {
            let ended = Program::new(command).env("DATABASE_URL", bad).run().await;
            assert_refused(
                &ended,
                &["DATABASE_URL is not a Postgres URL", "postgres://USER:PASSWORD@HOST"],
            );
        }
        let vague = Program::new(command)
            .env("DATABASE_URL", &format!("postgres://u:{PASSWORD}@/d"))
            .run()
            .await;
        assert_refused(&vague, &["DATABASE_URL names no host"]);
        let tls = format!("postgres://u:{PASSWORD}@127.0.0.1:1/d?sslmode=sure");
        assert_refused(
            &Program::new(command).env("DATABASE_URL", &tls).run().await,
            &["sslmode", "verify-full"],
        );
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_reached_is_named_with_the_setting_to_check() {
    let bell = TestBell::bare().await;
    for command in [
        &["migrate"][..],
        &["uninstall", "--yes"],
        &["run"],
        &["run", "--drain"],
        &["resync"],
        &["status"],
        &["parked", "list"],
        &["mapping", "--check"],
    ] {
        let unreachable = program(&bell, command).env("DATABASE_URL", &nowhere("app")).run().await;
        assert_refused(
            &unreachable,
            &["the source database (app on 127.0.0.1:1)", "refused", "check DATABASE_URL"],
        );

        let absent = program(&bell, command).env("DATABASE_URL", &no_database(&bell)).run().await;
        assert_refused(
            &absent,
            &["database \"no_such_database\" does not exist", "check DATABASE_URL"],
        );
    }
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_is_named_with_the_setting_to_check() {
    let bell = TestBell::installed().await;
    for command in [
        &["run"][..],
        &["run", "--drain"],
        &["resync"],
        &["resync", "--dry-run"],
        &["mapping", "--check"],
    ] {
        let unreachable =
            program(&bell, command).env("SALESFORCE_CONNECT_URL", &nowhere("connect")).run().await;
        assert_refused(
            &unreachable,
            &["the target database (connect on 127.0.0.1:1)", "refused", "SALESFORCE_CONNECT_URL"],
        );

        let absent =
            program(&bell, command).env("SALESFORCE_CONNECT_URL", &no_database(&bell)).run().await;
        assert_refused(
            &absent,
            &["database \"no_such_database\" does not exist", "SALESFORCE_CONNECT_URL"],
        );
    }
}

#[tokio::test]
async fn status_tells_what_it_knows_when_the_target_cannot_be_reached() {
    let bell = TestBell::installed().await;
    let asked = |arguments: &[&str]| {
        program(&bell, arguments).env("SALESFORCE_CONNECT_URL", &nowhere("connect"))
    };

    let printed = asked(&["status"]).run().await;
    let report = asked(&["status", "--json"]).run().await;

    assert_eq!((printed.code, report.code), (1, 1), "{printed}");
    assert!(printed.stdout.contains("the target cannot be asked: "), "{printed}");
    assert!(printed.stdout.contains("capture    installed"), "{printed}");
    assert!(
        json(&report.stdout)["target_problem"].as_str().unwrap().contains("refused"),
        "{report}"
    );
}

#[tokio::test]
async fn a_missing_schema_is_refused_with_migrate_as_the_remedy() {
    let bell = TestBell::bare().await;
    for command in [
        &["run"][..],
        &["run", "--drain"],
        &["resync"],
        &["resync", "--dry-run"],
        &["status"],
        &["status", "--json"],
        &["parked", "list"],
    ] {
        let ended = bell.run(command).await;

        assert_refused(
            &ended,
            &["the source database has no schema schoolbell; run `schoolbell migrate` first"],
        );
    }
}

#[tokio::test]
async fn a_target_that_does_not_fit_the_mapping_is_refused_by_object_and_field() {
    let damages: [(&str, &[&str]); 5] = [
        (
            "alter table salesforce.editor__c rename to editor",
            &[
                "object school: target: ",
                "no table salesforce.editor__c",
                "map it in Heroku Connect",
            ],
        ),
        (
            "alter table salesforce.editor__c rename postcode__c to postalcode__c",
            &["object school: postcode__c: ", "no column postcode__c; did you mean postalcode__c?"],
        ),
        (
            "alter table salesforce.contact_editor_affiliation__c drop affiliation_id__c",
            &["object role: external_id: ", "no column affiliation_id__c"],
        ),
        (
            "alter table salesforce.editor__c alter verifiedat__c type integer using null",
            &[
                "object school: verifiedat__c: ",
                "timestamp without time zone, the column is integer",
                "sql = ",
            ],
        ),
        (
            "alter table salesforce.contact drop sfid",
            &["object contact: target: ", "has no column sfid"],
        ),
    ];
    for (damage, parts) in damages {
        let bell = TestBell::installed().await;
        bell.target_sql(damage).await;

        for command in [&["run"][..], &["run", "--drain"], &["resync"]] {
            let ended = bell.run(command).await;

            assert_refused(&ended, parts);
            assert_refused(&ended, &["built-in mapping:"]);
        }
        let check = bell.run(&["mapping", "--check"]).await;
        assert_eq!(check.code, 2, "{check}");
        assert!(check.stdout.starts_with("built-in mapping:"), "{check}");
        for part in parts {
            assert!(check.stdout.contains(part), "{part:?} is missing: {check}");
        }
    }
}

#[tokio::test]
async fn a_mapping_file_that_is_missing_broken_or_names_unknown_things_is_refused_with_file_and_line()
 {
    let bell = TestBell::installed().await;
    let absent = Program::new(&["mapping", "--mapping", "/no/such/file.toml"]).run().await;
    assert_refused(&absent, &["/no/such/file.toml: cannot read the file: No such file"]);
    let cases = [
        ("version = \n", vec![":1:11: string values must be quoted"]),
        (
            "version = 1\n[object.school]\nsource = \"schools\"\nkee = \"id\"\n",
            vec![":4: object school: kee: unknown key; did you mean key?"],
        ),
        ("version = 1\n", vec![": names no object; begin one with [object.NAME]"]),
        ("version = 2\n", vec![":1: version: is 2, but this program reads version 1"]),
    ];
    for (content, parts) in cases {
        let file = bell.mapping_file(content);
        for command in
            [&["run"][..], &["migrate"], &["resync"], &["status"], &["doctor"], &["mapping"]]
        {
            let flag = bell.run(&[command, &["--mapping", file.to_str().unwrap()]].concat()).await;
            let variable = program(&bell, command)
                .env("SCHOOLBELL_MAPPING", file.to_str().unwrap())
                .run()
                .await;

            for ended in [flag, variable] {
                assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
                assert!(
                    ended.stderr.starts_with(&format!("schoolbell: {}:", file.display())),
                    "{ended}"
                );
                assert!(!ended.stderr.contains("panicked"), "{ended}");
                for part in &parts {
                    assert!(ended.stderr.contains(part), "{part:?} is missing: {ended}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_object_or_time_is_refused() {
    let bell = TestBell::installed().await;
    let cases: [(&[&str], &str); 4] = [
        (&["resync", "pupil"], "the mapping has no object pupil; it has contact, school, role"),
        (
            &["resync", "--since", "yesterday-ish"],
            "use 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 2h or 3d",
        ),
        (&["resync", "--key", "1"], "--key needs exactly one object"),
        (&["resync", "school", "role", "--key", "1"], "--key needs exactly one object"),
    ];
    for (command, sentence) in cases {
        assert_refused(&bell.run(command).await, &[sentence]);
    }
}

#[tokio::test]
async fn what_cannot_be_parsed_ends_with_2_and_says_where_help_is() {
    for arguments in [
        &["ring"][..],
        &[],
        &["run", "--drian"],
        &["migrate", "--notify", "loudly"],
        &["parked"],
        &["resync", "--limit", "0"],
        &["completions", "tcsh"],
        &["status", "--log-format", "xml"],
    ] {
        let ended = Program::new(arguments).run().await;

        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
        assert!(ended.stderr.contains("--help"), "{ended}");
    }
}

#[tokio::test]
async fn no_command_ever_prints_a_password_however_much_it_logs() {
    let (bell, _) = with_a_dead_school().await;
    let good: [&[&str]; 12] = [
        &["migrate", "--dry-run"],
        &["migrate", "--notify", "always"],
        &["mapping", "--check"],
        &["resync", "--dry-run"],
        &["run", "--drain"],
        &["resync"],
        &["status", "--json"],
        &["status"],
        &["doctor"],
        &["doctor", "--json"],
        &["parked", "list"],
        &["uninstall", "--yes"],
    ];
    for command in good {
        for format in ["text", "json"] {
            // Every place from which a password is read.
            let ended = program(&bell, command)
                .env("PGPASSWORD", PASSWORD)
                .env("SALESFORCE_CONNECT_PASSWORD", PASSWORD)
                .env("RUST_LOG", "trace")
                .env("SCHOOLBELL_LOG_FORMAT", format)
                .run()
                .await;

            assert!(ended.code < 2, "{ended}");
            assert!(!ended.to_string().contains(PASSWORD), "{ended}");
        }
    }
    for (source, target) in [
        (nowhere("a"), nowhere("b")),
        (with_password(&bell.source_url()), nowhere("b")),
        (no_database(&bell), nowhere("b")),
        (nowhere("a?sslmode=sure"), nowhere("b")),
    ] {
        for command in good {
            let flags = ["--source-url", &source, "--target-url", &target];
            let ended = Program::new(&[command, &flags].concat())
                .env("SALESFORCE_ENABLED", "true")
                .env("RUST_LOG", "trace")
                .run()
                .await;

            let spoken = format!("{}{}", ended.stdout, ended.stderr);
            assert!(!spoken.contains(PASSWORD), "{ended}");
            assert!(!spoken.contains("panicked"), "{ended}");
        }
    }
}

// Settings ------------------------------------------------------------------------------------------

#[tokio::test]
async fn the_target_is_the_flag_s_else_the_first_variable_s_else_the_parts_else_the_source() {
    let bell = TestBell::installed().await;
    stand_in::install_heroku_connect(&bell.source).await.unwrap();
    let target = with_password(&bell.target_url());
    let (_, address) =
        bell.target_url().split_once('@').map(|(a, b)| (a.to_string(), b.to_string())).unwrap();
    let (host, database) = address.split_once('/').unwrap();
    let (host, port) = host.split_once(':').unwrap();
    // Each variable leads nowhere until its turn comes; those before it are unset.
    let lead_nowhere = |program: Program, from: usize| {
        let nowhere = [
            ("SALESFORCE_CONNECT_URL", nowhere("a")),
            ("HEROKUCONNECT_URL", nowhere("b")),
            ("SALESFORCE_CONNECT_HOST", "127.0.0.1".into()),
        ];
        let unset = program.env("SALESFORCE_CONNECT_PORT", "1");
        nowhere[from..].iter().fold(unset, |program, (name, value)| program.env(name, value))
    };
    let drain = |flags: &[&str]| {
        Program::new(&[&["run", "--drain"], flags].concat())
            .env("DATABASE_URL", &bell.source_url())
            .env("SALESFORCE_ENABLED", "true")
    };
    let schools = "select count(*) from salesforce.editor__c";

    let ladder = [
        lead_nowhere(drain(&["--target-url", &target]), 0),
        lead_nowhere(drain(&[]), 1).env("SALESFORCE_CONNECT_URL", &target),
        lead_nowhere(drain(&[]), 2).env("HEROKUCONNECT_URL", &target),
        // An empty variable is no setting.
        drain(&[])
            .env("SALESFORCE_CONNECT_URL", "")
            .env("HEROKUCONNECT_URL", "")
            .env("SALESFORCE_CONNECT_HOST", host)
            .env("SALESFORCE_CONNECT_PORT", port)
            .env("SALESFORCE_CONNECT_DB", database)
            .env("SALESFORCE_CONNECT_USER", "postgres")
            .env("SALESFORCE_CONNECT_PASSWORD", PASSWORD),
    ];
    for (index, program) in ladder.iter().enumerate() {
        bell.insert_school("Acme").await;
        let ended = program.run().await;
        assert_eq!(ended.code, 0, "{ended}");
        assert_eq!(bell.target_count(schools).await, index as i64 + 1, "{ended}");
    }
    assert_eq!(bell.source_count(schools).await, 0);
    bell.insert_school("Acme").await;
    bell.source_sql("truncate schoolbell.pairing").await;
    let ended = drain(&[]).run().await;
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!((bell.source_count(schools).await, bell.target_count(schools).await), (1, 4));
}

#[tokio::test]
async fn a_target_that_was_named_is_never_replaced_by_another() {
    let bell = TestBell::installed().await;
    let good = bell.target_url();
    bell.insert_school("Acme").await;

    let flag = program(&bell, &["run", "--drain", "--target-url", &nowhere("flag")]).run().await;
    let url = program(&bell, &["run", "--drain"])
        .env("SALESFORCE_CONNECT_URL", &nowhere("url"))
        .env("HEROKUCONNECT_URL", &good);
    let parts = program(&bell, &["run", "--drain"])
        .env("SALESFORCE_CONNECT_URL", "")
        .env("SALESFORCE_CONNECT_HOST", "127.0.0.1")
        .env("SALESFORCE_CONNECT_PORT", "1")
        .env("SALESFORCE_CONNECT_DB", "parts");

    assert_refused(&flag, &["flag on 127.0.0.1:1"]);
    assert_refused(&url.run().await, &["url on 127.0.0.1:1"]);
    assert_refused(&parts.run().await, &["parts on 127.0.0.1:1"]);
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 1);
}

#[tokio::test]
async fn the_source_flag_wins_over_the_variable() {
    let bell = TestBell::installed().await;

    let flag = program(&bell, &["status", "--source-url", &bell.source_url()])
        .env("DATABASE_URL", &nowhere("app"));

    assert_eq!(flag.run().await.code, 0);
}

// Disabled ------------------------------------------------------------------------------------------

#[tokio::test]
async fn unless_salesforce_is_enabled_run_stays_up_and_says_so_and_changes_keep_waiting() {
    let bell = TestBell::installed().await;
    bell.insert_school("Acme").await;
    for enabled in ["false", "", "TRUE", "1", "yes"] {
        let mut child = program(&bell, &["run"]).env("SALESFORCE_ENABLED", enabled).spawn();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = tokio::time::timeout(PATIENCE, log.next_line()).await.unwrap().unwrap().unwrap();
        bell.insert_school("Another").await;
        let running = child.try_wait().unwrap().is_none();
        signal(&child, "TERM");
        let ended = ends(child).await;

        assert!(said.contains("disabled: SALESFORCE_ENABLED is not true"), "{enabled}: {said}");
        assert!(running, "{enabled}");
        assert_eq!(ended.status.code(), Some(0), "{enabled}");
        assert_eq!(text(&ended.stdout), "");
    }
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 6);
    assert_eq!(bell.salesforce_writes().await, 0);
}

#[tokio::test]
async fn unless_salesforce_is_enabled_nothing_that_would_write_is_begun() {
    let bell = TestBell::installed().await;
    bell.insert_school("Acme").await;
    for command in [&["run", "--drain"][..], &["resync"], &["resync", "--detach"]] {
        let ended = program(&bell, command).env("SALESFORCE_ENABLED", "false").run().await;
        assert_refused(&ended, &["SALESFORCE_ENABLED is not true"]);
    }

    let forecast = program(&bell, &["resync", "--dry-run", "--json"])
        .env("SALESFORCE_ENABLED", "false")
        .run()
        .await;
    let status =
        program(&bell, &["status", "--json"]).env("SALESFORCE_ENABLED", "false").run().await;

    assert_eq!(forecast.code, 0, "{forecast}");
    let school = json(&forecast.stdout)
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["object"] == "school")
        .cloned()
        .unwrap();
    assert_eq!(
        (school["rows"].as_i64(), school["insert"].as_i64()),
        (Some(1), Some(1)),
        "{forecast}"
    );
    assert_eq!(json(&status.stdout)["enabled"], false);
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 1);
    assert_eq!(bell.source_count("select count(*) from schoolbell.resync").await, 0);
    assert_eq!(bell.salesforce_writes().await, 0);
}

// Mapping -------------------------------------------------------------------------------------------

#[tokio::test]
async fn mapping_prints_the_mapping_in_use_byte_for_byte() {
    let bell = TestBell::bare().await;
    let other = format!("{BUILT_IN}\n# One more line, with a tail of blanks   \n\n");
    let file = bell.mapping_file(&other);

    assert_eq!(Program::new(&["mapping"]).run().await.stdout, BUILT_IN);
    assert_eq!(bell.run_ok(&["mapping", "--mapping", file.to_str().unwrap()]).await, other);
    assert_eq!(BUILT_IN, include_str!("../../mappings/editor-api.toml"));
}

#[tokio::test]
async fn mapping_check_goes_as_far_as_there_are_databases() {
    let bell = TestBell::bare().await;

    let alone = Program::new(&["mapping", "--check"]).run().await;
    let with_both = program(&bell, &["mapping", "--check"]).run().await;

    assert_eq!((alone.code, alone.stderr.as_str()), (0, ""), "{alone}");
    assert!(alone.stdout.contains("3 objects, sound in itself; set DATABASE_URL"), "{alone}");
    assert_eq!((with_both.code, with_both.stderr.as_str()), (0, ""), "{with_both}");
    assert!(with_both.stdout.contains("3 objects fit both databases"), "{with_both}");
}

#[tokio::test]
async fn a_missing_unique_index_is_reported_with_the_sql_that_adds_it_and_hinders_nothing() {
    let bell = TestBell::installed().await;
    bell.target_sql("drop index salesforce.hcu_idx_editor__c_editoruuid__c").await;
    let school = bell.insert_school("Acme").await;

    let check = bell.run(&["mapping", "--check"]).await;
    let run = bell.run(&["run", "--drain"]).await;

    assert_eq!(check.code, 1, "{check}");
    assert!(
        check
            .stdout
            .contains("object school: external_id: salesforce.editor__c has no unique index"),
        "{check}"
    );
    assert_eq!(run.code, 0, "{run}");
    assert!(run.stderr.contains("has no unique index on editoruuid__c"), "{run}");
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [school]);
    let remedy = check.stdout.lines().find_map(|line| line.split_once(", or: ")).unwrap().1;
    bell.target_sql(remedy).await;
    assert_eq!(bell.run(&["mapping", "--check"]).await.code, 0);
}

// Reports -------------------------------------------------------------------------------------------

#[tokio::test]
async fn status_has_nothing_to_report_when_all_is_well() {
    let bell = TestBell::installed().await;

    let printed = bell.run(&["status"]).await;
    let report = bell.run(&["status", "--json"]).await;

    assert_eq!((printed.code, report.code), (0, 0), "{printed}");
    assert_eq!(
        printed.stdout,
        "now        Nothing is pending, and nobody would apply it: start `schoolbell run`.\n\
         pending    nothing\nlag        0.0 s\nparked     nothing\nwriter     nobody\n\
         capture    installed, notify mode doorbell, schema version 12\n\
         salesforce contact 0 synced, 0 pending, 0 failed\n\
         salesforce school 0 synced, 0 pending, 0 failed\n\
         salesforce role 0 synced, 0 pending, 0 failed\n"
    );
    let report = json(&report.stdout);
    let wanted = BTreeSet::from([
        "schema_version",
        "enabled",
        "pending_changes",
        "oldest_change_at",
        "lag_seconds",
        "mapping_problems",
        "unanswered",
        "parked",
        "writer",
        "writer_blocked_by",
        "bell_blocked_by",
        "notification_queue",
        "target_problem",
        "pairing_problem",
        "notify",
        "capture_problems",
        "resyncs",
        "failed_resyncs",
        "salesforce",
        "verified",
        "headline",
    ]);
    assert_eq!(keys(&report), wanted);
    assert_eq!(
        (&report["enabled"], &report["notify"]),
        (&Value::Bool(true), &Value::from("doorbell"))
    );
}

#[tokio::test]
async fn status_tells_who_is_the_writer_and_what_is_pending_without_one() {
    let mut bell = TestBell::installed().await;
    bell.insert_school("Acme").await;

    let alone = bell.run(&["status", "--json"]).await;
    let alone_printed = bell.run(&["status"]).await;
    bell.service_starts();
    bell.caught_up().await;
    let served = bell.run(&["status", "--json"]).await;
    let served_printed = bell.run(&["status"]).await;

    assert_eq!((alone.code, alone_printed.code), (1, 1), "{alone}");
    assert!(
        alone_printed.stdout.contains("pending    1 change, the oldest since 20"),
        "{alone_printed}"
    );
    assert!(
        alone_printed.stdout.contains("writer     nobody: start `schoolbell run`"),
        "{alone_printed}"
    );
    let report = json(&alone.stdout);
    assert_eq!((report["pending_changes"].as_i64(), &report["writer"]), (Some(1), &Value::Null));
    assert!(
        report["oldest_change_at"].is_string() && report["lag_seconds"].as_f64() > Some(0.0),
        "{report}"
    );
    assert_eq!((served.code, served_printed.code), (0, 0), "{served}");
    let process = format!("/{}", std::process::id());
    assert!(served_printed.stdout.contains(&format!("{process} since 20")), "{served_printed}");
    let writer = &json(&served.stdout)["writer"];
    assert!(writer["process"].as_str().unwrap().ends_with(&process), "{writer}");
    assert!(writer["pid"].is_number() && writer["since"].is_string(), "{writer}");
}

#[tokio::test]
async fn a_dead_row_is_reported_with_reason_and_remedy_and_exit_code_1_but_not_with_its_content() {
    let (bell, pirates) = with_a_dead_school().await;

    let drained = bell.run(&["run", "--drain"]).await;
    let status = bell.run(&["status"]).await;
    let status_json = bell.run(&["status", "--json"]).await;
    let list = bell.run(&["parked", "list"]).await;
    let list_json = bell.run(&["parked", "list", "school", "--state", "dead", "--json"]).await;

    for ended in [&drained, &status, &status_json, &list, &list_json] {
        assert_eq!(ended.code, 1, "{ended}");
        assert!(!ended.to_string().contains("Pirate school"), "{ended}");
    }
    assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, ["Acme"]);
    assert!(status.stdout.contains("parked     1 school dead, the oldest since 20"), "{status}");
    let report = json(&status_json.stdout);
    let dead =
        report["parked"].as_array().unwrap().iter().find(|count| count["state"] == "dead").unwrap();
    assert_eq!(keys(dead), BTreeSet::from(["object", "state", "keys", "held", "oldest"]));
    assert_eq!((&dead["object"], dead["keys"].as_i64()), (&Value::from("school"), Some(1)));
    for part in
        ["OBJECT", "WHAT HELPS", &pirates, "dead", "no_pirates", "(23514)", "mend the source row"]
    {
        assert!(list.stdout.contains(part), "{part}: {list}");
    }
    let report = json(&list_json.stdout);
    assert_eq!(report.as_array().unwrap().len(), 1, "{report}");
    let wanted = BTreeSet::from([
        "object",
        "key",
        "state",
        "awaits",
        "awaits_key",
        "due_at",
        "held",
        "attempts",
        "reason",
        "sqlstate",
        "remedy",
        "parked_at",
    ]);
    assert_eq!(keys(&report[0]), wanted);
    assert_eq!(
        (&report[0]["key"], &report[0]["sqlstate"]),
        (&Value::from(pirates), &Value::from("23514"))
    );
}

#[tokio::test]
async fn parked_list_shows_what_was_asked_for_and_waiting_is_no_alarm() {
    let bell = TestBell::installed().await;
    let school = bell.insert_school("Acme").await;
    let role = bell.insert_role(&school, 1).await;
    assert_eq!(bell.run_ok(&["parked", "list"]).await, "nothing is parked\n");
    bell.run_ok(&["run", "--drain"]).await;
    let list =
        async |arguments: &[&str]| bell.run_ok(&[&["parked", "list"], arguments].concat()).await;

    let all = json(&list(&["--json"]).await);
    let roles = json(&list(&["role", "--json"]).await);

    // The creator's contact, and the role, both of which wait.
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    assert_eq!(
        (roles.as_array().unwrap().len(), &roles[0]["key"]),
        (1, &Value::from(role.clone()))
    );
    assert_eq!(
        (&roles[0]["state"], roles[0]["awaits"].is_string()),
        (&Value::from("waiting"), true)
    );
    assert!(list(&["role"]).await.contains(&role));
    assert_eq!(list(&["school"]).await, "nothing is parked\n");
    assert_eq!(json(&list(&["--state", "dead", "--json"]).await), json("[]"));
    assert!(list(&["--limit", "1"]).await.contains("at most 1 are listed"));
}

#[tokio::test]
async fn results_go_to_stdout_and_logs_to_stderr_as_text_or_as_json_lines() {
    let bell = TestBell::installed().await;

    let plain = program(&bell, &["run", "--drain"]).run().await;
    let flag = program(&bell, &["run", "--drain", "--log-format", "json"]).run().await;
    let variable =
        program(&bell, &["run", "--drain"]).env("SCHOOLBELL_LOG_FORMAT", "json").run().await;
    let quiet = program(&bell, &["run", "--drain"]).env("RUST_LOG", "off").run().await;
    bell.insert_school("Acme").await;
    let chatty = program(&bell, &["resync", "--json"]).env("RUST_LOG", "trace").run().await;

    assert_eq!((plain.code, plain.stdout.as_str()), (0, ""), "{plain}");
    assert!(plain.stderr.contains(" INFO working as the writer"), "{plain}");
    assert!(!plain.stderr.contains('\u{1b}'), "no colours where there is no terminal: {plain}");
    for ended in [flag, variable] {
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended}");
        assert!(ended.stderr.lines().count() >= 2, "{ended}");
        for line in ended.stderr.lines() {
            let line = json(line);
            assert!(
                line["timestamp"].is_string() && line["fields"]["message"].is_string(),
                "{line}"
            );
        }
    }
    assert_eq!((quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()), (0, "", ""), "{quiet}");
    assert!(chatty.stderr.contains("TRACE") || chatty.stderr.contains("DEBUG"), "{chatty}");
    json(&chatty.stdout);
}

#[tokio::test]
async fn a_reader_who_has_seen_enough_is_no_failure_and_a_full_disk_is_one() {
    let bell = TestBell::installed().await;
    for command in [
        &["mapping"][..],
        &["completions", "zsh"],
        &["status"],
        &["migrate", "--dry-run", "--notify", "never"],
    ] {
        let mut child = program(&bell, command).spawn();
        // Nobody reads from the very start.
        drop(child.stdout.take());
        let ended = ends(child).await;
        assert_eq!(ended.status.code(), Some(0), "{command:?}: {}", text(&ended.stderr));
        assert!(!text(&ended.stderr).contains("panicked"), "{}", text(&ended.stderr));
    }
    if std::path::Path::new("/dev/full").exists() {
        let full = std::process::Command::new("sh")
            .args(["-c", &format!("{} mapping > /dev/full", crate::support::program::path())])
            .output()
            .unwrap();
        assert_eq!(full.status.code(), Some(2));
        assert!(
            text(&full.stderr).starts_with("schoolbell: cannot write the result"),
            "{}",
            text(&full.stderr)
        );
    }
}

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
        assert!(log.contains("stopping; what is in hand is finished first"), "{log}");
        assert!(log.contains("stopped; nothing is in hand"), "{log}");
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
    while !log.next_line().await.unwrap().expect("it says that it stops").contains("stopping; ") {}
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

    let reason = "cannot go on: permission denied for table change (42501); grant the missing right to the role of \
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
        until("going on as the writer").await;
        let written = format!("select name from salesforce.editor__c where name = '{side}'");
        bell.target_becomes(&written, &[side]).await;
        signal(&child, "TERM");
        until("stopped; nothing is in hand").await;

        let told = |part: &str| log.iter().filter(|line| line.contains(part)).count();
        assert_eq!(told("interrupted; nothing is lost"), 1, "{side}: {log:#?}");
        assert_eq!(told("going on as the writer"), 1, "{side}: {log:#?}");
        assert_eq!(told("working as the writer"), 1, "{side}: {log:#?}");
        assert!(told("still interrupted") >= 4, "{side}: {log:#?}");
        // The listener or the sweep may notice first, and each says so once.
        assert!(told(" WARN ") <= 3, "{side}: {log:#?}");
        assert!(child.wait().await.unwrap().success());
    }
}

// Help ----------------------------------------------------------------------------------------------

/// The words that lead to each command, found out from the program itself so that none is forgotten.
fn all_commands(of: &clap::Command, path: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for command in of.get_subcommands().filter(|command| command.get_name() != "help") {
        let path = [path, &[command.get_name().to_string()]].concat();
        found.extend(all_commands(command, &path));
        found.push(path);
    }
    found
}

#[tokio::test]
async fn the_help_of_every_command_says_what_it_does_with_an_example_that_can_be_typed() {
    let commands = all_commands(&Cli::command(), &[]);
    assert!(commands.len() >= 10, "{commands:?}");

    for path in commands {
        let words: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let ended = Program::new(&words).run().await;

        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended}");
        let example = ended.stdout.lines().find_map(|line| line.strip_prefix("Example: "));
        let example = example.unwrap_or_else(|| panic!("no example: {ended}"));
        let words = example.split_once("schoolbell ").unwrap().1.split_whitespace();
        let words = words.take_while(|word| *word != ">");
        let parsed =
            Cli::command().try_get_matches_from(std::iter::once("schoolbell").chain(words));
        assert!(parsed.is_ok(), "{example}: {parsed:?}");
    }
    let ended = Program::new(&["--help"]).run().await;
    for part in
        ["Exit codes: 0 done; 1 done, something needs attention; 2 could not do it", "DATABASE_URL"]
    {
        assert!(ended.stdout.contains(part), "{part}: {ended}");
    }
}

#[tokio::test]
async fn completions_are_printed_for_each_shell() {
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef schoolbell"),
        ("fish", "complete -c schoolbell"),
    ] {
        let ended = Program::new(&["completions", shell]).run().await;

        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended}");
        assert!(ended.stdout.contains(sign) && ended.stdout.contains("uninstall"), "{ended}");
    }
}
