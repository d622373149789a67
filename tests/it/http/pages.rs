//! The pages of a service: what they answer, when it is ready, and that asking costs the databases nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use schoolbell::config::Pace;
use schoolbell::metrics;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;

use crate::support::load::stretched;
use crate::support::program::Program;
use crate::support::proxy::{Cut, Proxy};
use crate::support::web::{LOOKS, Visitor, ask};
use crate::support::{TestBell, eventually};

/// Longer than any test lasts.
const NEVER: Duration = Duration::from_secs(3_600);

fn program(bell: &TestBell, arguments: &[&str]) -> Program {
    Program::new(arguments)
        .env("DATABASE_URL", &bell.source_url())
        .env("SALESFORCE_CONNECT_URL", &bell.target_url())
        .env("SALESFORCE_ENABLED", "true")
}

/// Reads the log until a line contains this.
async fn says(child: &mut Child, part: &str) -> String {
    let log = child.stderr.as_mut().unwrap();
    let mut lines = BufReader::new(log).lines();
    loop {
        let line = lines.next_line().await.unwrap().expect("it says so before it ends");
        if line.contains(part) {
            return line;
        }
    }
}

/// The pages of a program that was just started.
pub async fn pages(child: &mut Child) -> Visitor {
    Visitor::of(&says(child, "status page and metrics at").await)
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status();
    assert!(sent.unwrap().success());
}

// What is answered ----------------------------------------------------------------------------------

#[tokio::test]
async fn each_page_answers_those_who_read_and_nobody_who_would_write() {
    let bell = TestBell::start().await;
    let visitor = bell.visitor().await;
    visitor.becomes("/readyz", 200).await;

    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/?moment", "text/html; charset=utf-8"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/metrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("/api/status", "application/json"),
    ] {
        let answer = visitor.get(path).await;
        assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, kind), "{path}");
        let said = |name: &str| answer.headers[name].clone();
        assert_eq!(said("cache-control"), "no-store", "{path}");
        assert_eq!(said("x-content-type-options"), "nosniff", "{path}");
        assert!(said("content-security-policy").starts_with("default-src 'none'"), "{path}");
        assert!(!said("content-security-policy").contains("unsafe"), "{path}");
        let head = ask(visitor.port, "HEAD", path, "").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let refused = ask(visitor.port, method, path, "").await;
            assert_eq!(refused.status, 405, "{method} {path}: {refused:?}");
        }
    }
    assert_eq!(visitor.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn each_answer_of_the_page_has_a_mark_of_its_own_for_its_style_and_script() {
    let bell = TestBell::installed().await;
    let visitor = bell.visitor().await;

    let mut marks = BTreeSet::new();
    for _ in 0..10 {
        let answer = visitor.get("/").await;
        let policy = &answer.headers["content-security-policy"];
        let mark = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
        assert_eq!(mark.len(), 32);
        assert_eq!(answer.body.matches(&format!("nonce=\"{mark}\"")).count(), 2, "{answer:?}");
        marks.insert(mark.to_string());
    }
    assert_eq!(marks.len(), 10, "{marks:?}");
}

/// The keys of a document and of what is in it, with the type of each value.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
        }
        Value::Array(items) => items.iter().take(1).map(shape).collect(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "text".into(),
        Value::Bool(_) => "yes or no".into(),
        Value::Null => Value::Null,
    }
}

#[tokio::test]
async fn api_status_is_the_report_of_the_command() {
    let bell = TestBell::start().await;
    let visitor = bell.visitor().await;
    let school = bell.insert_school("Acme").await;
    bell.insert_role(&school, 1).await;
    bell.caught_up().await;
    bell.salesforce_accepts_everything().await;

    let command: Value = serde_json::from_str(&bell.run_ok(&["status", "--json"]).await).unwrap();
    let page = eventually("the last look saw it all, behind the target too", || async {
        let page = visitor.get("/api/status").await;
        let page = page.json();
        let same = |part: &str| page[part] == command[part];
        if shape(&page) == shape(&command) && same("parked") { Ok(page) } else { Err(page) }
    })
    .await;

    assert_eq!(page["writer"]["process"], command["writer"]["process"]);
    assert_eq!(page["headline"], command["headline"]);
}

// Ready or not --------------------------------------------------------------------------------------

