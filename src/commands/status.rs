//! `status`: the state of things at this moment.

use anyhow::{Result, bail};

use super::Outcome;
use crate::cli::Settings;
use crate::db::{Database, Session};
use crate::heroku_connect::{self, Mirror};
use crate::schema;
use crate::status::{self, Status};

pub async fn run(settings: &Settings, json: bool) -> Result<Outcome> {
    let mapping = super::mapping(settings)?;
    let config = super::config(settings)?;
    let source = super::source_session(&config.source).await?;
    installed(&source).await?;
    let target = Database::new(config.target.clone(), "command")?.session().await;
    let target = target.map_err(|failure| failure.to_string());
    let reached = target.as_ref().map_err(String::as_str);
    let mut status =
        status::collect(&source, reached, &mapping, config.enabled).await.map_err(super::reason)?;
    if let Ok(target) = &target {
        status.salesforce = heroku_connect::collect(&source, target, &mapping).await;
    }
    match json {
        true => super::print_json(&status.told())?,
        false => print(&status)?,
    }
    Ok(Outcome::attention_if(status.needs_attention()))
}

/// Refuses when `migrate` was never run, or not lately.
pub async fn installed(source: &Session) -> Result<()> {
    if let Some(remedy) = schema::version(source).await.map_err(super::reason)?.refusal() {
        bail!(remedy);
    }
    Ok(())
}

fn print(status: &Status) -> Result<()> {
    let line = |what: &str, how: &str| say!("{what:<10} {how}");
    line("now", &status.headline().sentence)?;
    let pending = match status.oldest_change_at {
        None => "nothing".to_string(),
        Some(oldest) => format!("{} changes, the oldest since {oldest:.0}", status.pending_changes),
    };
    line("pending", &pending)?;
    line("lag", &format!("{:.1} s", status.lag_seconds))?;
    match status.parked.is_empty() {
        true => line("parked", "nothing")?,
        false => {
            for count in &status.parked {
                let parked = format!(
                    "{} {} {}, the oldest since {:.0}",
                    count.keys, count.object, count.state, count.oldest
                );
                line("parked", &parked)?;
            }
        }
    }
    let writer = match (&status.writer, &status.target_problem) {
        (_, Some(problem)) => format!("unknown, the target cannot be asked: {problem}"),
        (None, None) if status.pending_changes > 0 => "nobody: start `schoolbell run`".to_string(),
        (None, None) => "nobody".to_string(),
        (Some(holder), None) => {
            let process = holder.process.as_deref().unwrap_or("another role's session");
            let since = holder.since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
            format!("{process}{since}")
        }
    };
    line("writer", &writer)?;
    match status.capture_problems.is_empty() {
        true => {
            let mode = status.notify.as_deref().unwrap_or("unknown");
            line(
                "capture",
                &format!("installed, notify mode {mode}, schema version {}", status.schema_version),
            )?;
        }
        false => {
            for problem in &status.capture_problems {
                line("capture", &format!("{problem}; run `schoolbell migrate`"))?;
            }
        }
    }
    for resync in &status.resyncs {
        let share = if resync.total > 0 { resync.progress.done * 100 / resync.total } else { 0 };
        let progress = format!(
            "{} {} of {} ({share} %), {}",
            resync.object, resync.progress.done, resync.total, resync.state
        );
        line("resync", &progress)?;
    }
    for mirror in &status.salesforce {
        line("salesforce", &sentence(mirror))?;
        for problem in &mirror.problems {
            line("", problem)?;
        }
        for row in &mirror.failed {
            let error = row.error.as_deref().unwrap_or("without a reason");
            line("", &format!("{} {} FAILED: {error}", mirror.object, row.key))?;
        }
        let more = mirror.failed_rows() - mirror.failed.len() as i64;
        if more > 0 {
            line("", &format!("… and {more} more"))?;
        }
    }
    if !status.enabled {
        line(
            "disabled",
            "SALESFORCE_ENABLED is not true here: `run` and `resync` would write nothing",
        )?;
    }
    Ok(())
}

/// What became of an object's rows, in a line.
fn sentence(mirror: &Mirror) -> String {
    let mut parts = vec![format!(
        "{} {} synced, {} pending, {} failed",
        mirror.object,
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
    parts.join("; ")
}
