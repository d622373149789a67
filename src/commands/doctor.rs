//! `doctor`: prints what the checks found, with what fixes it.

use anyhow::Result;

use super::Exit;
use crate::cli::Settings;
use crate::reports::doctor::{self, Check, Limits, Place, Report, Verdict};
use crate::visible;

pub async fn run(settings: &Settings, json: bool) -> Result<Exit> {
    let mapping = super::mapping(settings)?;
    let config = super::config(settings)?;
    let report = doctor::examine(&config, &mapping, &Limits::default()).await;
    match json {
        true => super::print_json(&report)?,
        false => print(&report)?,
    }
    Ok(Exit::attention_if(report.failed > 0))
}

fn print(report: &Report) -> Result<()> {
    for check in &report.checks {
        print_check(check)?;
    }
    let Report { checks, ok, advice, failed, cannot_run } = report;
    say!(
        "{} checks: {ok} ok, {advice} with advice, {failed} failed, {cannot_run} could not run",
        checks.len()
    )
}

fn print_check(Check { title, diagnosis, .. }: &Check) -> Result<()> {
    let mark = match diagnosis.result {
        Verdict::Ok => "ok",
        Verdict::Advice => "advice",
        Verdict::Failed => "FAILED",
        Verdict::CannotRun => "not run",
    };
    say!("{mark:<8} {title:<26} {}", diagnosis.found)?;
    for detail in &diagnosis.details {
        say!("         - {detail}")?;
    }
    let mut place = None;
    let escaped = |text| visible::lines(text) != text;
    if diagnosis.remedies.iter().any(|remedy| remedy.place != Place::Human && escaped(&remedy.text))
    {
        say!("         {}", super::NOT_TO_BE_PASTED)?;
    }
    for remedy in &diagnosis.remedies {
        let is_new = place.replace(remedy.place) != Some(remedy.place);
        match remedy.place {
            Place::Human => say!("         {}", remedy.text)?,
            Place::Shell => say!("         $ {}", remedy.text)?,
            Place::Source | Place::Target => {
                if is_new {
                    let side = if remedy.place == Place::Source { "source" } else { "target" };
                    say!("         in the {side} database:")?;
                }
                say!("             {}", remedy.text)?;
            }
        }
    }
    Ok(())
}
