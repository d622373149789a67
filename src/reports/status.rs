//! What is pending, waiting and dead; the lag; which process writes; whether capture is installed.
//!
//! Reads both databases and changes neither. Keys, counts and times only.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use crate::apply::writer;
use crate::apply::writer::{Holder, Holding};
use crate::bell;
use crate::capture;
use crate::capture::deviation::{self, Deviation};
use crate::capture::installation;
use crate::capture::schema;
use crate::capture::trigger;
use crate::config::QUEUE_LIMIT;
use crate::mapping::Mapping;
use crate::outbox::change;
use crate::outbox::pairing;
use crate::outbox::parked;
use crate::outbox::resync;
use crate::outbox::shape::{self, ShapeChange};
use crate::outbox::verified;
use crate::plan;
use crate::plan::Unplannable;
use crate::postgres::db::{Evaluator, Session};
use crate::postgres::stranger::Stranger;
use crate::reports::heroku_connect::Mirror;

/// The schema's version since which the databases are noted.
const PAIRING_VERSION: i32 = 11;
/// The schema's version since which the shape of captured tables is noted.
const SHAPE_VERSION: i32 = 12;
/// Changes are applied within milliseconds, even beside a resync of millions. With this lag they
/// wait for something.
const LATE_SECONDS: f64 = 300.0;
/// Heroku Connect polls every two minutes, and its maintenance takes up to 45.
const UNSENT_SECONDS: f64 = 3_600.0;

/// The report of `status`.
#[derive(Debug, Clone, Default, Serialize)]
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
    /// Who holds the writer's lock without being a writer, so that nobody can write.
    pub writer_blocked_by: Option<Stranger>,
    /// Who holds the doorbell's lock without being a writer or our listener.
    pub bell_blocked_by: Vec<Stranger>,
    /// How full the source's queue of notices is, from 0 to 1.
    pub notification_queue: f64,
    /// Why the target could not be asked for the writer.
    pub target_problem: Option<String>,
    /// Why these databases do not work together: the source is a copy, or its changes go elsewhere.
    pub pairing_problem: Option<String>,
    /// When the triggers ring.
    pub notify: Option<String>,
    /// Triggers that are not as the mapping needs them.
    pub capture_problems: Vec<String>,
    /// What has happened to captured tables, where no trigger reports which rows are affected, and no resync was ordered yet.
    pub unanswered: Vec<String>,
    /// Some of these lose changes; otherwise they are about rights alone.
    #[serde(skip)]
    pub changes_may_be_missed: bool,
    /// Tables and columns of the mapping that a database lacks, as far as they can be asked.
    pub mapping_problems: Vec<String>,
    /// Resyncs that are not finished.
    pub resyncs: Vec<resync::JobReport>,
    /// Resyncs that have failed, and were neither repeated nor dismissed.
    pub failed_resyncs: Vec<resync::JobReport>,
    /// What Heroku Connect and Salesforce have made of the rows; empty where nobody has looked.
    pub salesforce: Vec<Mirror>,
    /// When each object of the mapping was last compared as a whole, and what was found.
    pub verified: Vec<verified::Verified>,
}

/// The state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing to act on.
    Well,
    /// Somebody should look at it, but changes arrive.
    Attention,
    /// Changes do not arrive, or may be missed.
    Trouble,
}

/// What is wrong now, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Headline {
    /// How bad it is.
    pub level: Level,
    /// What it is, and what helps.
    pub sentence: String,
}

/// The report with its headline, for a machine.
#[derive(Debug, Serialize)]
pub struct WithHeadline<'a> {
    headline: Headline,
    #[serde(flatten)]
    status: &'a Status,
}

