//! `doctor` on real servers: a healthy system, and one thing after the other that is broken on
//! purpose. Each is found by its own check and no other, and pasting what the check prints fixes
//! it.

mod contents;
mod installed;
mod server;
mod whole;

use std::collections::BTreeMap;
use std::time::Duration;

use schoolbell::reports::doctor::{self, Limits, Place, Remedy, Report, Verdict};
use serde_json::Value;

use crate::hostile::privileges::{Roles, as_role, granted};
use crate::support::program::Ended;
use crate::support::{TestBell, eventually};

/// In rows of these tests. No report may ever hold it.
const MARKER: &str = "Zebrafink";
/// "SCHBWRIT", as in `src/apply/writer.rs`.
const WRITER_LOCK: i64 = 0x5343_4842_5752_4954;
/// Every limit within the doctor, one after the other, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A system as the book has it: roles with its grants, and a service that runs with them.
struct Healthy {
    bell: TestBell,
    roles: Roles,
}

impl Healthy {
    async fn start() -> Self {
        let (mut bell, roles) = granted().await;
        bell.source_sql(&format!("grant pg_read_all_stats to {}", roles.bell)).await;
        bell.source_through(&as_role(&bell.source_url(), &roles.bell));
        bell.target_through(&as_role(&bell.target_url(), &roles.bridge));
        bell.service_starts();
        let healthy = Self { bell, roles };
        healthy.has_writer().await;
        healthy
    }

    /// Waits until some process holds the writer's lock.
    async fn has_writer(&self) {
        let sql = format!(
            "select count(*) from pg_locks where locktype = 'advisory' and granted and objid = {} and database = \
             (select oid from pg_database where datname = current_database())",
            WRITER_LOCK & 0xffff_ffff
        );
        eventually("there is a writer", || async {
            if self.bell.target_count(&sql).await > 0 { Ok(()) } else { Err("nobody") }
        })
        .await;
    }

    async fn doctor(&self) -> Examined {
        Examined::of(self.roles.run(&self.bell, &["doctor", "--json"]).await)
    }

    /// As a human would who follows the report.
    async fn pastes(&self, remedies: &[(String, String)]) {
        for (place, text) in remedies {
            match place.as_str() {
                "source" => self.bell.source_sql(text).await,
                "target" => self.bell.target_sql(text).await,
                "shell" => {
                    let words: Vec<&str> = text.split(' ').collect();
                    assert_eq!(words[0], "schoolbell", "{text}");
                    self.bell.run_ok(&words[1..]).await;
                }
                _ => {}
            }
        }
    }
}

/// What the program said.
struct Examined {
    ended: Ended,
    report: Value,
}

impl Examined {
    fn of(ended: Ended) -> Self {
        let report = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended}"));
        Self { ended, report }
    }

    fn checks(&self) -> &Vec<Value> {
        self.report["checks"].as_array().unwrap()
    }

    fn check(&self, name: &str) -> &Value {
        let found = self.checks().iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check {name}: {}", self.ended))
    }

    fn found(&self, name: &str) -> &str {
        self.check(name)["found"].as_str().unwrap()
    }

    /// Where and what.
    fn remedies(&self, name: &str) -> Vec<(String, String)> {
        let remedies = self.check(name)["remedies"].as_array().unwrap();
        let text = |remedy: &Value, key: &str| remedy[key].as_str().unwrap().to_string();
        remedies.iter().map(|remedy| (text(remedy, "place"), text(remedy, "text"))).collect()
    }

    /// The checks that are not ok, with their results.
    fn not_ok(&self) -> BTreeMap<&str, &str> {
        let not_ok = self.checks().iter().filter(|check| check["result"] != "ok");
        not_ok
            .map(|check| (check["name"].as_str().unwrap(), check["result"].as_str().unwrap()))
            .collect()
    }

    /// Exactly these are not ok, and the exit code says so.
    #[track_caller]
    fn assert_not_ok(&self, expected: &[(&str, &str)]) {
        assert_eq!(self.not_ok(), expected.iter().copied().collect(), "{}", self.ended);
        let failed = expected.iter().any(|(_, result)| *result == "failed");
        assert_eq!(self.ended.code, i32::from(failed), "{}", self.ended);
    }
}

/// One thing that is broken, and what is said of it.
struct Damage<'a> {
    /// Whether the SQL is for the target.
    in_target: bool,
    sql: String,
    not_ok: &'a [(&'a str, &'a str)],
    /// Parts of what the first of these checks says.
    says: &'a [&'a str],
    /// Parts of its remedies.
    remedy: &'a str,
}

/// Breaks, looks, pastes the remedy of the first check that is not ok, and looks again.
async fn found_and_cured(healthy: &Healthy, damage: &Damage<'_>) {
    let Damage { in_target, sql, not_ok, says, remedy } = damage;
    match in_target {
        true => healthy.bell.target_sql(sql).await,
        false => healthy.bell.source_sql(sql).await,
    }

    let broken = healthy.doctor().await;

    // A service that lacks something restarts repeatedly, and is no writer meanwhile.
    let mut found = broken.not_ok();
    if !not_ok.iter().any(|(name, _)| *name == "writer") {
        found.remove("writer");
    }
    assert_eq!(found, not_ok.iter().copied().collect(), "{}", broken.ended);
    let name = not_ok[0].0;
    let said = broken.check(name).to_string();
    for part in *says {
        assert!(said.contains(part), "{part:?} is missing after {sql}: {said}");
    }
    let remedies = broken.remedies(name);
    assert!(remedies.iter().any(|(_, text)| text.contains(remedy)), "{remedies:?}");
    healthy.pastes(&remedies).await;
    healthy.has_writer().await;
    healthy.doctor().await.assert_not_ok(&[]);
}

/// The library's report, with limits that a test can reach.
async fn examine(healthy: &Healthy, limits: &Limits) -> Report {
    doctor::examine(&healthy.bell.config(), &healthy.bell.mapping, limits).await
}

fn verdict(report: &Report, name: &str) -> Verdict {
    report.check(name).unwrap_or_else(|| panic!("no check {name}")).diagnosis.result
}

fn to_paste(report: &Report, name: &str, place: Place) -> Vec<String> {
    let remedies = &report.check(name).unwrap().diagnosis.remedies;
    let of_place = remedies.iter().filter(|remedy| remedy.place == place);
    of_place.map(|Remedy { text, .. }| text.clone()).collect()
}
