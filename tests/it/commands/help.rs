//! What people and scripts read is pinned: the help of every command, and the shape of every report. A change of it is
//! reviewed with `cargo insta review`, or written with `INSTA_UPDATE=always make test`.

use clap::CommandFactory;
use schoolbell::cli::Cli;
use serde_json::Value;

use crate::support::left_out::left_out;
use crate::support::program::{Ended, Program};
use crate::support::{TestBell, eventually};

/// Compares with `tests/it/commands/snapshots/NAME.snap`.
fn pinned(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Every command and every command of a command.
fn all_commands(of: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
    found.push(path.to_vec());
    for command in of.get_subcommands() {
        all_commands(command, &[path, &[command.get_name().to_string()]].concat(), found);
    }
}

#[tokio::test]
async fn the_help_of_every_command_is_pinned() {
    let mut commands = Vec::new();
    all_commands(&Cli::command(), &[], &mut commands);

    for path in commands {
        let words: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let ended = Program::new(&words).run().await;
        assert_eq!(ended.code, 0, "{ended}");
        let name: Vec<&str> = ["help"].into_iter().chain(path.iter().map(String::as_str)).collect();
        pinned(&name.join("_"), &ended.stdout);
    }
}

#[tokio::test]
async fn every_command_has_a_manual_page_and_they_can_be_written_into_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut commands = Vec::new();
    all_commands(&Cli::command(), &[], &mut commands);

    let written = Program::new(&["man", "--dir", folder.path().to_str().unwrap()]).run().await;

    assert_eq!((written.code, written.stdout.as_str()), (0, ""), "{written}");
    for path in commands {
        let words: Vec<&str> = ["man"].into_iter().chain(path.iter().map(String::as_str)).collect();
        let ended = Program::new(&words).run().await;
        let name: Vec<&str> =
            ["schoolbell"].into_iter().chain(path.iter().map(String::as_str)).collect();
        let file = folder.path().join(format!("{}.1", name.join("-")));
        let page =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {file:?}"));
        assert_eq!(ended.stdout, page);
        for part in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS"] {
            assert!(page.contains(part), "{part} is missing: {page}");
        }
    }
    let strange = Program::new(&["man", "resynk"]).run().await;
    assert_eq!(strange.code, 2, "{strange}");
    assert!(strange.stderr.contains("there is no command resynk"), "{strange}");
}

/// The names and types in a report: of a list those of all its elements together.
fn shape(value: &Value, path: &str, lines: &mut std::collections::BTreeSet<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(elements) => {
            for element in elements {
                shape(element, &format!("{path}[]"), lines);
            }
            "list"
        }
        Value::Object(members) => {
            for (name, member) in members {
                shape(member, &format!("{path}.{name}"), lines);
            }
            "object"
        }
    };
    lines.insert(format!("{}: {kind}", if path.is_empty() { "." } else { path }));
}

/// A pair of databases in which every part of a report has something in it.
async fn with_a_bit_of_everything() -> (TestBell, String) {
    let bell = TestBell::start().await;
    bell.target_sql(
        "alter table salesforce.editor__c add constraint no_pirates check (name <> 'Pirates')",
    )
    .await;
    let school = bell.insert_school("Acme").await;
    bell.insert_role(&school, 1).await;
    bell.insert_school("Pirates").await;
    bell.source_sql("update schools set updated_at = clock_timestamp() at time zone 'UTC'").await;
    bell.caught_up().await;
    bell.salesforce_accepts_everything().await;
    // It is woken by its school's arrival, and is due until it waits again.
    eventually("the role waits for its contact", || async {
        let parked = bell.parked().await;
        let waits = parked.iter().any(|parked| parked.contains("for contact sfid"));
        if waits { Ok(()) } else { Err(parked) }
    })
    .await;
    bell.source_sql(&format!("update schools set name = 'Bolt' where id = '{school}'")).await;
    bell.caught_up().await;
    bell.target_sql(
        "begin; set local xmlbinary = 'hex'; update salesforce.editor__c set _hc_lastop = 'FAILED', _hc_err = 'no', name = \
         'Changed by hand'; update salesforce._trigger_log set state = 'FAILED', sf_message = 'no' where state = 'NEW'; \
         commit",
    )
    .await;
    (bell, school)
}

#[tokio::test]
async fn the_shape_of_every_report_is_pinned() {
    let (mut bell, school) = with_a_bit_of_everything().await;
    let role = bell.source_texts("select id::text from roles").await.remove(0);
    let mut reports: Vec<(&str, Vec<&str>)> = vec![
        ("parked_list", vec!["parked", "list"]),
        ("resync", vec!["resync", "role"]),
        ("resync_dry_run", vec!["resync", "--dry-run"]),
        ("verify", vec!["verify"]),
        ("doctor", vec!["doctor"]),
        ("explain_school", vec!["explain", "school", &school]),
        ("explain_role", vec!["explain", "role", &role]),
    ];
    for (name, arguments) in reports.drain(..) {
        pin(&bell, name, &arguments).await;
    }
    let wrong = schoolbell::mapping::BUILT_IN.replace("\"postal_code\"", "\"postal_cod\"");
    let wrong = bell.mapping_file(&wrong);
    let check = bell.run(&["mapping", "--check", wrong.to_str().unwrap(), "--json"]).await;
    pin_report("mapping_check", &check);
    // Stopped, so that something is pending and unfinished.
    bell.service_stops().await;
    bell.source_sql("update schools set name = 'Pending'; alter table roles disable trigger user")
        .await;
    bell.run_ok(&["resync", "contact", "--detach"]).await;
    pin(&bell, "status", &["status"]).await;
}

async fn pin(bell: &TestBell, name: &str, arguments: &[&str]) {
    let arguments = [arguments, &["--json"]].concat();
    let ended = bell.run(&arguments).await;
    assert!(ended.code < 2, "{ended}");
    pin_report(name, &ended);
}

fn pin_report(name: &str, ended: &Ended) {
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let mut lines = std::collections::BTreeSet::new();
    shape(&report, "", &mut lines);
    let lines: Vec<String> = lines.into_iter().collect();
    pinned(&format!("json_{name}"), &lines.join("\n"));
}

/// `script` gives a program a terminal; where there is none this is left out.
#[tokio::test]
async fn colours_are_for_terminals_and_for_those_who_have_not_said_no() {
    let script = |setting: &str| {
        let command =
            format!("{setting} {} status --source-url x", crate::support::program::path());
        std::process::Command::new("script").args(["-qec", &command, "/dev/null"]).output()
    };
    let help = |setting: &str| {
        let command = format!("{setting} {} --help", crate::support::program::path());
        std::process::Command::new("script").args(["-qec", &command, "/dev/null"]).output()
    };
    let Ok(coloured) = help("TERM=xterm") else {
        left_out("there is no `script` to make a terminal with");
        return;
    };
    let escapes = |output: &[u8]| output.contains(&0x1b);
    assert!(escapes(&coloured.stdout), "{}", String::from_utf8_lossy(&coloured.stdout));
    for plain in [help("TERM=xterm NO_COLOR=1"), script("TERM=xterm NO_COLOR=1")] {
        let plain = plain.unwrap().stdout;
        assert!(!plain.is_empty());
        assert!(!escapes(&plain), "{}", String::from_utf8_lossy(&plain));
    }
    let piped = Program::new(&["--help"]).env("TERM", "xterm").run().await;
    assert!(!escapes(piped.stdout.as_bytes()), "{piped}");
}
