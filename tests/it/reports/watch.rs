//! `status --watch`: the same report, repeatedly, even while the databases restart.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::support::TestBell;
use crate::support::program::Program;
use crate::support::proxy::{Cut, Proxy};

/// The program, and the reports that it prints.
struct Watch {
    child: Child,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(bell: &TestBell, source_url: &str) -> Self {
        let mut child = Program::new(&["status", "--watch=1", "--json"])
            .env("DATABASE_URL", source_url)
            .env("SALESFORCE_CONNECT_URL", &bell.target_url())
            .spawn();
        let reports = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, reports }
    }

    /// Reads reports until one fulfils this.
    async fn shows(&mut self, what: &str, fulfils: impl Fn(&Value) -> bool) {
        let reading = async {
            while let Some(line) = self.reports.next_line().await.unwrap() {
                if fulfils(&serde_json::from_str(&line).unwrap()) {
                    return;
                }
            }
            panic!("it ended before it showed {what}");
        };
        let patience = std::time::Duration::from_secs(60);
        tokio::time::timeout(patience, reading).await.unwrap_or_else(|_| panic!("no {what}"));
    }

    async fn interrupt(mut self) -> Option<i32> {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(sent.success());
        self.child.wait().await.unwrap().code()
    }
}

#[tokio::test]
async fn each_report_shows_how_it_is_then_and_the_last_one_gives_the_exit_code() {
    let bell = TestBell::installed().await;
    let mut watch = Watch::start(&bell, &bell.source_url());
    watch.shows("an empty outbox", |report| report["pending_changes"] == 0).await;

    bell.insert_school("Acme").await;

    watch.shows("the change", |report| report["pending_changes"] == 1).await;
    assert_eq!(watch.interrupt().await, Some(1));
}

#[tokio::test]
async fn a_source_that_goes_away_is_said_and_the_reports_go_on_when_it_is_back() {
    let bell = TestBell::installed().await;
    let proxy = Proxy::start(bell.cluster().port()).await;
    let mut watch = Watch::start(&bell, &proxy.url(&bell.source_name));
    watch.shows("a report", |report| report["headline"]["level"] == "well").await;

    proxy.refuse();
    proxy.cut(Cut::Reset);
    watch.shows("the problem", |report| report["problem"].is_string()).await;
    proxy.pass();

    watch.shows("a report again", |report| report["headline"]["level"] == "well").await;
    assert_eq!(watch.interrupt().await, Some(0));
}

/// `schoolbell status --watch | head`.
#[tokio::test]
async fn it_ends_when_nobody_reads_it_any_more() {
    let bell = TestBell::installed().await;
    let mut watch = Watch::start(&bell, &bell.source_url());
    watch.shows("a first report", |_| true).await;

    drop(watch.reports);

    let ended = tokio::time::timeout(std::time::Duration::from_mins(1), watch.child.wait());
    assert!(ended.await.expect("it ends").unwrap().code().is_some());
}