impl Status {
    /// For a machine.
    pub fn told(&self) -> WithHeadline<'_> {
        WithHeadline { headline: self.headline(), status: self }
    }

    /// Whether somebody should look at it. That this process may not write is only its own setting.
    pub fn needs_attention(&self) -> bool {
        self.findings().iter().any(|found| found.level > Level::Well)
    }

    /// The worst finding; of several the one that explains the others.
    pub fn headline(&self) -> Headline {
        let findings = self.findings();
        let worst = findings.iter().map(|found| found.level).max();
        let found = findings.into_iter().find(|found| Some(found.level) == worst);
        found.unwrap_or_else(|| {
            let sentence = match (self.pending_changes, &self.writer) {
                (_, _) if !self.enabled => {
                    "Nothing is wrong, but SALESFORCE_ENABLED is not true here: nothing is written."
                        .into()
                }
                (0, Some(_)) => "OK: every change is applied.".into(),
                (0, None) => {
                    "Nothing is pending, but no service is running: start `schoolbell run`.".into()
                }
                (pending, _) => format!("OK: {} on the way.", counted(pending, "change")),
            };
            Headline { level: Level::Well, sentence }
        })
    }

    /// Everything that somebody should look at, causes before their consequences.
    fn findings(&self) -> Vec<Headline> {
        let before_bell = [
            self.pairing_finding(),
            self.target_finding(),
            self.writer_finding(),
            self.capture_finding(),
            self.mapping_finding(),
            self.table_finding(),
            self.pending_finding(),
        ];
        let after_bell = [
            self.queue_finding(),
            self.held_finding(),
            self.dead_finding(),
            self.retrying_finding(),
            self.refused_by_salesforce_finding(),
            self.unsent_finding(),
            self.other_mapping_finding(),
            self.failed_resync_finding(),
            self.verified_finding(),
        ];
        let before_bell = before_bell.into_iter().flatten();
        before_bell.chain(self.bell_findings()).chain(after_bell.into_iter().flatten()).collect()
    }

    fn pairing_finding(&self) -> Option<Headline> {
        let problem = self.pairing_problem.as_ref()?;
        let mut letters = problem.chars();
        let first = letters.next()?.to_uppercase();
        trouble(format!("{first}{}.", letters.as_str()))
    }

    fn target_finding(&self) -> Option<Headline> {
        let problem = self.target_problem.as_ref()?;
        trouble(format!("The target cannot be reached: {problem}."))
    }

    fn writer_finding(&self) -> Option<Headline> {
        let stranger = self.writer_blocked_by.as_ref()?;
        trouble(format!(
            "Writing is blocked, {stranger} holds the writer's lock: end it in the target: {}",
            stranger.end()
        ))
    }

    fn capture_finding(&self) -> Option<Headline> {
        let problems = first_and_number(&self.capture_problems)?;
        let means = match self.changes_may_be_missed {
            true => "Changes may be missed",
            false => "Capture triggers are not as they should be, but no change is missed",
        };
        trouble(format!("{means}, {problems}: run `schoolbell migrate`."))
    }

    fn mapping_finding(&self) -> Option<Headline> {
        let problems = first_and_number(&self.mapping_problems)?;
        trouble(format!(
            "The mapping does not fit, {problems}: fix the file or the table; what waits for it is written then."
        ))
    }

    fn table_finding(&self) -> Option<Headline> {
        let first = self.unanswered.first()?;
        attention(format!(
            "A table was changed, {first}: `schoolbell run` looks at all its rows at its next check."
        ))
    }

    fn pending_finding(&self) -> Option<Headline> {
        let pending = counted(self.pending_changes, "change");
        let blocked = self.target_problem.is_some() || self.writer_blocked_by.is_some();
        if self.writer.is_none() && !blocked && self.pending_changes > 0 {
            return trouble(format!(
                "{pending} waiting, and no service is running: start `schoolbell run`."
            ));
        }
        let minutes = self.lag_seconds / 60.0;
        (self.lag_seconds > LATE_SECONDS)
            .then(|| format!("{pending} pending, the oldest for {minutes:.0} minutes."))
            .and_then(trouble)
    }

    fn bell_findings(&self) -> impl Iterator<Item = Headline> {
        self.bell_blocked_by.iter().filter_map(|stranger| {
            attention(format!(
                "The service cannot sleep, or every writer notifies: {stranger} holds the doorbell's lock. End it in the \
                 source: {}",
                stranger.end()
            ))
        })
    }

    fn queue_finding(&self) -> Option<Headline> {
        if self.notification_queue < QUEUE_LIMIT {
            return None;
        }
        attention(format!(
            "The source's notification queue is {:.0} % full, so the triggers no longer notify and the service polls: end \
             the session that listens in an open transaction.",
            self.notification_queue * 100.0
        ))
    }

    fn held_finding(&self) -> Option<Headline> {
        let held = positive(self.held())?;
        attention(format!(
            "The brake holds {}: see `schoolbell parked list --state dead`, then retry them to delete the target rows, or \
             drop them to keep the target rows.",
            counted(held, "deletion")
        ))
    }

    fn dead_finding(&self) -> Option<Headline> {
        let dead = positive(self.parked_in("dead") - self.held())?;
        attention(format!(
            "{} refused for good: see `schoolbell parked list --state dead`.",
            counted(dead, "key")
        ))
    }

    fn retrying_finding(&self) -> Option<Headline> {
        let retrying = self.parked.iter().filter(|count| count.state == "retrying");
        let since = retrying.map(|count| count.oldest).min()?;
        let is_long = lag_seconds(Some(since)) > LATE_SECONDS;
        let sentence = format!(
            "{} refused and retried since {since:.0}: see `schoolbell parked list --state retrying`.",
            counted(self.parked_in("retrying"), "key")
        );
        let level = if is_long { Level::Attention } else { Level::Well };
        Some(Headline { level, sentence })
    }

    fn refused_by_salesforce_finding(&self) -> Option<Headline> {
        let failed: i64 = self.salesforce.iter().map(Mirror::failed_rows).sum();
        let failed = positive(failed)?;
        attention(format!(
            "Salesforce refused {}: fix the reason, then run `schoolbell parked retry --failed`.",
            counted(failed, "row")
        ))
    }

    fn unsent_finding(&self) -> Option<Headline> {
        let unsent = self.salesforce.iter().filter_map(|mirror| mirror.unsent.as_ref());
        let oldest = unsent.map(|unsent| unsent.oldest_seconds).fold(0.0, f64::max);
        let minutes = oldest / 60.0;
        (oldest > UNSENT_SECONDS)
            .then(|| {
                format!("Heroku Connect has not sent a row for {minutes:.0} minutes: look at its dashboard.")
            })
            .and_then(attention)
    }

    fn other_mapping_finding(&self) -> Option<Headline> {
        let waiting = self.resyncs.iter().filter(|resync| resync.waits_for_mapping());
        let objects: BTreeSet<&str> = waiting.map(|resync| resync.object.as_str()).collect();
        if objects.is_empty() {
            return None;
        }
        let objects = objects.into_iter().collect::<Vec<_>>().join(", ");
        attention(format!(
            "A resync of {objects} waits for a service with the mapping that it was requested with: give the service that \
             mapping, or run `schoolbell migrate` with the one that it has."
        ))
    }

    fn failed_resync_finding(&self) -> Option<Headline> {
        let (first, others) = self.failed_resyncs.split_first()?;
        let more = match others.len() {
            0 => String::new(),
            more => format!(" ({more} more)"),
        };
        attention(format!("{}{more}.", first.failure()))
    }

    fn verified_finding(&self) -> Option<Headline> {
        let wrong: i64 = self.verified.iter().map(verified::Verified::wrong).sum();
        let wrong = positive(wrong)?;
        attention(format!(
            "{} wrong in the last comparison: see `schoolbell verify`, fix with `schoolbell verify --repair`.",
            counted(wrong, "row")
        ))
    }

    /// Deletions that the brake holds.
    fn held(&self) -> i64 {
        self.parked.iter().map(|count| count.held).sum()
    }

    /// How many keys are parked in this state.
    pub fn parked_in(&self, state: &str) -> i64 {
        self.parked.iter().filter(|count| count.state == state).map(|count| count.keys).sum()
    }
}

