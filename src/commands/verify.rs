//! `verify`: compares both sides, prints what is wrong, and with `--repair` resyncs exactly those keys.

use crate::worker::page;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{Exit, resync as resync_command};
use crate::cli::{Settings, VerifyOptions};
use crate::config::Config;
use crate::mapping::Mapping;
use crate::outbox::pairing;
use crate::outbox::resync::{self, JobReport, Request};
use crate::outbox::verified;
use crate::outbox::verified::Comparison;
use crate::plan::Route;
use crate::postgres::db::{Evaluator, Session, Transaction};
use crate::postgres::failure::Failure;
use crate::service::Ground;
use crate::verify::{self, ColumnDifference, RowFinding, Scope, Sides, What};
use crate::visible;
use crate::worker::Lane;

/// Keys of one stored resync.
const REPAIR_KEYS: usize = 10_000;
/// Findings on their way from the reading to the list and the resyncs.
const FINDINGS: usize = 1_000;
/// Stored with the end of the comparison, so the transaction is open as long.
const REPAIR_SETTING: &str = "set local idle_in_transaction_session_timeout = '1h'";

/// The report for a machine.
#[derive(Debug, Serialize)]
struct Answer {
    objects: Vec<Comparison>,
    findings: Vec<RowFinding>,
    /// Findings that are counted and not listed.
    not_listed: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    repairs: Vec<JobReport>,
}

/// A verdict, and how long it took.
struct TimedComparison {
    verdict: Comparison,
    seconds: f64,
}

pub async fn run(settings: &Settings, options: &VerifyOptions) -> Result<Exit> {
    let mapping = super::mapping(settings)?;
    let config = super::config(settings)?;
    if options.repair && !config.enabled {
        bail!(
            "SALESFORCE_ENABLED is not true, so nothing may be repaired; set it, or leave out --repair"
        );
    }
    let ground = match options.objects.as_slice() {
        // An object that does not fit (any more) is no reason not to compare another.
        [object] if !options.repair && mapping.object(object).is_some() => {
            Ground::check(&config, &mapping.reduced_to(object))
                .await
                .map_err(super::stopped(&config))?
        }
        _ => {
            let ground = Ground::check(&config, &mapping).await.map_err(super::stopped(&config))?;
            ground.plan.advice.iter().for_each(|advice| tracing::warn!("{advice}"));
            ground
        }
    };
    let lanes = resync_command::chosen(&ground, &options.objects)?;
    let mut source = super::source_session(&config.source).await?;
    let mut found = Listed { options, listed: Vec::new(), not_listed: 0 };
    let mut compared = Vec::new();
    let jobs = if options.repair {
        super::belong_together(&config, &source, &ground.target.session().await?).await?;
        let evaluator = ground.source.evaluator().await?;
        let mut repair = Repair::begin(&mut source, evaluator).await?;
        for lane in &lanes {
            let comparing = compare(&ground, lane, &mut found, Some(&mut repair));
            compared.push(Box::pin(comparing).await?);
        }
        repair.commit().await?
    } else {
        for lane in &lanes {
            compared.push(Box::pin(compare(&ground, lane, &mut found, None)).await?);
        }
        Vec::new()
    };
    let repairs = carry_out(&config, &mapping, &source, &jobs).await?;
    // What was resynced is right now, or parked with the reason.
    let repaired = options.repair && repairs.iter().all(is_done);
    // What another target holds says nothing of the one that the source's changes go to.
    let foreign = pairing::mismatch(&source, Some(&ground.target.session().await?)).await;
    let foreign = foreign.map_err(super::reason)?;
    if let Some(mismatch) = &foreign {
        tell!("this comparison is not recorded, because {mismatch}");
    }
    for TimedComparison { verdict, seconds } in compared.iter().filter(|_| foreign.is_none()) {
        let now = if repaired { after_repair(verdict, &repairs) } else { verdict.clone() };
        if let Err(failure) = verified::record(&source, &now, *seconds).await {
            // A role that may only read can still compare.
            tracing::debug!(reason = %failure, "the time of the comparison cannot be recorded");
        }
    }
    let verdicts: Vec<Comparison> = compared.into_iter().map(|compared| compared.verdict).collect();
    let wrong = verdicts.iter().any(Comparison::is_wrong);
    let Listed { listed, not_listed, .. } = found;
    let result = Answer { objects: verdicts, findings: listed, not_listed, repairs };
    match options.json {
        true => super::print_json(&result)?,
        false => print(&result)?,
    }
    Ok(Exit::attention_if(wrong && !repaired))
}

