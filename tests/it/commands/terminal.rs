//! No text from a database, a file, a variable or a command line is obeyed by a terminal, or makes a line of its own.
//!
//! Everything that has a name or holds a text has the worst one here, and every command is run that can show it.

use std::process::Stdio;
use std::time::Duration;

use schoolbell::postgres::name::{ident, literal};
use schoolbell::visible;
use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::support::TestBell;
use crate::support::left_out::left_out;
use crate::support::program::{self, Ended, Program, signal};

/// Sets the title, clears the screen with either kind of sequence, begins a line, turns the direction of text.
const EVIL: &str = "\x1b]0;own\x07\x1b[2J\u{9b}3m\r\nforged\t\u{202e}\u{2066}\u{85}z";
/// Its beginning, as people are to see it.
const SHOWN: &str = r"\x1b]0;own\x07\x1b[2J\u{9b}3m\r\nforged\t\u{202e}\u{2066}\u{85}z";
/// The same within `"…"`, as values are shown.
const SHOWN_IN_QUOTES: &str =
    r"\u{1b}]0;own\u{7}\u{1b}[2J\u{9b}3m\r\nforged\t\u{202e}\u{2066}\u{85}z";

fn assert_escaped(text: &str, ended: &Ended) {
    let raw = text.chars().find(|character| visible::is_hidden(*character) && *character != '\n');
    assert_eq!(raw, None, "{raw:?} is printed: {:?}", ended.to_string());
    assert!(!text.lines().any(|line| line.starts_with("forged")), "a line is forged: {ended}");
}

/// Neither of the two streams holds anything that a terminal obeys.
fn assert_harmless(ended: &Ended) {
    assert!(!ended.stderr.contains("panicked"), "{ended}");
    assert_escaped(&ended.stdout, ended);
    assert_escaped(&ended.stderr, ended);
}

/// And it is shown, not left out.
fn assert_shown(ended: &Ended) {
    assert_harmless(ended);
    let all = format!("{}{}", ended.stdout, ended.stderr);
    assert!(all.contains(SHOWN) || all.contains(SHOWN_IN_QUOTES), "it is not shown: {ended}");
}

fn assert_json_keeps_it(ended: &Ended) {
    assert_harmless(ended);
    let report: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}"));
    assert!(holds(&report), "the value is another one: {ended}");
}

fn holds(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(EVIL),
        Value::Array(values) => values.iter().any(holds),
        Value::Object(members) => members.values().any(holds),
        _ => false,
    }
}

/// A text of TOML.
fn toml(text: &str) -> String {
    let number = |c: char| {
        if c.is_ascii_graphic() { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) }
    };
    format!("\"{}\"", text.chars().map(number).collect::<String>())
}

/// A pair of databases in which everything is called like that.
struct Evil {
    bell: TestBell,
    mapping: String,
}