#[tokio::test]
async fn it_is_ready_unless_a_database_is_gone_or_capture_is_not_whole() {
    let mut bell = TestBell::installed().await;
    let proxies = [
        Proxy::start(bell.cluster().port()).await,
        Proxy::start(bell.target_cluster().port()).await,
    ];
    bell.source_through(&proxies[0].url(&bell.source_name));
    bell.target_through(&proxies[1].url(&bell.target_name));
    bell.service_starts();
    let visitor = bell.visitor().await;
    visitor.becomes("/readyz", 200).await;

    for (proxy, hindrance) in
        proxies.iter().zip(["the source cannot be reached", "the target cannot be reached"])
    {
        proxy.refuse();
        proxy.cut(Cut::Reset);
        let hindered = visitor.becomes("/readyz", 503).await;
        assert!(hindered.body.contains(hindrance), "{hindered:?}");
        assert_eq!(visitor.get("/healthz").await.status, 200, "it is alive all the same");
        proxy.pass();
        visitor.becomes("/readyz", 200).await;
    }
    bell.source_sql("drop trigger schoolbell_insert on schools").await;
    let hindered = visitor.becomes("/readyz", 503).await;
    assert!(hindered.body.contains("schoolbell_insert"), "{hindered:?}");
    bell.run_ok(&["migrate"]).await;
    visitor.becomes("/readyz", 200).await;
    visitor.stopping();
    assert_eq!(visitor.get("/readyz").await.body, "not ready: it is stopping\n");
}

#[tokio::test]
async fn a_change_that_waits_too_long_makes_it_not_ready() {
    let bell = TestBell::installed().await;
    let visitor = bell.visitor().await;
    visitor.becomes("/readyz", 200).await;

    bell.insert_school("Acme").await;
    bell.source_sql("update schoolbell.change set changed_at = now() - interval '6 minutes'").await;

    let hindered = visitor.becomes("/readyz", 503).await;
    assert!(hindered.body.contains("longer than 300 s"), "{hindered:?}");
}

#[tokio::test]
async fn figures_from_before_the_source_went_away_are_not_shown_as_fresh() {
    let mut bell = TestBell::installed().await;
    let proxy = Proxy::start(bell.cluster().port()).await;
    bell.source_through(&proxy.url(&bell.source_name));
    bell.insert_school("Acme").await;
    let visitor = bell.visitor().await;
    visitor.measures("schoolbell_pending_changes", 1.0).await;

    proxy.refuse();
    proxy.cut(Cut::Reset);
    let page = visitor.shows("The source cannot be reached").await;

    assert!(page.contains("<title>trouble"), "{page}");
    assert!(page.contains("<main class=\"trouble old\""), "{page}");
    assert!(page.contains("Old figures"), "{page}");
    let metrics = visitor.get("/metrics").await;
    assert_eq!(metrics.metric("schoolbell_database_up{database=\"source\"}"), Some(0.0));
    for unknown in ["schoolbell_pending_changes", "schoolbell_lag_seconds", "schoolbell_writers"] {
        assert_eq!(metrics.metric(unknown), None, "{metrics:?}");
    }
    let status = visitor.get("/api/status").await;
    assert_eq!(status.status, 503);
    assert!(status.json()["last_seen_at"].is_string(), "{status:?}");
}

// Metrics -------------------------------------------------------------------------------------------

#[tokio::test]
async fn metrics_move_by_exactly_what_was_written() {
    let mut bell = TestBell::that_deletes().await;
    let visitor = bell.visitor().await;
    bell.asleep().await;
    let schools = [bell.insert_school("One").await, bell.insert_school("Two").await];
    bell.insert_role(&schools[0], 1).await;
    bell.caught_up().await;
    let moved = async |series: &str, value: f64| visitor.measures(series, value).await;

    moved("schoolbell_acknowledged_changes_total", 3.0).await;
    moved("schoolbell_written_rows_total{object=\"school\"}", 2.0).await;
    moved("schoolbell_applied_keys_total{object=\"school\"}", 2.0).await;
    moved("schoolbell_parkings_total{object=\"contact\",state=\"waiting\"}", 2.0).await;
    moved("schoolbell_parked_keys{object=\"contact\",state=\"waiting\"}", 2.0).await;
    moved("schoolbell_parked_keys{object=\"role\",state=\"waiting\"}", 1.0).await;
    moved("schoolbell_delivery_seconds_count", 3.0).await;
    moved("schoolbell_pending_changes", 0.0).await;
    moved("schoolbell_role{role=\"writer\"}", 1.0).await;
    moved("schoolbell_writers", 1.0).await;
    assert!(
        visitor.get("/metrics").await.metric("schoolbell_notices_total{kind=\"insert\"}")
            >= Some(1.0)
    );

    bell.source_sql("update schools set name = name || ' '").await;
    moved("schoolbell_equal_keys_total{object=\"school\"}", 2.0).await;
    moved("schoolbell_written_rows_total{object=\"school\"}", 2.0).await;
    bell.source_sql("delete from roles").await;
    bell.source_sql(&format!("delete from schools where id = '{}'", schools[1])).await;
    moved("schoolbell_deleted_rows_total{object=\"school\"}", 1.0).await;
    bell.source_sql("select pg_notify('schoolbell', 'ping')").await;
    moved("schoolbell_notices_total{kind=\"unreadable\"}", 1.0).await;
    let batches = visitor.get("/metrics").await.metric("schoolbell_batches_total");
    for step in ["claim", "project", "apply", "acknowledge"] {
        moved(&format!("schoolbell_step_seconds_count{{step=\"{step}\"}}"), batches.unwrap()).await;
    }

    bell.service_stops().await;
    moved("schoolbell_bell_listening", 0.0).await;
    moved("schoolbell_writers", 0.0).await;
}

