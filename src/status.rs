//! What is pending, waiting and dead; how late; who is the writer; whether capture is installed.
//!
//! Reads both databases and changes neither. Keys, counts and times only.

use jiff::Timestamp;
use serde::Serialize;

use crate::db::Session;
use crate::mapping::Mapping;
use crate::plan::Unplannable;
use crate::writer::Holder;
use crate::{capture, change, parked, plan, resync, schema, service, writer};

/// The report of `status`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Version of schema `schoolbell`.
    pub schema_version: i32,
    /// Whether `SALESFORCE_ENABLED` allows this process to write.
    pub enabled: bool,
    /// Changes that are not acknowledged.
    pub pending_changes: i64,
    /// When the oldest of them was made.
    pub oldest_change_at: Option<Timestamp>,
    /// Its age; 0 when nothing is pending.
    pub lag_seconds: f64,
    /// Parked keys by object and state.
    pub parked: Vec<parked::Count>,
    /// The process that writes, if there is one.
    pub writer: Option<Holder>,
    /// Why the target could not be asked for the writer.
    pub target_problem: Option<String>,
    /// When the triggers ring.
    pub notify: Option<String>,
    /// Triggers that are not as the mapping needs them.
    pub capture_problems: Vec<String>,
    /// Replays that are not finished.
    pub resyncs: Vec<resync::Report>,
}

impl Status {
    /// Whether somebody should look at it.
    pub fn needs_attention(&self) -> bool {
        self.target_problem.is_some()
            || !self.capture_problems.is_empty()
            || self.parked.iter().any(|count| count.state == "dead")
            || (self.writer.is_none() && self.pending_changes > 0)
    }
}

/// Collects the report. `target` may be out of reach: then the reason stands in its place.
pub async fn collect(
    source: &Session,
    target: Result<Session, String>,
    mapping: &Mapping,
    enabled: bool,
) -> Result<Status, tokio_postgres::Error> {
    let schema_version = match schema::version(source).await? {
        schema::Version::Missing => 0,
        schema::Version::Older(version)
        | schema::Version::Current(version)
        | schema::Version::Newer(version) => version,
    };
    let pending = change::pending(source).await?;
    let (writer, target_problem) = match target {
        Err(problem) => (None, Some(problem)),
        Ok(target) => match writer::holder(&target).await {
            Ok(holder) => (holder, None),
            Err(error) => (None, Some(crate::failure::chain(&error))),
        },
    };
    let mode = service::installed_mode(source).await?;
    Ok(Status {
        schema_version,
        enabled,
        pending_changes: pending.changes,
        oldest_change_at: pending.oldest,
        lag_seconds: lag_seconds(pending.oldest),
        parked: parked::counts(source).await?,
        writer,
        target_problem,
        notify: mode.map(|mode| mode.to_string()),
        capture_problems: capture_problems(source, mapping, mode).await?,
        resyncs: resync::reports(source, None).await?,
    })
}

fn lag_seconds(oldest: Option<Timestamp>) -> f64 {
    oldest.map_or(0.0, |oldest| Timestamp::now().duration_since(oldest).as_secs_f64().max(0.0))
}

async fn capture_problems(
    source: &Session,
    mapping: &Mapping,
    mode: Option<capture::NotifyMode>,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let source_side = match plan::source_side(source, mapping).await {
        Ok(source_side) => source_side,
        Err(Unplannable::Mapping(unusable)) => {
            return Ok(unusable.to_string().lines().map(str::to_string).collect());
        }
        Err(Unplannable::Database(error)) => return Err(error),
    };
    let mode = mode.unwrap_or(capture::NotifyMode::Doorbell);
    let wanted = capture::render(&source_side.captures, mode);
    let deviations = capture::deviations(source, &wanted).await?;
    Ok(deviations.iter().map(ToString::to_string).collect())
}