/// Collects the report, except what Salesforce made of it. `target` may be out of reach: then the
/// report has the reason instead.
pub async fn collect(
    (source, evaluator): (&Session, &Evaluator),
    target: Result<&Session, &str>,
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
    let (holding, target_problem) = match target {
        Err(problem) => (None, Some(problem.to_string())),
        Ok(target) => match writer::holding(target, &mapping.objects).await {
            Ok(holding) => (holding, None),
            Err(error) => (None, Some(crate::postgres::failure::chain(&error))),
        },
    };
    let target_now = target.ok().filter(|_| target_problem.is_none());
    let pairing_problem = match schema_version {
        version if version < PAIRING_VERSION => None,
        _ => pairing::mismatch(source, target_now).await?.map(|mismatch| mismatch.to_string()),
    };
    let (writer, writer_blocked_by) = match holding {
        Some(Holding::Writer(holder)) => (Some(holder), None),
        Some(Holding::Stranger(stranger)) => (None, Some(stranger)),
        None => (None, None),
    };
    let mode = installation::notify_mode(source).await?;
    let (deviations, mut mapping_problems, unanswered) =
        deviations((source, evaluator), mapping, mode, schema_version).await?;
    if let Ok(target) = target
        && target_problem.is_none()
    {
        mapping_problems.extend(problems_in_target(target, mapping).await);
    }
    Ok(Status {
        schema_version,
        enabled,
        pending_changes: pending.changes,
        oldest_change_at: pending.oldest,
        lag_seconds: lag_seconds(pending.oldest),
        parked: parked::counts(source).await?,
        writer,
        writer_blocked_by,
        bell_blocked_by: bell::strangers(source).await?,
        notification_queue: bell::queue_usage(source).await?,
        target_problem,
        pairing_problem,
        notify: mode.map(|mode| mode.to_string()),
        changes_may_be_missed: deviation::may_lose_changes(&deviations),
        capture_problems: deviations.iter().map(ToString::to_string).collect(),
        mapping_problems,
        unanswered,
        resyncs: resync::reports(source, None).await?,
        failed_resyncs: resync::failed(source).await?,
        salesforce: Vec::new(),
        verified: last_verified(source, mapping).await?,
    })
}

