//! `status`: the state of things at this moment, or, with `--watch`, from moment to moment.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::HumanCount;
use tokio::time::Instant;

use super::Exit;
use crate::apply::writer::Holder;
use crate::capture::schema;
use crate::cli::Settings;
use crate::config::Config;
use crate::config::QUEUE_LIMIT;
use crate::mapping::Mapping;
use crate::outbox::parked;
use crate::outbox::verified::Verified;
use crate::postgres::db::{Database, Evaluator, Session};
use crate::postgres::failure;
use crate::postgres::supported;
use crate::reports::heroku_connect::{self, Mirror};
use crate::reports::status::{self, Status};
use crate::visible;

/// What Salesforce made of the rows takes a look at every row of the target. While watching, the
/// next such look comes after a rest of this many times what the last one took, and never sooner
/// than this.
const REST: u32 = 20;
const SHORTEST_REST: Duration = Duration::from_secs(10);
/// Puts the cursor where the screen begins.
const HOME: &str = "\x1b[H";
/// Clears what is left of the line, or of the screen, from an older and longer report.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

pub async fn run(settings: &Settings, json: bool, watch: Option<u64>) -> Result<Exit> {
    let mapping = super::mapping(settings)?;
    let config = super::config(settings)?;
    let source = super::source_session(&config.source).await?;
    installed(&source).await?;
    let source = (source, super::evaluator(&config.source).await?);
    let target = Database::new(config.target.clone(), "command")?;
    let mut looker =
        Looker { config, mapping, target, sessions: (Some(source), None), salesforce: None };
    match watch {
        None => {
            let status = looker.look().await?;
            show(&status, json)?;
            Ok(Exit::attention_if(status.needs_attention()))
        }
        Some(seconds) => looker.watch(Duration::from_secs(seconds), json).await,
    }
}

/// Refuses when `migrate` was never run, or not with this release.
pub async fn installed(source: &Session) -> Result<()> {
    if let Some(remedy) = schema::version(source).await.map_err(super::reason)?.refusal() {
        bail!(remedy);
    }
    Ok(())
}

/// A session on the target, or why there is none: everything else is still reported.
async fn target_session(target: &Database) -> Result<Session, String> {
    let session = target.session().await.map_err(|failure| failure.to_string())?;
    match supported::refusal(&session).await.map_err(|error| failure::chain(&error))? {
        Some(refusal) => Err(refusal),
        None => Ok(session),
    }
}

struct Looker {
    config: Config,
    mapping: Mapping,
    target: Database,
    /// On the source and on the target; none where it is not open, or was lost.
    sessions: (Option<(Session, Evaluator)>, Option<Session>),
    salesforce: Option<SalesforceFigures>,
}

/// What Salesforce made of the rows, and when to look again.
struct SalesforceFigures {
    mirrors: Vec<Mirror>,
    until: Instant,
}

impl Looker {
    async fn look(&mut self) -> Result<Status> {
        let (source, evaluator) = match self.sessions.0.take() {
            Some(source) => source,
            None => {
                let url = &self.config.source;
                (super::source_session(url).await?, super::evaluator(url).await?)
            }
        };
        let target = match self.sessions.1.take() {
            Some(target) => Ok(target),
            None => target_session(&self.target).await,
        };
        let reached = target.as_ref().map_err(String::as_str);
        let asked = (&source, &evaluator);
        let mut status = status::collect(asked, reached, &self.mapping, self.config.enabled)
            .await
            .map_err(super::reason)?;
        if let Ok(target) = target
            && status.target_problem.is_none()
        {
            status.salesforce = self.salesforce(&source, &target).await;
            self.sessions.1 = Some(target);
        }
        self.sessions.0 = Some((source, evaluator));
        Ok(status)
    }

