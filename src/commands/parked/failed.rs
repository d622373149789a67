//! `parked retry --failed`: shows the rows that Salesforce refused, asks, and lets Heroku Connect send them again.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::cli::{ParkedChoice, Settings};
use crate::commands::{self, Exit, resync as resync_command};
use crate::config::Config;
use crate::mapping::Mapping;
use crate::postgres::db::{Direct, Evaluator, Session};
use crate::reports::heroku_connect::Failed;
use crate::reports::heroku_connect::cure::{self, Cure, Resend};
use crate::service::Ground;
use crate::worker::Lane;

/// Of each kind, this many keys are named.
const FEW: usize = 3;
/// Of each kind, this many of Salesforce's reasons are named.
const FEW_REASONS: usize = 5;

pub async fn run(settings: &Settings, typed: &ParkedChoice, yes: bool) -> Result<Exit> {
    let mapping = commands::mapping(settings)?;
    let config = commands::config(settings)?;
    if !config.enabled {
        bail!("SALESFORCE_ENABLED is not true, so nothing may be written to the target");
    }
    let ground = Ground::check(&config, &mapping).await.map_err(commands::stopped(&config))?;
    let lanes = resync_command::chosen(&ground, &typed.objects)?;
    let (source, evaluator) = (ground.source.session().await?, ground.source.evaluator().await?);
    let target = ground.target.session().await?;
    commands::belong_together(&config, &source, &target).await?;
    let keys = (!typed.keys.is_empty()).then_some(typed.keys.as_slice());
    let mut plans = Vec::new();
    for lane in lanes {
        plans.push((lane, cure::plan(&evaluator, &target, lane, keys).await?));
    }
    let curable = plans.iter().any(|(_, plan)| plan.is_something());
    show(&plans)?;
    if !curable {
        return Ok(Exit::attention_if(plans.iter().any(|(_, plan)| plan.has_left_alone())));
    }
    if !yes && !commands::confirmed("send them again")? {
        say!("nothing was changed")?;
        return Ok(Exit::Attention);
    }
    let target = ground.target.writing_session().await?;
    carry_out(&config, &mapping, (source, evaluator, target), &plans).await
}

impl Cure {
    fn is_something(&self) -> bool {
        !self.written_again.is_empty() || !self.sent_again.is_empty()
    }

    fn is_empty(&self) -> bool {
        !self.is_something() && !self.has_left_alone() && self.on_their_way.is_empty()
    }

    fn has_left_alone(&self) -> bool {
        !self.left_alone.is_empty()
    }
}

fn show(plans: &[(&Lane, Cure)]) -> Result<()> {
    let none = plans.iter().all(|(_, plan)| plan.is_empty());
    if none {
        return say!("no such row is FAILED");
    }
    say!("Salesforce refused these rows:")?;
    for (lane, plan) in plans {
        let object = &lane.route.object.name;
        let again = match &plan.way {
            Resend::Function { .. } => "a new entry is made in Heroku Connect's log",
            Resend::Entry => "their failed entry in Heroku Connect's log is set to NEW",
        };
        let stay = match lane.route.object.update_only {
            true => "skipped, because Salesforce creates these rows and does not know them",
            false => "skipped, because the source no longer publishes them",
        };
        show_rows(object, "deleted from the target and written again", &plan.written_again)?;
        show_rows(object, again, &plan.sent_again)?;
        show_rows(
            object,
            "skipped, because Heroku Connect already has an entry to send",
            &plan.on_their_way,
        )?;
        show_rows(object, stay, &plan.left_alone)?;
        if plan.more {
            say!("  {object}: and more; at most {} at a time", cure::MOST)?;
        }
    }
    Ok(())
}

fn show_rows(object: &str, what: &str, rows: &[Failed]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let few: Vec<&str> = rows.iter().take(FEW).map(|row| row.key.as_str()).collect();
    let more = if rows.len() > FEW { ", …" } else { "" };
    say!("  {} {object}, {what}: {}{more}", rows.len(), few.join(", "))?;
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *reasons.entry(row.error.as_deref().unwrap_or("without a reason")).or_default() += 1;
    }
    let mut reasons: Vec<(&str, usize)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (reason, count) in reasons.iter().take(FEW_REASONS) {
        say!("      {count} × {reason}")?;
    }
    Ok(())
}

async fn carry_out(
    config: &Config,
    mapping: &Mapping,
    (mut source, evaluator, target): (Session, Evaluator, Direct),
    plans: &[(&Lane, Cure)],
) -> Result<Exit> {
    let (mut resyncs, mut done) = (Vec::new(), Vec::new());
    for (lane, plan) in plans {
        let route = &lane.route;
        let name = &route.object.name;
        let known = keys(&plan.sent_again);
        if !known.is_empty() {
            let sent = cure::send_again(&target, route, &plan.way, &known).await?;
            let meanwhile = match known.len() as u64 - sent {
                0 => String::new(),
                others => format!("; {others} were sent or accepted meanwhile"),
            };
            done.push(format!("sent again: {sent} {name}{meanwhile}"));
        }
        let unknown = keys(&plan.written_again);
        if !unknown.is_empty()
            && let Some((rows, resync)) =
                cure::write_again((&mut source, &evaluator), &target, route, &unknown)
                    .await
                    .context(
                        "what was deleted already is written again by the service within a minute",
                    )?
        {
            done.push(format!("deleted, to be written again: {rows} {name}"));
            resyncs.push(resync);
        }
    }
    for line in &done {
        say!("{line}")?;
    }
    if resyncs.is_empty() {
        return Ok(Exit::Clean);
    }
    commands::ring(&source).await?;
    let stop = commands::stop_signal()?;
    let reports = resync_command::carry_out(config, mapping, &source, &resyncs, stop).await?;
    resync_command::print(&reports)?;
    let open = reports.iter().any(|report| report.finished_at.is_none());
    let refused = reports.iter().any(|report| report.progress.dead > 0 || report.reason.is_some());
    Ok(Exit::attention_if(open || refused))
}

fn keys(rows: &[Failed]) -> Vec<String> {
    rows.iter().map(|row| row.key.clone()).collect()
}
