//! From the return of a commit until the target shows it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::poll_fn;
use hdrhistogram::Histogram;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::Scale;
use crate::bridge::Bridge;
use crate::report::{Figure, Report};
use crate::stage::{Pair, Stage, school_id};

const SCHOOLS: u32 = 20_000;
/// Longer than the service stays awake: each update finds it asleep.
const BETWEEN_SINGLES: std::ops::Range<u64> = 150..300;
const WRITES_PER_SECOND: u32 = 200;

/// A trigger of the target notifies at its commit which row is visible from then on. Its cost is
/// part of what is measured.
const TELL: &str = "
    create function tell() returns trigger language plpgsql as $$
    begin
        perform pg_notify('shown', new.name);
        return null;
    end $$;
    create trigger tell after insert or update on salesforce.editor__c for each row execute function tell();
";

/// One update at a time, with the service asleep before each.
pub async fn single(scale: Scale, report: &mut Report) -> Result<()> {
    let stage = Stage::start().await?;
    let pair = stage.pair("bell").await?;
    pair.synced_schools(SCHOOLS).await?;
    let service = Bridge::start(&pair).await?;
    let times = times_of_singles(&pair, scale.singles).await?;
    report.memory("latency", service.peak_memory());
    service.stop().await?;
    let least = times_of_statements(&pair, scale.singles).await?;
    report.add(Figure {
        baseline: format!("the row read and written at that pace: {}", told(&least)),
        ..figure("commit to visible, service asleep before", &times, 1_000, 4_000)
    });
    report.latencies.push(("the row read and written at that pace".into(), least));
    report.latencies.push(("one update at a time".into(), times));
    Ok(())
}

/// Times of single updates in microseconds.
pub async fn times_of_singles(pair: &Pair, count: u32) -> Result<Histogram<u64>> {
    let update = pair
        .source
        .prepare(&format!("update schools set name = $1 where id = {}", school_id("$2::text")))
        .await?;
    let look = pair
        .target
        .prepare(&format!(
            "select name from salesforce.editor__c where editoruuid__c = {}::text",
            school_id("$1::text")
        ))
        .await?;
    let mut times = Histogram::new(3)?;
    for number in 0..count {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(BETWEEN_SINGLES))).await;
        let school = fastrand::u32(1..=SCHOOLS).to_string();
        let name = format!("changed {number} {}", fastrand::u32(..));
        pair.source.execute(&update, &[&name, &school]).await?;
        let committed = Instant::now();
        while pair.target.query_one(&look, &[&school]).await?.get::<_, Option<&str>>(0)
            != Some(&*name)
        {}
        times.record(committed.elapsed().as_micros() as u64)?;
    }
    Ok(times)
}

/// The least that copying a row takes, in microseconds: reading it in the source and writing it to
/// the target.
async fn times_of_statements(pair: &Pair, count: u32) -> Result<Histogram<u64>> {
    let school = school_id("$1::text");
    let read = format!("select name from schools where id = {school}");
    let read = pair.source.prepare(&read).await?;
    let write = format!(
        "update salesforce.editor__c set name = left($2, 60) || '.' where editoruuid__c = {school}::text"
    );
    let write = pair.target.prepare(&write).await?;
    let mut times = Histogram::new(3)?;
    for _ in 0..count {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(BETWEEN_SINGLES))).await;
        let school = fastrand::u32(1..=SCHOOLS).to_string();
        let began = Instant::now();
        let name: String = pair.source.query_one(&read, &[&school]).await?.get(0);
        pair.target.execute(&write, &[&school, &name]).await?;
        times.record(began.elapsed().as_micros() as u64)?;
    }
    Ok(times)
}

/// A steady load of single updates, each at its time, whether or not those before have arrived.
pub async fn steady(scale: Scale, report: &mut Report) -> Result<()> {
    let stage = Stage::start().await?;
    let pair = stage.pair("bell").await?;
    pair.synced_schools(SCHOOLS).await?;
    pair.target.batch_execute(TELL).await?;
    let service = Bridge::start(&pair).await?;
    let shown = shown(&pair.target_url).await?;
    let committed = write_steadily(&pair.source, scale.steady_seconds).await?;
    let times = collect(shown, &committed).await?;
    report.memory("steady", service.peak_memory());
    service.stop().await?;
    let what = format!("{WRITES_PER_SECOND} writes/s for {} s", scale.steady_seconds);
    report.add(figure(&what, &times, u64::MAX, 10_000));
    report.latencies.push((format!("{WRITES_PER_SECOND} updates/s"), times));
    Ok(())
}

/// What the target notifies, with the time at which it was heard.
async fn shown(url: &str) -> Result<tokio::sync::mpsc::UnboundedReceiver<(String, Instant)>> {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await?;
    let (heard, hear) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notice) = message {
                _ = heard.send((notice.payload().to_string(), Instant::now()));
            }
        }
    });
    client.batch_execute("listen shown").await?;
    // The listener lives as long as the process.
    std::mem::forget(client);
    Ok(hear)
}

async fn write_steadily(source: &Client, seconds: u32) -> Result<HashMap<String, Instant>> {
    let update = source
        .prepare(&format!("update schools set name = $1 where id = {}", school_id("$2::text")))
        .await?;
    let mut committed = HashMap::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / WRITES_PER_SECOND);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    for number in 0..seconds * WRITES_PER_SECOND {
        tick.tick().await;
        // A school is not updated again soon, so that two updates of one school do not become one
        // write.
        let school = (number % SCHOOLS + 1).to_string();
        let name = format!("steady {number}");
        source.execute(&update, &[&name, &school]).await?;
        committed.insert(name, Instant::now());
    }
    Ok(committed)
}

async fn collect(
    mut shown: tokio::sync::mpsc::UnboundedReceiver<(String, Instant)>,
    committed: &HashMap<String, Instant>,
) -> Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    while times.len() < committed.len() as u64 {
        let next = tokio::time::timeout(Duration::from_secs(20), shown.recv()).await;
        let (name, at) = next.context("not every update arrived")?.context("the target hung up")?;
        if let Some(committed) = committed.get(&name) {
            // A row that is visible before the writer's own task has heard of its commit counts as
            // zero.
            times.record(at.saturating_duration_since(*committed).as_micros() as u64)?;
        }
    }
    Ok(times)
}

/// `p50`, `p99`: the goals in microseconds; without a goal the greatest number.
pub fn figure(what: &str, times: &Histogram<u64>, p50: u64, p99: u64) -> Figure {
    let (middle, late) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
    let goals: Vec<String> = [("p50", p50), ("p99", p99)]
        .into_iter()
        .filter(|(_, most)| *most < u64::MAX)
        .map(|(name, most)| format!("{name} ≤ {}", milliseconds(most)))
        .collect();
    Figure {
        what: what.into(),
        goal: goals.join(", "),
        ours: told(times),
        baseline: String::new(),
        ratio: None,
        met: (!goals.is_empty()).then_some(middle <= p50 && late <= p99),
    }
}

fn told(times: &Histogram<u64>) -> String {
    let (middle, late) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
    format!("p50 {}, p99 {}", milliseconds(middle), milliseconds(late))
}

fn milliseconds(micros: u64) -> String {
    format!("{:.2} ms", micros as f64 / 1_000.0)
}
