//! `resync`: stores resyncs, lets the writer carry them out, and shows how far they are.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use tokio::sync::watch;

use super::Exit;
use crate::apply;
use crate::cli::{ResyncOptions, Settings};
use crate::config::{Config, Pace};
use crate::mapping::Mapping;
use crate::outbox::outcome::{self, Outcome};
use crate::outbox::resync::{self, Job, JobReport, Request};
use crate::postgres::db::{Evaluator, Session};
use crate::postgres::failure::Failure;
use crate::project::{self, BATCH_BYTES, Projected, Wanted};
use crate::service::{self, End, Ground};
use crate::visible;
use crate::worker::Lane;
use crate::worker::page::{self, Content, Size};

/// Between two looks at the progress.
const REFRESH: Duration = Duration::from_millis(200);
/// Between two attempts to carry the resync out ourselves, in case the writer has ended.
const TAKE_OVER: Duration = Duration::from_secs(1);

pub async fn run(settings: &Settings, options: &ResyncOptions) -> Result<Exit> {
    let mapping = super::mapping(settings)?;
    let config = super::config(settings)?;
    if let Some(id) = options.dismiss {
        return dismiss(&config, id).await;
    }
    if !config.enabled && !options.dry_run {
        bail!(
            "SALESFORCE_ENABLED is not true, so nothing may be written; set it, or use --dry-run"
        );
    }
    let ground = Ground::check(&config, &mapping).await.map_err(super::stopped(&config))?;
    for advice in &ground.plan.advice {
        tracing::warn!("{advice}");
    }
    let lanes = chosen(&ground, &options.objects)?;
    if !options.keys.is_empty() && options.objects.len() != 1 {
        bail!("--key needs exactly one object, for example: schoolbell resync school --key K");
    }
    let mut request = request(options)?;
    if let Some(lane) = lanes.iter().find(|lane| lane.route.object.since.is_none())
        && request.since.is_some()
    {
        bail!(
            "object {} has no `since` column in the mapping, so --since cannot be used",
            lane.route.object.name
        );
    }
    let evaluator = ground.source.evaluator().await?;
    let mut no_key = 0;
    if let (Some(keys), [lane]) = (&mut request.keys, lanes.as_slice()) {
        no_key = leave_out_what_is_no_key(&evaluator, lane, keys).await?;
    }
    if options.dry_run {
        return dry_run(&ground, &lanes, &request, options.json).await;
    }
    let mut source = super::source_session(&config.source).await?;
    super::belong_together(&config, &source, &ground.target.session().await?).await?;
    let transaction = source.begin().await?;
    let mut ids = Vec::new();
    for lane in &lanes {
        let total = page::count(&evaluator, &lane.route.object, &request).await?;
        let id = resync::create(&transaction, &lane.route.object, &request, total).await?;
        ids.push(id);
    }
    transaction.commit().await?;
    super::ring(&source).await?;
    if options.detach {
        let numbers: Vec<String> = ids.iter().map(i64::to_string).collect();
        say!("stored as {}; `schoolbell status` shows how far they are", numbers.join(", "))?;
        return Ok(Exit::Clean);
    }
    let stop = super::stop_signal()?;
    let reports = carry_out(&config, &mapping, &source, &ids, stop.clone()).await?;
    if options.json {
        super::print_json(&reports)?;
    } else {
        print(&reports)?;
    }
    if *stop.borrow() && reports.iter().any(|report| report.finished_at.is_none()) {
        tell!("interrupted; the running service continues it, or the same command");
        return Ok(Exit::Attention);
    }
    let refused = reports.iter().any(|report| {
        report.progress.dead + report.progress.retrying > 0 || report.reason.is_some()
    });
    Ok(Exit::attention_if(no_key > 0 || refused))
}

/// Reports texts that cannot be a key of the object, and leaves them out; returns how many there
/// were. A typing mistake must not be parked.
async fn leave_out_what_is_no_key(
    evaluator: &Evaluator,
    lane: &Lane,
    keys: &mut Vec<String>,
) -> Result<usize> {
    let (sql, touching) = (project::resolve_statement(&lane.route), lane.route.touches.len());
    let named = std::mem::take(keys);
    let count = named.len();
    for key in named {
        let wanted = Wanted::of(vec![key.clone()], touching);
        match project::resolve(evaluator, &sql, &wanted).await {
            Ok(_) => keys.push(key),
            Err(Failure::Dead(refusal)) => {
                let object = &lane.route.object.name;
                tell!("{key:?} is no key of {object}: {} ({})", refusal.reason, refusal.sqlstate);
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    if keys.is_empty() {
        bail!("nothing was stored: none of the keys can be one");
    }
    Ok(count - keys.len())
}

async fn dismiss(config: &Config, id: i64) -> Result<Exit> {
    let source = super::source_session(&config.source).await?;
    if !resync::dismiss(&source, id).await.map_err(super::reason)? {
        bail!("no resync {id} has failed; `schoolbell status` shows those that have");
    }
    say!("dismissed: `schoolbell status` no longer shows resync {id}")?;
    Ok(Exit::Clean)
}

/// The lanes that were asked for, in the order of the mapping: parents first.
pub(super) fn chosen<'a>(ground: &'a Ground, objects: &[String]) -> Result<Vec<&'a Lane>> {
    let known: Vec<&str> = ground.routes().map(|route| route.object.name.as_str()).collect();
    if let Some(unknown) = objects.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("the mapping has no object {unknown}; it has {}", known.join(", "));
    }
    let wanted = |lane: &&Lane| objects.is_empty() || objects.contains(&lane.route.object.name);
    Ok(ground.plan.lanes.iter().filter(wanted).collect())
}