/// The findings: some for the list, all counted.
struct Listed<'a> {
    options: &'a VerifyOptions,
    listed: Vec<RowFinding>,
    not_listed: u64,
}

impl Listed<'_> {
    fn add(&mut self, mut finding: RowFinding) {
        if self.listed.len() >= self.options.limit {
            self.not_listed += 1;
            return;
        }
        if let (true, What::Differing { columns }) = (self.options.no_values, &mut finding.what) {
            for column in columns {
                (column.source, column.target) = (None, None);
            }
        }
        self.listed.push(finding);
    }
}

/// Resyncs that are stored while the wrong keys are found, in one transaction: none of them is due
/// before all are known, and none is left behind when the comparison is interrupted.
struct Repair<'a> {
    transaction: Transaction<'a>,
    evaluator: Evaluator,
    jobs: Vec<i64>,
    keys: Vec<String>,
}

impl<'a> Repair<'a> {
    async fn begin(source: &'a mut Session, evaluator: Evaluator) -> Result<Self> {
        let transaction = source.begin().await.map_err(super::reason)?;
        transaction.execute(REPAIR_SETTING, &[]).await.map_err(super::reason)?;
        Ok(Self { transaction, evaluator, jobs: Vec::new(), keys: Vec::new() })
    }

    async fn add(&mut self, route: &Route, key: &str) -> Result<(), Failure> {
        self.keys.push(key.to_string());
        match self.keys.len() < REPAIR_KEYS {
            true => Ok(()),
            false => self.store(route).await,
        }
    }

    /// Stores the keys so far. The objects come parents first, and so do their resyncs.
    async fn store(&mut self, route: &Route) -> Result<(), Failure> {
        if !self.keys.is_empty() {
            let keys = std::mem::take(&mut self.keys);
            let request = Request { keys: Some(keys), ..Request::default() };
            let (store, ask) = (&self.transaction, &self.evaluator);
            let total = page::count(ask, &route.object, &request).await?;
            self.jobs.push(resync::create(store, &route.object, &request, total).await?);
        }
        Ok(())
    }

    async fn commit(self) -> Result<Vec<i64>> {
        self.transaction.commit().await.map_err(super::reason)?;
        Ok(self.jobs)
    }
}

async fn compare(
    ground: &Ground,
    lane: &Lane,
    found: &mut Listed<'_>,
    mut repair: Option<&mut Repair<'_>>,
) -> Result<TimedComparison> {
    let (route, began) = (&lane.route, Instant::now());
    let object = &route.object.name;
    let mut sides = Sides {
        source: ground.source.evaluator().await?,
        target: ground.target.session().await?,
        source_again: ground.source.evaluator().await?,
        books: ground.source.session().await?,
        target_again: ground.target.session().await?,
    };
    let scope = found.options.sample.map_or(Scope::All, Scope::Sample);
    let bar = bar(&sides.source, route, scope).await;
    let (told, mut findings) = mpsc::channel(FINDINGS);
    let names_kept = found.options.kept;
    let reading = verify::verify(&mut sides, route, scope, names_kept, told, |rows| {
        // The total is an estimate.
        bar.set_length(bar.length().unwrap_or(0).max(rows));
        bar.set_position(rows);
    });
    let listing = async {
        while let Some(finding) = findings.recv().await {
            if let Some(repair) = &mut repair
                && !matches!(finding.what, What::Kept)
            {
                repair.add(route, &finding.key).await?;
            }
            found.add(finding);
        }
        match repair {
            Some(repair) => repair.store(route).await,
            None => Ok(()),
        }
    };
    let (verdict, ()) =
        tokio::try_join!(reading, listing).with_context(|| format!("cannot compare {object}"))?;
    bar.finish_and_clear();
    Ok(TimedComparison { verdict, seconds: began.elapsed().as_secs_f64() })
}