impl Evil {
    async fn new() -> Self {
        let bell = TestBell::bare().await;
        let (clubs, id, name) = (ident("clubs"), ident("id"), ident(EVIL));
        bell.source_sql(&format!(
            "create table {name} ({id} text primary key, {name} text); comment on table {name} is 'no {clubs}'"
        ))
        .await;
        bell.target_sql(&format!(
            "create table salesforce.club__c (
                 id serial primary key, sfid varchar(18), _hc_lastop varchar(32), _hc_err text, isdeleted boolean,
                 systemmodstamp timestamp, createddate timestamp, key__c varchar(120) unique, {name} varchar(120),
                 constraint {name} check ({name} <> 'refused'))"
        ))
        .await;
        let evil = toml(EVIL);
        let text = format!(
            "version = 1\n# \u{202e}\u{9b}\r\n[object.{evil}]\nsource = {evil}\nkey = \"id\"\ntarget = \"club__c\"\n\
             external_id = \"key__c\"\n[object.{evil}.fields]\n{evil} = {evil}\n"
        );
        let mapping = bell.mapping_file(&text).display().to_string();
        Self { bell, mapping }
    }

    fn program(&self, arguments: &[&str]) -> Program {
        Program::new(arguments)
            .env("DATABASE_URL", &self.bell.source_url())
            .env("SALESFORCE_CONNECT_URL", &self.bell.target_url())
            .env("SALESFORCE_ENABLED", "true")
            .env("SCHOOLBELL_MAPPING", &self.mapping)
            .env("RUST_LOG", "schoolbell=debug")
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        self.program(arguments).run().await
    }

    async fn insert(&self, key: &str, value: &str) {
        let sql =
            format!("insert into {} values ({}, {})", ident(EVIL), literal(key), literal(value));
        self.bell.source_sql(&sql).await;
    }

    /// What a person sees who has no pipe behind the program. None: there is no `script`.
    async fn at_a_terminal(&self, arguments: &str, seconds: Option<&str>) -> Option<String> {
        let limit = seconds.map(|seconds| format!("timeout -s INT {seconds} ")).unwrap_or_default();
        let command = format!("{limit}{} {arguments}", program::path());
        let output = tokio::process::Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env("DATABASE_URL", self.bell.source_url())
            .env("SALESFORCE_CONNECT_URL", self.bell.target_url())
            .env("SALESFORCE_ENABLED", "true")
            .env("SCHOOLBELL_MAPPING", &self.mapping)
            .env("SCHOOLBELL_HTTP", "off")
            .env("TERM", "xterm")
            .stdin(Stdio::null())
            .output();
        let output = output.await.ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[tokio::test]
async fn no_report_lets_a_terminal_obey_what_is_in_it() {
    let evil = Evil::new().await;
    let object = EVIL;
    let key = format!("key {EVIL}");

    // What a dry run prints can be pasted, and does what it says.
    let dry_run = evil.run(&["migrate", "--dry-run"]).await;
    assert_shown(&dry_run);
    assert!(dry_run.stdout.contains(r#"U&"\001b]0;own"#), "{dry_run}");
    assert!(!dry_run.stdout.contains("do not paste"), "{dry_run}");
    evil.bell.source_sql(&dry_run.stdout).await;
    let again = evil.run(&["migrate"]).await;
    assert_eq!(again.stdout, "nothing to do: schema and triggers are up to date\n", "{again}");

    evil.insert(&key, "right").await;
    evil.insert(&format!("dead {EVIL}"), "refused").await;
    assert_eq!(evil.bell.source_count("select count(*) from schoolbell.change").await, 2);
    for json in [false, true] {
        let format = if json { "json" } else { "text" };
        let drained = evil.program(&["run", "--drain", "--log-format", format]).run().await;
        assert_harmless(&drained);
        assert!(drained.stderr.contains("own"), "{drained}");
        for line in drained.stderr.lines().filter(|_| json) {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
        }
        // The second one has something to say, too.
        evil.bell
            .source_sql("update schoolbell.parked set due_at = now(), state = 'retrying'")
            .await;
    }
    evil.run(&["run", "--drain"]).await;
    evil.bell
        .target_sql(&format!(
            "update salesforce.club__c set _hc_lastop = 'FAILED', _hc_err = {}",
            literal(&format!("error {EVIL}"))
        ))
        .await;

    for arguments in [
        &["status"][..],
        &["explain", object, &key],
        &["explain", object, &format!("dead {EVIL}")],
        &["parked", "list"],
        &["resync", "--dry-run"],
        &["resync", object, "--key", &key],
        &["parked", "retry", "--failed"],
        &["parked", "drop", object],
        &["parked", "retry", object, "--key", EVIL],
    ] {
        assert_shown(&evil.run(arguments).await);
    }
    evil.bell
        .target_sql(&format!("update salesforce.club__c set {} = {}", ident(EVIL), literal(EVIL)))
        .await;
    for arguments in
        [&["verify"][..], &["explain", object, &key], &["verify", "--repair"], &["parked", "list"]]
    {
        assert_shown(&evil.run(arguments).await);
    }
    for arguments in [
        &["status", "--json"][..],
        &["explain", object, &key, "--json"],
        &["parked", "list", "--json"],
        &["resync", "--dry-run", "--json"],
        &["resync", object, "--json"],
        &["verify", "--json"],
    ] {
        assert_json_keeps_it(&evil.run(arguments).await);
    }
    // Everything fits, so there is nothing to be named.
    assert_harmless(&evil.run(&["doctor"]).await);
    assert_harmless(&evil.run(&["doctor", "--json"]).await);

    let mut watch = evil.program(&["status", "--watch=1"]).spawn();
    let mut first = vec![0; 200];
    watch.stdout.as_mut().unwrap().read_exact(&mut first).await.unwrap();
    signal(&watch, "INT");
    let watched = watch.wait_with_output().await.unwrap();
    let stdout = [first, watched.stdout].concat();
    let stdout = String::from_utf8(stdout).unwrap();
    let stderr = String::from_utf8(watched.stderr).unwrap();
    assert_shown(&Ended { command: "status --watch".into(), code: 0, stdout, stderr });

    for (arguments, seconds) in [
        ("status", None),
        ("status --watch=1", Some("3")),
        ("parked drop --all", None),
        ("parked retry --failed", None),
        ("resync", None),
        ("verify", None),
        ("uninstall", None),
    ] {
        let Some(seen) = evil.at_a_terminal(arguments, seconds).await else {
            left_out("there is no `script` to make a terminal with");
            break;
        };
        for obeyed in
            ["\x1b]", "\x07", "\x1b[2J", "\u{9b}", "\u{202e}", "\u{2066}", "\u{85}", "\nforged"]
        {
            assert!(!seen.contains(obeyed), "{arguments}: {seen:?}");
        }
        assert!(seen.contains(SHOWN), "{arguments}: {seen:?}");
    }

    // Another mapping, of which the difference is said, and one that does not fit.
    let other = std::fs::read_to_string(&evil.mapping).unwrap();
    let other = other.replace("version = 1", "version = 1\nname = \"schoolbell\"");
    let changed = other.replace("name = \"schoolbell\"\n", "").replace(
        "key = \"id\"",
        &format!("key = \"id\"\nfilter = {}", toml(&format!("id <> '{EVIL}'"))),
    );
    let changed = evil.bell.mapping_file(&changed).display().to_string();
    assert_shown(&evil.run(&["migrate", "--dry-run", "--mapping", &changed]).await);
    assert_shown(&evil.run(&["migrate", "--mapping", &changed]).await);
    assert_shown(&evil.run(&["parked", "drop", object, "--yes"]).await);
    assert_shown(&evil.run(&["uninstall", "--yes"]).await);
}

#[tokio::test]
async fn a_mapping_is_printed_harmless_and_stays_the_same_one() {
    let evil = Evil::new().await;

    let printed = evil.run(&["mapping"]).await;

    assert_harmless(&printed);
    let copy = evil.bell.mapping_file(&printed.stdout);
    let (copy, original) =
        (schoolbell::mapping::Mapping::load(Some(&copy)).unwrap(), &evil.mapping);
    let original = schoolbell::mapping::Mapping::load(Some(original.as_ref())).unwrap();
    assert_eq!(copy.objects[0].fingerprint(), original.objects[0].fingerprint());
    let drafted = evil.run(&["mapping", "init", &format!("{EVIL}=club__c")]).await;
    assert_harmless(&drafted);
    let draft = evil.bell.mapping_file(&drafted.stdout);
    let checked = evil.run(&["mapping", "--check", draft.to_str().unwrap()]).await;
    assert_eq!(checked.code, 0, "{checked}");
    assert_harmless(&checked);
}

#[tokio::test]
async fn a_remedy_of_the_doctor_can_be_pasted() {
    let evil = Evil::new().await;
    let role = format!("{} {EVIL}", evil.bell.source_name);
    evil.run(&["migrate"]).await;
    evil.bell.source_sql(&format!("create role {} login", ident(&role))).await;
    let encoded: String = role.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let url = evil.bell.source_url().replacen("postgres@", &format!("{encoded}@"), 1);

    let doctor =
        |json: &[&str]| evil.program(&[&["doctor"], json].concat()).env("DATABASE_URL", &url);
    let printed = doctor(&[]).run().await;
    let report = doctor(&["--json"]).run().await;

    assert_shown(&printed);
    assert!(!printed.stdout.contains("do not paste"), "{printed}");
    assert_json_keeps_it(&report);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let rights = checks.iter().find(|check| check["name"] == "source_rights").unwrap();
    for remedy in rights["remedies"].as_array().unwrap() {
        let text = remedy["text"].as_str().unwrap();
        if remedy["place"] == "source" {
            assert!(printed.stdout.contains(text), "{text} is not printed: {printed}");
            evil.bell.source_sql(text).await;
        }
    }
    let report: Value = serde_json::from_str(&doctor(&["--json"]).run().await.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let rights = checks.iter().find(|check| check["name"] == "source_rights").unwrap();
    assert_eq!(rights["result"], "ok", "{rights}");
    evil.bell.source_sql(&format!("drop owned by {0}; drop role {0}", ident(&role))).await;
}

#[tokio::test]
async fn no_complaint_about_what_was_typed_or_set_is_obeyed() {
    let evil = Evil::new().await;
    evil.run(&["migrate"]).await;
    let flag = format!("--{EVIL}=1");
    for arguments in [
        &["explain", &format!("other {EVIL}"), "k"][..],
        &["resync", &format!("other {EVIL}")],
        &["parked", "list", &format!("other {EVIL}")],
        &["resync", "--since", EVIL],
        &["man", EVIL],
        &["status", EVIL],
        &["parked", "list", "--limit", EVIL],
        &["parked", "list", &format!("--limit={EVIL}")],
        &["status", &flag],
        &[EVIL],
        &["run", "--http", EVIL],
        &["run", "--verify-every", EVIL],
        &["mapping", "--check", EVIL],
        &["status", "--mapping", EVIL],
        &["mapping", "init", EVIL],
        &["status", "--source-url-file", EVIL],
    ] {
        let ended = evil.run(arguments).await;
        assert_eq!(ended.code, 2, "{ended}");
        assert_shown(&ended);
    }

    let encoded: String = EVIL.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let absent = evil.bell.source_url().replace(&evil.bell.source_name, &encoded);
    for (name, value) in [
        ("DATABASE_URL", absent.as_str()),
        ("SALESFORCE_CONNECT_URL", &absent),
        ("SCHOOLBELL_LOG_FORMAT", EVIL),
        ("SCHOOLBELL_HTTP", EVIL),
        ("SCHOOLBELL_MAPPING", EVIL),
    ] {
        let ended = evil.program(&["run"]).env(name, value).run().await;
        assert_eq!(ended.code, 2, "{name}: {ended}");
        assert_shown(&ended);
    }
    for (name, value) in [("RUST_LOG", EVIL), ("DATABASE_URL", EVIL), ("PGSSLMODE", EVIL)] {
        assert_harmless(&evil.program(&["status"]).env(name, value).run().await);
    }
    let help = evil.program(&["status", "--help"]).env("SCHOOLBELL_MAPPING", EVIL).run().await;
    assert_harmless(&help);
    // A mapping in which everything that a message may quote is wrong.
    let toml = toml(EVIL);
    for text in [
        format!("version = 1\n{toml} = 1\n"),
        format!(
            "version = 1\n[object.{toml}]\nsource = {toml}\nkey = {toml}\ntarget = {toml}\n{toml} = 1\n"
        ),
        format!(
            "version = 1\n[object.{toml}]\nsource = {toml}\nkey = {toml}\ntarget = 'club__c'\nexternal_id = {toml}\n\
                 filter = {toml}\n[object.{toml}.fields]\n{toml} = {{ sql = {toml} }}\n"
        ),
        format!("version = 1\n\u{9b}\u{202e} = = {EVIL}"),
    ] {
        let file = evil.bell.mapping_file(&text);
        let file = file.to_str().unwrap();
        for arguments in [
            &["mapping", "--check", file][..],
            &["status", "--mapping", file],
            &["migrate", "--mapping", file],
        ] {
            assert_harmless(&evil.run(arguments).await);
        }
        let json = evil.run(&["mapping", "--check", file, "--json"]).await;
        assert_harmless(&json);
        assert!(serde_json::from_str::<Value>(&json.stdout).is_ok(), "{json}");
    }
}

/// Long enough for a program on a busy machine to end.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_running_service_logs_nothing_that_is_obeyed() {
    let evil = Evil::new().await;
    evil.run(&["migrate"]).await;
    evil.insert(&format!("dead {EVIL}"), "refused").await;

    let service = evil.program(&["run"]).spawn();
    crate::support::eventually("the row is refused", || async {
        match evil
            .bell
            .source_count("select count(*) from schoolbell.parked where state = 'dead'")
            .await
        {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    // A mapping that cannot be used, when it is read again.
    std::fs::write(&evil.mapping, format!("version = 1\n{} = 1\n", toml(EVIL))).unwrap();
    signal(&service, "HUP");
    signal(&service, "TERM");
    let output =
        tokio::time::timeout(PATIENCE, service.wait_with_output()).await.expect("it ends").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ended = Ended {
        command: "run".into(),
        code: 0,
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    };
    assert_shown(&ended);
}

#[tokio::test]
async fn no_page_holds_what_misleads_a_reader() {
    let mut evil = Evil::new().await;
    evil.run(&["migrate"]).await;
    evil.bell.use_mapping(&std::fs::read_to_string(&evil.mapping).unwrap()).await;
    evil.insert(&format!("dead {EVIL}"), "refused").await;
    let visitor = evil.bell.visitor().await;
    evil.bell.drain().await;
    visitor.shows("refused").await;

    for path in ["/", "/?moment", "/api/status", "/metrics", "/readyz", "/healthz"] {
        let body = visitor.get(path).await.body;
        let raw = body.chars().find(|c| visible::is_hidden(*c) && !matches!(c, '\n' | '\t'));
        assert_eq!(raw, None, "{path}: {body}");
    }
    let shown = visitor.get("/").await.body;
    assert!(shown.contains(SHOWN), "{shown}");
    assert!(holds(&visitor.get("/api/status").await.json()));
}