#[tokio::test]
async fn an_interruption_is_counted_and_told_until_it_is_over() {
    let mut bell = TestBell::installed().await;
    let port = bell.target_cluster().port();
    let proxy = Proxy::start(port).await;
    bell.target_through(&proxy.url(&bell.target_name));
    bell.service_starts();
    let visitor = bell.visitor().await;
    visitor.measures("schoolbell_role{role=\"writer\"}", 1.0).await;

    proxy.refuse();
    proxy.cut(Cut::Reset);
    visitor.measures("schoolbell_role{role=\"interrupted\"}", 1.0).await;
    visitor.measures("schoolbell_interruptions_total", 1.0).await;
    let page = visitor.shows("The target cannot be reached").await;
    assert!(!page.contains(&port.to_string()), "an address is nobody's business: {page}");
    proxy.pass();

    visitor.measures("schoolbell_role{role=\"writer\"}", 1.0).await;
    visitor.measures("schoolbell_interruptions_total", 1.0).await;
    visitor.shows("OK: ").await;
}

#[tokio::test]
async fn every_metric_that_is_documented_is_exposed_with_its_help_and_no_other() {
    let bell = TestBell::start().await;
    let visitor = bell.visitor().await;
    visitor.becomes("/readyz", 200).await;

    let text = visitor.get("/metrics").await.body;

    let told = |start: &str| -> Vec<(String, String)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(start)?.split_once(' '));
        lines.map(|(name, rest)| (name.to_string(), rest.to_string())).collect()
    };
    let wanted = metrics::ALL.iter();
    let helps: Vec<_> =
        wanted.clone().map(|d| (d.family().to_string(), d.help.to_string())).collect();
    let kinds: Vec<_> =
        wanted.map(|d| (d.family().to_string(), d.kind.as_str().to_string())).collect();
    assert_eq!((told("# HELP "), told("# TYPE ")), (helps, kinds));
    assert!(text.ends_with("# EOF\n"), "{text}");
    // A series belongs to a documented name and has the documented labels.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let definition = metrics::ALL.iter().find(|d| {
            name == d.name
                || ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|end| name.strip_suffix(end) == Some(d.name))
        });
        let definition = definition.unwrap_or_else(|| panic!("{name} is not documented"));
        let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.split_once('=').unwrap().0);
        let labels: Vec<&str> = labels.filter(|label| *label != "le").collect();
        assert_eq!(labels, definition.labels, "{line}");
    }
}

// What it costs, and which clients it trusts
// --------------------------------------------------------

