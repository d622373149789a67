//! The commands as a user meets them: what they print where, their exit codes, their answers to bad
//! input.

mod bad_input;
mod enabled;
mod help;
mod mapping;
mod run;
mod status;
mod terminal;
mod urls;
mod words;

use std::collections::BTreeSet;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Child;

use crate::support::TestBell;
use crate::support::program::{Ended, Program};

/// In every URL of these tests. It must never be seen again.
const PASSWORD: &str = "hunter2secret";
/// Long enough for a program on a busy machine to end, which it does within a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// The URL with a password in it. The tests' server trusts everybody.
fn with_password(url: &str) -> String {
    url.replacen("postgres@", &format!("postgres:{PASSWORD}@"), 1)
}

/// A server that does not exist.
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