    async fn salesforce(&mut self, source: &Session, target: &Session) -> Vec<Mirror> {
        if let Some(seen) = self.salesforce.as_ref().filter(|seen| Instant::now() < seen.until) {
            return seen.mirrors.clone();
        }
        let began = Instant::now();
        let mirrors = heroku_connect::collect(source, target, &self.mapping).await;
        let until = Instant::now() + (began.elapsed() * REST).max(SHORTEST_REST);
        self.salesforce = Some(SalesforceFigures { mirrors: mirrors.clone(), until });
        mirrors
    }

    /// Shows one report after the other until it is interrupted.
    async fn watch(&mut self, pause: Duration, json: bool) -> Result<Exit> {
        let mut signals = super::Signals::watch()?;
        let mut outcome = Exit::Clean;
        loop {
            let shown = tokio::select! {
                status = self.look() => match status {
                    Ok(status) => {
                        outcome = Exit::attention_if(status.needs_attention());
                        match json {
                            true => vec![serde_json::to_string(&status.told())?],
                            false => report(&status),
                        }
                    }
                    // A database that restarts is asked again; meanwhile the reason is shown.
                    Err(error) => {
                        outcome = Exit::Attention;
                        match json {
                            true => {
                                vec![serde_json::json!({ "problem": format!("{error:#}") }).to_string()]
                            }
                            false => vec![format!("now        {error:#}")],
                        }
                    }
                },
                () = signals.next() => return Ok(outcome),
            };
            match std::io::stdout().is_terminal() && !json {
                true => super::put(&in_place(&shown))?,
                false if json => super::put(&format!("{}\n", visible::unicode(&shown.concat())))?,
                false => {
                    say_lines(&shown)?;
                    say!("")?;
                }
            }
            if super::nobody_reads() {
                return Ok(outcome);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = signals.next() => return Ok(outcome),
            }
        }
    }
}

fn show(status: &Status, json: bool) -> Result<()> {
    match json {
        true => super::print_json(&status.told()),
        false => say_lines(&report(status)),
    }
}

fn say_lines(report: &[String]) -> Result<()> {
    report.iter().try_for_each(|line| say!("{line}"))
}

/// Over the report before it, without a moment of an empty screen.
fn in_place(report: &[String]) -> String {
    let lines = report.iter().map(|line| format!("{}{CLEAR_LINE}\r\n", visible::line(line)));
    let lines: String = lines.collect();
    format!("{HOME}{lines}{CLEAR_BELOW}")
}

/// The report for people: a word for what it is about, then how it is.
fn report(status: &Status) -> Vec<String> {
    let mut lines = vec![("now", status.headline().sentence)];
    lines.push(("pending", pending(status)));
    lines.push(("lag", format!("{:.1} s", status.lag_seconds)));
    if status.parked.is_empty() {
        lines.push(("parked", "nothing".into()));
    }
    for count in &status.parked {
        let parked::Count { keys, held, object, state, oldest } = count;
        let held = match held {
            0 => String::new(),
            held => format!(" ({held} held by the brake)"),
        };
        let sentence = format!("{keys} {object} {state}{held}, the oldest since {oldest:.0}");
        lines.push(("parked", sentence));
    }
    lines.push(("writer", writer(status)));
    for stranger in &status.bell_blocked_by {
        let end = stranger.end();
        lines.push((
            "bell",
            format!("{stranger} holds the doorbell's lock; end it in the source: {end}"),
        ));
    }
    if status.notification_queue >= QUEUE_LIMIT {
        let full = status.notification_queue * 100.0;
        lines.push((
            "bell",
            format!("the queue of notices is {full:.0} % full, so the triggers do not notify"),
        ));
    }
    if status.capture_problems.is_empty() {
        let mode = status.notify.as_deref().unwrap_or("unknown");
        let version = status.schema_version;
        lines.push(("capture", format!("installed, notify mode {mode}, schema version {version}")));
    }
    for problem in &status.capture_problems {
        lines.push(("capture", format!("{problem}; run `schoolbell migrate`")));
    }
    lines.extend(status.unanswered.iter().map(|changed| ("capture", changed.clone())));
    for problem in &status.mapping_problems {
        lines.push(("mapping", problem.clone()));
    }
    for resync in &status.resyncs {
        let share = if resync.total > 0 { resync.progress.done * 100 / resync.total } else { 0 };
        let progress = format!(
            "{} {} of {} ({share} %), {}",
            resync.object,
            resync.progress.done,
            resync.total,
            resync.standing()
        );
        lines.push(("resync", progress));
    }
    lines.extend(status.failed_resyncs.iter().map(|failed| ("resync", failed.failure())));
    for mirror in &status.salesforce {
        lines.extend(salesforce(mirror));
    }
    for last in &status.verified {
        lines.push(("verified", verified(last)));
    }
    if !status.enabled {
        let disabled =
            "SALESFORCE_ENABLED is not true here: `run` and `resync` would write nothing";
        lines.push(("disabled", disabled.into()));
    }
    lines.into_iter().map(|(what, how)| format!("{what:<10} {how}")).collect()
}