fn request(options: &ResyncOptions) -> Result<Request> {
    Ok(Request {
        keys: (!options.keys.is_empty()).then(|| options.keys.clone()),
        since: options.since.as_deref().map(time).transpose()?,
        missing: options.missing,
        limit: options.limit,
        rate: options.rate,
    })
}

/// A moment (UTC where no zone is given), or an age.
fn time(text: &str) -> Result<Timestamp> {
    let utc = jiff::tz::TimeZone::UTC;
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Ok(moment) = text.parse::<jiff::civil::DateTime>() {
        return Ok(moment.to_zoned(utc).context("no such moment")?.timestamp());
    }
    if let Ok(age) = text.parse::<jiff::Span>() {
        let now = Timestamp::now().to_zoned(utc);
        return Ok(now.checked_sub(age.abs()).context("too long ago")?.timestamp());
    }
    bail!(
        "--since {text:?} is no time; use 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 2h or 3d"
    )
}

/// Waits for the jobs, working on them whenever nobody else is the writer.
pub(super) async fn carry_out(
    config: &Config,
    mapping: &Mapping,
    source: &Session,
    ids: &[i64],
    stop: watch::Receiver<bool>,
) -> Result<Vec<JobReport>> {
    let bars = Bars::new();
    let work = async {
        loop {
            let (drain, metrics) = (true, Arc::default());
            let ended =
                service::run(config, Pace::default(), mapping, stop.clone(), drain, &metrics);
            if let End::Blocked(stranger) = ended.await.map_err(super::stopped(config))? {
                let why = service::blocked(&stranger);
                bail!(
                    "{why}. The resync is stored, and is carried out by the next service that can write"
                );
            }
            tokio::time::sleep(TAKE_OVER).await;
        }
    };
    let watch = async {
        let mut told = false;
        loop {
            let reports = resync::reports(source, Some(ids)).await.map_err(super::reason)?;
            bars.show(&reports);
            let passed_over = reports.iter().find(|report| report.waits_for_mapping());
            if let Some(report) = passed_over.filter(|_| !std::mem::replace(&mut told, true)) {
                bars.tell(&format!(
                    "the service works with another mapping of {} than this one ({}), so the resync waits until it has \
                     taken this one",
                    report.object, mapping.file
                ));
            }
            let finished = reports.iter().all(|report| report.finished_at.is_some());
            if finished || *stop.borrow() {
                return Ok(());
            }
            tokio::time::sleep(REFRESH).await;
        }
    };
    tokio::pin!(work);
    let watched: Result<()> = tokio::select! {
        worked = &mut work => worked,
        watched = watch => watched,
    };
    watched?;
    bars.finish();
    resync::reports(source, Some(ids)).await.map_err(super::reason)
}

/// One bar per job, on stderr; silent where stderr is no terminal.
struct Bars {
    all: MultiProgress,
    bars: std::cell::RefCell<Vec<ProgressBar>>,
}

impl Bars {
    fn new() -> Self {
        Self { all: MultiProgress::new(), bars: std::cell::RefCell::new(Vec::new()) }
    }

    fn show(&self, reports: &[JobReport]) {
        let mut bars = self.bars.borrow_mut();
        for (index, report) in reports.iter().enumerate() {
            if bars.len() <= index {
                let style = ProgressStyle::with_template(
                    "{prefix:<10} {bar:30} {human_pos}/{human_len} {per_sec} ETA {eta} {msg}",
                );
                let bar = ProgressBar::new(report.total.unsigned_abs())
                    .with_prefix(visible::line(&report.object).into_owned());
                let bar = self.all.add(bar);
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bars.push(bar);
            }
            // Rows that were added since the start make it longer, never more than full.
            bars[index].set_length(report.total.max(report.progress.done).unsigned_abs());
            bars[index].set_position(report.progress.done.unsigned_abs());
            bars[index].set_message(format!("{} written", report.progress.written));
        }
    }

    /// A line above them.
    fn tell(&self, text: &str) {
        self.all.suspend(|| tell!("{text}"));
    }

    fn finish(&self) {
        for bar in self.bars.borrow().iter() {
            bar.finish();
        }
    }
}

