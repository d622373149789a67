//! Compares all rows at an interval, in the background of the service: `run --verify-every`.
//!
//! Promise: it delays nothing. It has two sessions on the source and one on the target while it
//! compares and none between, rests nine tenths of the time, and a failure is reported and affects
//! nothing else. It repairs nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{RowFinding, verify_slowly};
use crate::outbox::verified;
use crate::outbox::verified::Comparison;
use crate::plan::Route;
use crate::postgres::db::Database;
use crate::postgres::deadline::unless_silent;
use crate::postgres::failure::Failure;
use crate::worker::Lane;

/// It rests this many times as long as it works: so it uses a tenth of one session's time on either
/// side.
const REST: u32 = 9;
/// Of the keys that are wrong this many are named in the log.
const NAMED: usize = 5;
/// A statement of it reads a stretch of rows, which takes milliseconds, or a table without an index once.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(10);
/// How much longer the answer may take on its way.
const ANSWER_GRACE: Duration = Duration::from_secs(15);
/// After a failure, unless the next comparison is due before: a passing failure is over by then.
const TRY_AGAIN: Duration = Duration::from_mins(5);

/// A comparison with the keys that are to be named.
struct ComparedKeys {
    verdict: Comparison,
    keys: Vec<String>,
}

/// Compares each object this often; never returns.
pub async fn keep_verifying(
    source: Database,
    target: Database,
    lanes: Arc<Vec<Lane>>,
    every: Duration,
) {
    let source = source.for_purpose("verify", STATEMENT_TIMEOUT);
    let target = target.for_purpose("verify", STATEMENT_TIMEOUT);
    let mut due = first_due(&source, &lanes, every).await;
    // What has failed and why: it is reported once, however often it is tried.
    let mut hindered: HashMap<usize, String> = HashMap::new();
    loop {
        // Of those that are due at the same time parents come first.
        let next = (0..due.len()).min_by_key(|index| due[*index]);
        let Some(next) = next else { return std::future::pending().await };
        tokio::time::sleep_until(due[next]).await;
        let began = Instant::now();
        let route = &lanes[next].route;
        due[next] = match verify_and_record(&source, &target, route).await {
            Ok(()) => {
                hindered.remove(&next);
                began + every
            }
            Err(failure) => {
                let (object, reason) = (&route.object.name, failure.to_string());
                if hindered.insert(next, reason.clone()).as_ref() != Some(&reason) {
                    tracing::warn!(object, reason, "cannot be verified now; it is retried");
                }
                Instant::now() + every.min(TRY_AGAIN)
            }
        };
    }
}

/// When each object is due: a service that is restarted does not begin again with what was compared a moment ago.
async fn first_due(source: &Database, lanes: &[Lane], every: Duration) -> Vec<Instant> {
    let last = async {
        let session = source.session().await?;
        Ok::<_, Failure>(verified::last(&session).await?)
    };
    let last = last.await.unwrap_or_else(|failure| {
        tracing::debug!(reason = %failure, "when each object was last verified is not known");
        Vec::new()
    });
    let ages: HashMap<String, Duration> = last
        .into_iter()
        .map(|last| {
            let age = Timestamp::now().duration_since(last.verified_at);
            (last.object, Duration::try_from(age).unwrap_or_default())
        })
        .collect();
    let now = Instant::now();
    let left = |lane: &Lane| {
        let age = ages.get(&lane.route.object.name);
        age.map_or(Duration::ZERO, |age| every.saturating_sub(*age))
    };
    lanes.iter().map(|lane| now + left(lane)).collect()
}

async fn verify_and_record(
    source: &Database,
    target: &Database,
    route: &Route,
) -> Result<(), Failure> {
    // The sessions are closed when it is done: databases with twenty connections have none to spare.
    let (source, books, target) =
        tokio::try_join!(source.evaluator(), source.session(), target.session())?;
    let began = Instant::now();
    let (told, findings) = mpsc::channel(1);
    let silence = STATEMENT_TIMEOUT + ANSWER_GRACE;
    let reading =
        unless_silent(silence, verify_slowly(&source, &books, &target, route, REST, told));
    let (verdict, keys) = tokio::join!(reading, first_keys(findings));
    let compared = ComparedKeys { verdict: verdict?, keys };
    tell(&compared);
    if let Err(failure) =
        verified::record(&books, &compared.verdict, began.elapsed().as_secs_f64()).await
    {
        tracing::warn!(object = route.object.name, reason = %failure, "the time of the comparison cannot be recorded");
    }
    Ok(())
}

async fn first_keys(mut findings: mpsc::Receiver<RowFinding>) -> Vec<String> {
    let mut keys = Vec::new();
    while let Some(finding) = findings.recv().await {
        if keys.len() < NAMED {
            keys.push(finding.key);
        }
    }
    keys
}

fn tell(ComparedKeys { verdict, keys }: &ComparedKeys) {
    let parked: u64 = verdict.parked.values().sum();
    let Comparison { object, rows, equal, in_flight, .. } = verdict;
    if verdict.is_wrong() {
        let since = verdict.since.map(|since| since.to_string());
        tracing::warn!(
            object,
            rows,
            missing = verdict.missing,
            differing = verdict.differing,
            unexpected = verdict.unexpected,
            unreadable = verdict.unreadable,
            keys = keys.join(", "),
            since,
            "verified, and some rows are wrong: `schoolbell verify` tells more, with --repair it mends them"
        );
    } else {
        tracing::info!(object, rows, equal, in_flight, parked, "verified: every row is right");
    }
}