fn verified(last: &Verified) -> String {
    let wrong = match last.wrong() {
        0 => "none wrong".to_string(),
        wrong => format!("{} wrong", HumanCount(wrong.unsigned_abs())),
    };
    let rows = HumanCount(last.rows.unsigned_abs());
    format!("{} {:.0}: {rows} rows, {wrong}", last.object, last.verified_at)
}

fn pending(status: &Status) -> String {
    match status.oldest_change_at {
        None => "nothing".into(),
        Some(oldest) => {
            let changes = status::counted(status.pending_changes, "change");
            format!("{changes}, the oldest since {oldest:.0}")
        }
    }
}

fn writer(status: &Status) -> String {
    if let Some(stranger) = &status.writer_blocked_by {
        return format!("none is possible: {stranger} holds the lock; end it: {}", stranger.end());
    }
    match (&status.writer, &status.target_problem) {
        (_, Some(problem)) => format!("unknown, the target cannot be reached: {problem}"),
        (None, None) if status.pending_changes > 0 => "none: start `schoolbell run`".into(),
        (None, None) => "nobody".into(),
        (Some(Holder { process, since, .. }), None) => {
            let process = process.as_deref().unwrap_or("another role's session");
            let since = since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
            format!("{process}{since}")
        }
    }
}

/// What became of an object's rows: a line, and one for each that Salesforce refused.
fn salesforce(mirror: &Mirror) -> Vec<(&'static str, String)> {
    let object = &mirror.object;
    let mut parts = vec![format!(
        "{object} {} synced, {} pending, {} failed",
        mirror.synced_rows(),
        mirror.pending_rows(),
        mirror.failed_rows()
    )];
    if let Some(unsent) = mirror.unsent.as_ref().filter(|unsent| unsent.entries > 0) {
        parts.push(format!("the oldest unsent for {:.0} s", unsent.oldest_seconds));
    }
    match (&mirror.synced, &mirror.answered) {
        (Some(way), _) => parts.push(format!("from commit to synced {way}")),
        (None, Some(way)) => parts.push(format!("from write to synced {way}")),
        (None, None) => {}
    }
    let mut lines = vec![("salesforce", parts.join("; "))];
    lines.extend(mirror.problems.iter().map(|problem| ("", problem.clone())));
    for row in &mirror.failed {
        let error = row.error.as_deref().unwrap_or("without a reason");
        lines.push(("", format!("{object} {} FAILED: {error}", row.key)));
    }
    let more = mirror.failed_rows() - mirror.failed.len() as i64;
    if more > 0 {
        lines.push(("", format!("… and {more} more")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_in_place_leaves_nothing_of_a_longer_one_before_it() {
        let report = ["now  a".to_string(), "lag  b\x1b[J".to_string()];
        assert_eq!(in_place(&report), "\x1b[Hnow  a\x1b[K\r\nlag  b\\x1b[J\x1b[K\r\n\x1b[J");
    }
}
