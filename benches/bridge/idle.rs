//! Nothing to do, the start, and the size.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Scale;
use crate::bridge::{self, Bridge};
use crate::report::{Figure, Report, median};
use crate::stage::{Pair, Stage, number, school_id};

pub async fn measure(scale: Scale, report: &mut Report) -> Result<()> {
    let stage = Stage::start().await?;
    let pair = stage.pair("bell").await?;
    pair.synced_schools(1_000).await?;
    idle(scale, &pair, report).await?;
    start(&pair, report).await?;
    size(report)
}

async fn idle(scale: Scale, pair: &Pair, report: &mut Report) -> Result<()> {
    let service = Bridge::start(pair).await?;
    // The servers' own processes are done with what came before.
    pair.source.batch_execute("checkpoint").await?;
    pair.target.batch_execute("checkpoint").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let wal = "select pg_current_wal_insert_lsn() - '0/0'";
    let before = (number(&pair.source, wal).await?, number(&pair.target, wal).await?);
    let began = service.processor_time();
    tokio::time::sleep(Duration::from_secs(scale.idle_seconds.into())).await;
    let used = service.processor_time().zip(began).map(|(now, began)| now - began);
    let after = (number(&pair.source, wal).await?, number(&pair.target, wal).await?);
    service.stop().await?;
    if let Some(used) = used {
        let share = used.as_secs_f64() / f64::from(scale.idle_seconds) * 100.0;
        report.add(Figure {
            what: "idle: processor time of the service".into(),
            goal: "≤ 0.1 % of a core".into(),
            ours: format!("{share:.2} %"),
            baseline: String::new(),
            ratio: None,
            met: Some(share <= 0.1),
        });
    }
    let (source, target) = (after.0 - before.0, after.1 - before.1);
    report.add(Figure {
        what: format!("idle: WAL in {} s", scale.idle_seconds),
        goal: "none on either side".into(),
        ours: format!("source {source} bytes, target {target} bytes"),
        baseline: String::new(),
        ratio: None,
        // The server notes running transactions now and then by itself.
        met: Some(source <= 300 && target <= 300),
    });
    Ok(())
}

/// From the start of the program until what was pending is visible in the target.
async fn start(pair: &Pair, report: &mut Report) -> Result<()> {
    let mut times = Vec::new();
    for round in 0..5 {
        let name = format!("before the start {round}");
        pair.source
            .batch_execute(&format!(
                "update schools set name = '{name}' where id = {}",
                school_id("'1'")
            ))
            .await?;
        let shown = format!("select count(*) from salesforce.editor__c where name = '{name}'");
        let began = Instant::now();
        let service = tokio::join!(Bridge::start(pair), async {
            while number(&pair.target, &shown).await.unwrap_or(1) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            times.push(began.elapsed().as_secs_f64() * 1_000.0);
        });
        service.0?.stop().await?;
    }
    report.add(Figure {
        what: "start of the program to its first change in the target".into(),
        goal: "first claim ≤ 100 ms".into(),
        ours: format!("{:.0} ms", median(&times)),
        baseline: String::new(),
        ratio: None,
        met: Some(median(&times) <= 100.0),
    });
    Ok(())
}

fn size(report: &mut Report) -> Result<()> {
    let mebibytes = std::fs::metadata(bridge::PATH)?.len() as f64 / 1024.0 / 1024.0;
    report.add(Figure {
        what: "the program's file".into(),
        goal: "≤ 15 MB".into(),
        ours: format!("{mebibytes:.1} MiB"),
        baseline: String::new(),
        ratio: None,
        met: Some(mebibytes <= 14.3),
    });
    Ok(())
}
