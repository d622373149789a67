//! `verify`: compares both sides, prints what is wrong, and with `--repair` replays exactly those keys.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Outcome, resync as replay};
use crate::cli::{Settings, VerifyOptions};
use crate::config::Config;
use crate::mapping::Mapping;
use crate::resync::{self, Report, Request};
use crate::service::Ground;
use crate::verify::{self, Difference, Finding, Sides, Verdict, Wrong};
use crate::worker::Lane;

/// So much of a value is shown: enough to see what it is about.
const SHOWN_CHARS: usize = 40;
/// Keys of one stored replay.
const REPAIR_KEYS: usize = 10_000;

/// The report for a machine.
#[derive(Debug, Serialize)]
struct Comparison {
    objects: Vec<Verdict>,
    findings: Vec<Finding>,
    /// Findings that are counted and not listed.
    not_listed: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    repairs: Vec<Report>,
}

pub async fn run(settings: &Settings, options: &VerifyOptions) -> Result<Outcome> {
    let mapping = super::mapping(settings)?;
    let config = super::config(settings)?;
    if options.repair && !config.enabled {
        bail!(
            "SALESFORCE_ENABLED is not true, so nothing may be repaired; set it, or leave out --repair"
        );
    }
    let ground = Ground::check(&config, &mapping).await.map_err(super::stopped)?;
    for advice in &ground.advice {
        tracing::warn!("{advice}");
    }
    let lanes = replay::chosen(&ground, &options.objects)?;
    let mut found = Found { options, listed: Vec::new(), not_listed: 0, wrong: BTreeMap::new() };
    let mut verdicts = Vec::new();
    for lane in &lanes {
        verdicts.push(compare(&ground, lane, &mut found).await?);
    }
    let repairs = match options.repair {
        true => repair(&config, &mapping, &lanes, &found.wrong).await?,
        false => Vec::new(),
    };
    let wrong = verdicts.iter().any(Verdict::is_wrong);
    // What was replayed is right now, or parked with the reason.
    let repaired = options.repair
        && repairs.iter().all(|report| report.progress.dead == 0 && report.reason.is_none());
    let Found { listed, not_listed, .. } = found;
    let result = Comparison { objects: verdicts, findings: listed, not_listed, repairs };
    match options.json {
        true => super::print_json(&result)?,
        false => print(&result)?,
    }
    Ok(Outcome::attention_if(wrong && !repaired))
}

/// The findings: some for the list, the keys of all for the repair.
struct Found<'a> {
    options: &'a VerifyOptions,
    listed: Vec<Finding>,
    not_listed: u64,
    wrong: BTreeMap<String, Vec<String>>,
}

impl Found<'_> {
    fn add(&mut self, mut finding: Finding) {
        if self.options.repair {
            self.wrong.entry(finding.object.clone()).or_default().push(finding.key.clone());
        }
        if self.listed.len() >= self.options.limit {
            self.not_listed += 1;
            return;
        }
        if let Wrong::Differing { columns } = &mut finding.what {
            for column in columns {
                for value in [&mut column.source, &mut column.target] {
                    *value = value
                        .take()
                        .filter(|_| !self.options.no_values)
                        .map(|text| shortened(&text));
                }
            }
        }
        self.listed.push(finding);
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

async fn compare(ground: &Ground, lane: &Lane, found: &mut Found<'_>) -> Result<Verdict> {
    let object = &lane.route.object.name;
    let mut sides = Sides {
        source: ground.source.session().await?,
        target: ground.target.session().await?,
        source_again: ground.source.session().await?,
        target_again: ground.target.session().await?,
    };
    let style = ProgressStyle::with_template("{prefix:<10} {spinner} {human_pos} rows {per_sec}");
    let bar = ProgressBar::new_spinner()
        .with_prefix(object.clone())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let verdict = verify::verify(
        &mut sides,
        &lane.route,
        |finding| found.add(finding),
        |rows| bar.set_position(rows),
    )
    .await
    .with_context(|| format!("cannot compare {object}"))?;
    bar.finish_and_clear();
    Ok(verdict)
}

/// Replays the keys, parents first.
async fn repair(
    config: &Config,
    mapping: &Mapping,
    lanes: &[&Lane],
    wrong: &BTreeMap<String, Vec<String>>,
) -> Result<Vec<Report>> {
    let mut source = super::source_session(&config.source).await?;
    let transaction = source.begin().await?;
    let mut ids = Vec::new();
    for lane in lanes {
        let keys = wrong.get(&lane.route.object.name).map_or(&[][..], Vec::as_slice);
        for keys in keys.chunks(REPAIR_KEYS) {
            let request = Request { keys: Some(keys.to_vec()), ..Request::default() };
            ids.push(resync::create(&transaction, &lane.route, &request).await?);
        }
    }
    transaction.commit().await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    super::ring(&source).await?;
    replay::carry_out(config, mapping, &source, &ids, super::stop_signal()?).await
}

fn print(result: &Comparison) -> Result<()> {
    let mut table = super::table([
        "object",
        "rows",
        "equal",
        "missing",
        "differing",
        "unexpected",
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
            verdict.in_flight,
            verdict.parked.values().sum(),
            verdict.kept,
        ];
        let row = std::iter::once(verdict.object.clone()).chain(counts.iter().map(u64::to_string));
        table.add_row(row.collect::<Vec<_>>());
    }
    say!("{table}")?;
    for verdict in &result.objects {
        for (why, keys) in &verdict.parked {
            say!("{}: {keys} {why}", verdict.object)?;
        }
    }
    for finding in &result.findings {
        let Finding { object, key, what } = finding;
        match what {
            Wrong::Missing => say!("{object} {key} is missing")?,
            Wrong::Unexpected => say!("{object} {key} should not be there")?,
            Wrong::Differing { columns } => {
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
        replay::print(&result.repairs)?;
    } else if result.objects.iter().any(Verdict::is_wrong) {
        say!("to write exactly these: schoolbell verify --repair")?;
    }
    Ok(())
}

/// Both sides of a column, or its name where the values are not to be shown.
fn told(difference: &Difference) -> String {
    let Difference { column, source, target } = difference;
    let side = |value: &Option<String>| match value {
        Some(text) => format!("{text:?}"),
        None => "null".to_string(),
    };
    match source == target {
        true => column.clone(),
        false => format!("{column}: {} instead of {}", side(target), side(source)),
    }
}