#[tokio::test]
async fn no_request_reaches_a_database() {
    let mut bell = TestBell::installed().await;
    let proxies = [
        Proxy::start(bell.cluster().port()).await,
        Proxy::start(bell.target_cluster().port()).await,
    ];
    bell.source_through(&proxies[0].url(&bell.source_name));
    bell.target_through(&proxies[1].url(&bell.target_name));
    let visitor = bell
        .visitor_who_is_shown(Pace { look: NEVER, look_watched: NEVER, ..Pace::default() })
        .await;
    // The first look, and then the one at what Salesforce made of the rows.
    eventually("it has looked", || async {
        let status = visitor.get("/api/status").await;
        if status.status == 200 && status.json()["salesforce"] != Value::Array(Vec::new()) {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    let asked = || proxies.each_ref().map(|proxy| proxy.traffic().round_trips);
    let before = asked();

    for _ in 0..50 {
        for path in ["/", "/?moment", "/healthz", "/readyz", "/metrics", "/api/status"] {
            assert_eq!(visitor.get(path).await.status, 200);
        }
    }

    assert_eq!(asked(), before);
}

#[tokio::test]
async fn looking_takes_two_sessions_on_the_source_and_one_on_the_target_and_makes_no_wal() {
    let settings = [
        "autovacuum = off",
        "wal_level = minimal",
        "max_wal_senders = 0",
        "checkpoint_timeout = '1h'",
    ];
    let mut bell = TestBell::in_a_cluster_of_its_own(&settings).await;
    let school = bell.insert_school("Acme").await;
    bell.insert_role(&school, 1).await;
    bell.caught_up().await;
    bell.service_stops().await;
    let visitor = bell.visitor().await;
    let looks = async || {
        for _ in 0..5 {
            let before = visitor.get("/metrics").await.metric("schoolbell_look_age_seconds");
            eventually("it looks again", || async {
                let now = visitor.get("/metrics").await.metric("schoolbell_look_age_seconds");
                if now.is_some() && now < before || before.is_none() { Ok(()) } else { Err(now) }
            })
            .await;
        }
    };
    // The first looks may still tidy up pages that the last writes left behind.
    looks().await;
    let lsn = "select pg_current_wal_insert_lsn()::text";
    let before = bell.source_texts(lsn).await;

    looks().await;

    assert_eq!(bell.source_texts(lsn).await, before);
    let sessions = "select count(*) from pg_stat_activity where application_name = 'schoolbell page' \
                    and datname = current_database()";
    // One that was lost is opened again by the next look.
    eventually("it has two sessions and one", || async {
        match (bell.source_count(sessions).await, bell.target_count(sessions).await) {
            (2, 1) => Ok(()),
            others => Err(others),
        }
    })
    .await;
}

#[tokio::test]
async fn what_comes_from_a_database_is_text_on_the_page_and_never_markup() {
    let bell = TestBell::installed().await;
    bell.source_sql(
        "insert into schoolbell.parked (object, key, state, reason, sqlstate, remedy) values \
         ('<b>school</b>', '<script>alert(1)</script>', 'dead', '<img src=x onerror=alert(2)>', '23514', '\"><i>mend'), \
         ('school', 'quoted', 'dead', 'the secret of Acme', 'P0001', 'ask')",
    )
    .await;
    bell.source_sql(
        "insert into schoolbell.parked (object, key, state, awaits, awaits_key, reason) values \
         ('role', '7', 'waiting', '<u>school</u> sfid', 'k', 'waits')",
    )
    .await;
    let visitor = bell.visitor().await;

    for path in ["/", "/?moment"] {
        visitor.shows("&lt;script&gt;alert(1)&lt;/script&gt;").await;
        let page = visitor.get(path).await.body;
        for (hostile, shown) in [
            ("<b>school", "&lt;b&gt;school&lt;/b&gt;"),
            ("<script>alert", "&lt;script&gt;alert(1)"),
            ("<img", "&lt;img src=x onerror=alert(2)&gt; (23514)"),
            ("\"><i>", "&quot;&gt;&lt;i&gt;mend"),
            ("<u>", "waits for &lt;u&gt;school&lt;/u&gt; sfid"),
            // A message that a trigger has raised may quote the row.
            ("secret", "refused by a trigger (P0001)"),
        ] {
            assert!(!page.contains(hostile), "{path} has {hostile}: {page}");
            assert!(page.contains(shown), "{path} lacks {shown}: {page}");
        }
    }
}

#[tokio::test]
async fn parked_keys_are_grouped_by_reason_with_the_oldest_and_the_dead_first() {
    let bell = TestBell::installed().await;
    bell.source_sql(
        "insert into schoolbell.parked (object, key, state, awaits, awaits_key, reason, parked_at) \
         select 'role', n::text, 'waiting', 'school sfid', n::text, 'waits for school sfid ' || n, \
         now() - n * interval '1 minute' from generate_series(1, 1234) as n",
    )
    .await;
    bell.source_sql(
        "insert into schoolbell.parked (object, key, state, reason, sqlstate, remedy, parked_at) values \
         ('school', 'a', 'dead', 'too long', '22001', 'mend it', now() - interval '3 hours'), \
         ('school', 'b', 'dead', 'too long', '22001', 'mend it', now() - interval '5 hours')",
    )
    .await;
    let visitor = bell.visitor().await;

    let page = visitor.shows("1,234").await;

    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is missing: {page}"));
    assert!(place("too long (22001)") < place("waits for school sfid"));
    assert!(
        place("<code>b</code><small>for 5 h</small>")
            < place("<code>1234</code><small>for 20 h 34 min</small>")
    );
    assert!(!page.contains("<code>a</code>"), "{page}");
}

// The program ---------------------------------------------------------------------------------------

#[tokio::test]
async fn a_disabled_service_shows_its_pages_and_writes_nothing() {
    let bell = TestBell::installed().await;
    bell.insert_school("Acme").await;
    let disabled =
        program(&bell, &["run", "--http", "127.0.0.1:0"]).env("SALESFORCE_ENABLED", "false");
    let mut child = disabled.spawn();
    let visitor = pages(&mut child).await;

    visitor.measures("schoolbell_role{role=\"disabled\"}", 1.0).await;
    visitor.measures("schoolbell_pending_changes", 1.0).await;

    let metrics = visitor.get("/metrics").await;
    assert_eq!(metrics.metric("schoolbell_enabled"), Some(0.0));
    assert!(bell.mirrored("editor__c", "editoruuid__c").await.is_empty());
}

#[tokio::test]
async fn a_copy_that_stands_by_shows_who_is_the_writer_and_is_ready() {
    let bell = TestBell::start().await;
    bell.asleep().await;
    let mut child = program(&bell, &["run"]).env("SCHOOLBELL_HTTP", "127.0.0.1:0").spawn();
    let visitor = pages(&mut child).await;

    visitor.measures("schoolbell_role{role=\"standby\"}", 1.0).await;
    visitor.becomes("/readyz", 200).await;
    let page = visitor.shows("standby for").await;

    let writer = format!("by {}", schoolbell::apply::writer::process());
    assert!(page.contains(&writer), "{writer}: {page}");
}

#[tokio::test]
async fn the_pages_end_with_the_service_also_when_somebody_keeps_a_connection_open() {
    let bell = TestBell::installed().await;
    let mut child = program(&bell, &["run", "--http", "127.0.0.1:0"]).spawn();
    let visitor = pages(&mut child).await;
    visitor.becomes("/readyz", 200).await;
    let mut idle = TcpStream::connect(("127.0.0.1", visitor.port)).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();

    signal(&child, "TERM");
    let ended = tokio::time::timeout(stretched(Duration::from_secs(20)), child.wait()).await;

    assert!(ended.expect("it ends").unwrap().success());
    assert!(TcpStream::connect(("127.0.0.1", visitor.port)).await.is_err());
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_when_it_was_given() {
    let bell = TestBell::installed().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();

    for given in [address.as_str(), "nowhere", "127.0.0.1", "127.0.0.1:99999"] {
        let flag = program(&bell, &["run", "--http", given]).run().await;
        let variable = program(&bell, &["run"]).env("SCHOOLBELL_HTTP", given).run().await;
        for ended in [flag, variable] {
            assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
            assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
            assert!(
                ended.stderr.contains(&format!("cannot listen on {given:?} (--http or")),
                "{ended}"
            );
        }
    }
}

#[tokio::test]
async fn the_default_address_that_is_taken_is_a_warning_and_the_service_works() {
    let bell = TestBell::installed().await;
    // Whether it is ours or somebody else's, it is taken.
    let _taken = TcpListener::bind(schoolbell::http::DEFAULT_ADDRESS).await;
    let mut child = program(&bell, &["run"]).env("SCHOOLBELL_HTTP", "").spawn();

    says(&mut child, "no status page and no metrics: cannot listen on 127.0.0.1:9417").await;

    let school = bell.insert_school("Acme").await;
    bell.target_becomes("select editoruuid__c from salesforce.editor__c", &[&school]).await;
}

#[tokio::test]
async fn a_drain_and_a_service_that_is_told_so_serve_no_pages() {
    let bell = TestBell::installed().await;
    let drained = program(&bell, &["run", "--drain", "--http", "127.0.0.1:0"]).run().await;
    assert_eq!(drained.code, 0, "{drained}");
    assert!(!drained.stderr.contains("http://"), "{drained}");

    let mut child = program(&bell, &["run", "--http", "off"]).spawn();
    let line = says(&mut child, "").await;
    assert!(line.contains("working as the writer"), "{line}");
}

#[tokio::test]
async fn a_look_comes_sooner_while_somebody_asks() {
    let bell = TestBell::installed().await;
    let pace = Pace { look: NEVER, look_watched: LOOKS, ..Pace::default() };
    let visitor = bell.visitor_who_is_shown(pace).await;
    visitor.measures("schoolbell_pending_changes", 0.0).await;

    bell.insert_school("Acme").await;

    visitor.measures("schoolbell_pending_changes", 1.0).await;
}