pub(super) fn print(reports: &[JobReport]) -> Result<()> {
    let mut table = super::TextTable::new([
        "object", "rows", "written", "equal", "waiting", "retrying", "dead", "deleted", "kept",
        "seconds",
    ]);
    for report in reports {
        let seconds = match (report.started_at, report.finished_at) {
            (Some(_), Some(finished)) => {
                format!("{:.1}", finished.duration_since(report.created_at).as_secs_f64())
            }
            _ => report.state.clone(),
        };
        let counts = [
            report.progress.done,
            report.progress.written,
            report.progress.equal,
            report.progress.waiting,
            report.progress.retrying,
            report.progress.dead,
            report.progress.deleted,
            report.progress.kept,
        ];
        let row = std::iter::once(report.object.clone())
            .chain(counts.iter().map(i64::to_string))
            .chain([seconds]);
        table.add_row(row.collect::<Vec<_>>());
    }
    table.print()?;
    for (report, reason) in
        reports.iter().filter_map(|report| Some((report, report.reason.as_ref()?)))
    {
        say!("{} could not continue: {reason}", report.object)?;
    }
    Ok(())
}

/// What a resync of an object would do.
#[derive(Debug, Default, serde::Serialize)]
struct Forecast {
    object: String,
    rows: u64,
    insert: u64,
    update: u64,
    equal: u64,
    waiting: u64,
}

async fn dry_run(ground: &Ground, lanes: &[&Lane], request: &Request, json: bool) -> Result<Exit> {
    let mut forecasts = Vec::new();
    for lane in lanes {
        forecasts.push(forecast(ground, lane, request).await?);
    }
    if json {
        super::print_json(&forecasts)?;
    } else {
        let mut table = super::TextTable::new([
            "object",
            "rows",
            "would insert",
            "would update",
            "equal",
            "would wait",
        ]);
        for f in &forecasts {
            let counts = [f.rows, f.insert, f.update, f.equal, f.waiting];
            let row = std::iter::once(f.object.clone()).chain(counts.iter().map(u64::to_string));
            table.add_row(row.collect::<Vec<_>>());
        }
        table.print()?;
        tell!("dry run: nothing was written");
    }
    Ok(Exit::Clean)
}

async fn forecast(ground: &Ground, lane: &Lane, request: &Request) -> Result<Forecast> {
    let pace = Pace::default();
    let evaluator = ground.source.evaluator().await.context("cannot use the source database")?;
    let mut target = ground.target.session().await?.direct()?;
    let object = lane.route.object.name.clone();
    let mut forecast = Forecast { object: object.clone(), ..Forecast::default() };
    let (mut position, mut rows) = (None, pace.page_rows);
    loop {
        let written = (forecast.insert + forecast.update) as i64;
        let job = Job {
            id: 0,
            object: object.clone(),
            walks_target: false,
            request: request.clone(),
            position: position.clone(),
            written,
            own: false,
        };
        let size = Size { rows, bytes: BATCH_BYTES };
        let page = page::next(&evaluator, &target, &lane.route, job, size).await?;
        let read = match page {
            Some((page, content)) => {
                read(&evaluator, lane, content).await?.map(|projected| (page, projected))
            }
            None => None,
        };
        let Some((page, mut projected)) = read else {
            rows = (rows / 2).max(1);
            continue;
        };
        if request.missing {
            apply::retain_lacking(&target, &lane.statements, &mut projected).await?;
        }
        let outcomes =
            apply::compare_rows(&mut target, &lane.route, &lane.statements, &projected.rows)
                .await?;
        forecast.rows += projected.rows.len() as u64;
        for (_, outcome) in outcome::by_key(outcomes) {
            match outcome {
                Outcome::Inserted => forecast.insert += 1,
                Outcome::Updated => forecast.update += 1,
                _ => forecast.waiting += 1,
            }
        }
        position = page.position;
        if page.last {
            forecast.equal = forecast.rows - forecast.insert - forecast.update - forecast.waiting;
            return Ok(forecast);
        }
    }
}

/// The rows of a page; none where they have too many bytes.
async fn read(
    evaluator: &Evaluator,
    lane: &Lane,
    content: Content,
) -> Result<Option<Projected>, Failure> {
    match content {
        Content::Rows(rows) => Ok(Some(Projected { rows, absent: Vec::new() })),
        Content::Keys(keys) => {
            let mut wanted = Wanted::of(keys, lane.route.touches.len());
            wanted.leave_each_once();
            project::project(evaluator, BATCH_BYTES, &lane.project, &wanted).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_dates_moments_and_ages() {
        assert_eq!(time("2026-01-31").unwrap().to_string(), "2026-01-31T00:00:00Z");
        assert_eq!(time("2026-01-31T12:00:00").unwrap().to_string(), "2026-01-31T12:00:00Z");
        assert_eq!(time("2026-01-31T12:00:00+02:00").unwrap().to_string(), "2026-01-31T10:00:00Z");
        assert!(time("2h").unwrap() < Timestamp::now());
        assert!(time("yesterday-ish").is_err());
    }
}