/// On stderr; silent where stderr is no terminal.
async fn bar(source: &Evaluator, route: &Route, scope: Scope) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:<10} {bar:30} {human_pos}/{human_len} {per_sec} ETA {eta}",
    );
    // A failure here is met and reported by the comparison, too, or is one row's fault.
    let rows = verify::estimate(source, route).await.unwrap_or(0);
    let rows = match scope {
        Scope::All => rows,
        Scope::Sample(sample) => rows.min(sample),
    };
    let bar = ProgressBar::new(rows).with_prefix(visible::line(&route.object.name).into_owned());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    // Nothing moves while the databases sort; the bar should still be shown.
    bar.tick();
    bar
}

/// Waits until the resyncs are done.
async fn carry_out(
    config: &Config,
    mapping: &Mapping,
    source: &Session,
    jobs: &[i64],
) -> Result<Vec<JobReport>> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    super::ring(source).await?;
    resync_command::carry_out(config, mapping, source, jobs, super::stop_signal()?).await
}

fn is_done(report: &JobReport) -> bool {
    report.finished_at.is_some()
        && report.progress.dead + report.progress.retrying == 0
        && report.reason.is_none()
}

/// What a comparison would have found after its repair.
fn after_repair(verdict: &Comparison, repairs: &[JobReport]) -> Comparison {
    let of_object = repairs.iter().filter(|report| report.object == verdict.object);
    let waiting: i64 = of_object.map(|report| report.progress.waiting).sum();
    let waiting = waiting.unsigned_abs();
    let mut after = verdict.clone();
    let rows = std::mem::take(&mut after.missing)
        + std::mem::take(&mut after.differing)
        + std::mem::take(&mut after.unreadable);
    after.unexpected = 0;
    after.equal += rows.saturating_sub(waiting);
    if waiting > 0 {
        *after.parked.entry("repaired as far as its parents are there".into()).or_default() +=
            waiting;
    }
    after
}

fn print(result: &Answer) -> Result<()> {
    let mut table = super::TextTable::new([
        "object",
        "rows",
        "equal",
        "missing",
        "differing",
        "unexpected",
        "unreadable",
        "in flight",
        "parked",
        "kept",
    ]);
    for verdict in &result.objects {
        let counts = [
            verdict.rows,
            verdict.equal,
            verdict.missing,
            verdict.differing,
            verdict.unexpected,
            verdict.unreadable,
            verdict.in_flight,
            verdict.parked.values().sum(),
            verdict.kept,
        ];
        let row = std::iter::once(verdict.object.clone()).chain(counts.iter().map(u64::to_string));
        table.add_row(row.collect::<Vec<_>>());
    }
    table.print()?;
    for verdict in &result.objects {
        if let Some(total) = verdict.sample_of {
            let (rows, total) = (HumanCount(verdict.rows), HumanCount(total.max(verdict.rows)));
            say!("{}: a sample of {rows} of about {total} rows", verdict.object)?;
        }
        for (why, keys) in &verdict.parked {
            say!("{}: {keys} {why}", verdict.object)?;
        }
    }
    for finding in &result.findings {
        let RowFinding { object, key, what } = finding;
        match what {
            What::Missing => say!("{object} {key} is missing")?,
            What::Kept => say!("{object} {key} stays although its source is gone")?,
            What::Unexpected => say!("{object} {key} should not be there")?,
            What::Unreadable { reason } => say!("{object} {key} cannot be read: {reason}")?,
            What::Differing { columns } => {
                say!("{object} {key} differs")?;
                for column in columns {
                    say!("    {}", told(column))?;
                }
            }
        }
    }
    if result.not_listed > 0 {
        say!("… and {} more (--limit)", result.not_listed)?;
    }
    for verdict in result.objects.iter().filter(|verdict| verdict.is_wrong()) {
        if let Some(since) = verdict.since {
            say!("{}: the first of these rows was last changed at {since:.0}", verdict.object)?;
        }
    }
    if !result.repairs.is_empty() {
        resync_command::print(&result.repairs)?;
    } else if result.objects.iter().any(Comparison::is_wrong) {
        say!("to write exactly these: schoolbell verify --repair")?;
    }
    Ok(())
}

/// Both sides of a column, or its name where the values are not to be shown.
fn told(difference: &ColumnDifference) -> String {
    let ColumnDifference { column, source, target } = difference;
    let side = |value: &Option<String>| match value {
        Some(text) => format!("{text:?}"),
        None => "null".to_string(),
    };
    match source == target {
        true => column.clone(),
        false => format!("{column}: {} instead of {}", side(target), side(source)),
    }
}