fn trouble(sentence: String) -> Option<Headline> {
    Some(Headline { level: Level::Trouble, sentence })
}

fn attention(sentence: String) -> Option<Headline> {
    Some(Headline { level: Level::Attention, sentence })
}

fn positive(number: i64) -> Option<i64> {
    (number > 0).then_some(number)
}

/// The first of some problems, and how many more there are.
fn first_and_number(problems: &[String]) -> Option<String> {
    let (first, others) = problems.split_first()?;
    Some(match others.len() {
        0 => first.clone(),
        more => format!("{first}, and {more} more"),
    })
}

/// A number with its noun: `1 row`, `2 rows`.
pub fn counted(number: i64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

async fn last_verified(
    source: &Session,
    mapping: &Mapping,
) -> Result<Vec<verified::Verified>, tokio_postgres::Error> {
    let mut verified = verified::last(source).await?;
    verified.retain(|last| mapping.objects.iter().any(|object| object.name == last.object));
    Ok(verified)
}

fn lag_seconds(oldest: Option<Timestamp>) -> f64 {
    oldest.map_or(0.0, |oldest| Timestamp::now().duration_since(oldest).as_secs_f64().max(0.0))
}

/// What does not fit, by file and line. A target that cannot be reached is reported elsewhere.
async fn problems_in_target(target: &Session, mapping: &Mapping) -> Vec<String> {
    match plan::target_side(target, mapping).await {
        Ok(side) => side.findings.iter().map(|finding| finding.in_file(&mapping.file)).collect(),
        // A target that cannot be read is reported elsewhere.
        Err(_) => Vec::new(),
    }
}

/// What is wrong with the triggers, and what the source lacks of what the mapping names.
async fn deviations(
    (source, evaluator): (&Session, &Evaluator),
    mapping: &Mapping,
    mode: Option<capture::NotifyMode>,
    schema_version: i32,
) -> Result<(Vec<Deviation>, Vec<String>, Vec<String>), tokio_postgres::Error> {
    let source_side = match plan::source_side(source, evaluator, mapping).await {
        Ok(source_side) => source_side,
        Err(Unplannable::Mapping(unusable)) => {
            let problems = unusable.to_string().lines().map(str::to_string).collect();
            return Ok((Vec::new(), problems, Vec::new()));
        }
        Err(Unplannable::Database(error)) => return Err(error),
    };
    let mode = mode.unwrap_or(capture::NotifyMode::Doorbell);
    let wanted = trigger::render(&source_side.captures, mode);
    let unanswered = match schema_version {
        version if version < SHAPE_VERSION => Vec::new(),
        _ => shape::unanswered(source, &source_side.captured()).await?,
    };
    let unanswered = unanswered.iter().map(ShapeChange::sentence).collect();
    Ok((deviation::deviations(source, &wanted).await?, source_side.unseen, unanswered))
}
