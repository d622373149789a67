//! Many schools changed by one statement, and one school changed many times.

use std::time::Instant;

use anyhow::Result;

use crate::Scale;
use crate::bridge::{self, Bridge};
use crate::report::{Figure, Report, median, thousands};
use crate::resync::floor;
use crate::stage::{Pair, Stage, number, school_id};

pub async fn measure(scale: Scale, report: &mut Report) -> Result<()> {
    let stage = Stage::start().await?;
    let ours = stage.pair("bell").await?;
    ours.synced_schools(scale.live_schools).await?;
    let base = stage.pair("floor").await?;
    base.insert_schools(scale.live_schools).await?;
    floor(&stage, "floor").await?;
    for (triggers, told) in [(true, "with Heroku Connect's triggers"), (false, "without triggers")]
    {
        ours.heroku_triggers(triggers).await?;
        base.heroku_triggers(triggers).await?;
        let service = Bridge::start(&ours).await?;
        let (mut live, mut floors) = (Vec::new(), Vec::new());
        for round in 0..scale.rounds {
            for pair in [&base, &ours] {
                pair.settle_target().await?;
                pair.settle_source().await?;
            }
            let label = format!("Round {round} {told}");
            base.source.batch_execute(&change(&label)).await?;
            floors
                .push(f64::from(scale.live_schools) / floor(&stage, "floor").await?.as_secs_f64());
            live.push(f64::from(scale.live_schools) / until_shown(&ours, &label).await?);
            bridge::caught_up(&ours).await?;
        }
        report.memory("live", service.peak_memory());
        service.stop().await?;
        let ratios: Vec<f64> = live.iter().zip(&floors).map(|(live, floor)| live / floor).collect();
        report.add(Figure {
            what: format!(
                "live: {} schools changed by one UPDATE, {told}",
                thousands(scale.live_schools.into())
            ),
            goal: "≥ 0.8 × the bulk floor".into(),
            ours: format!("{} rows/s", thousands(median(&live))),
            baseline: format!("floor, all changed: {} rows/s", thousands(median(&floors))),
            ratio: Some(median(&ratios)),
            met: Some(median(&ratios) >= 0.795),
        });
    }
    Ok(())
}

fn change(label: &str) -> String {
    format!(
        "update schools set name = left('{}', 30) || id where id <> {}",
        label.replace('\'', "''"),
        school_id("'1'")
    )
}

/// Seconds from the commit of the change until the target has all of it. It leaves out the school that is watched.
async fn until_shown(pair: &Pair, label: &str) -> Result<f64> {
    pair.source.batch_execute(&change(label)).await?;
    let committed = Instant::now();
    let last = format!("Last of {}", label.replace('\'', ""));
    pair.until_a_last_change_is_shown(&last).await?;
    Ok(committed.elapsed().as_secs_f64())
}

/// One school, 10,000 transactions: how often is the target written?
pub async fn coalesce(report: &mut Report) -> Result<()> {
    const CHANGES: u32 = 10_000;
    let stage = Stage::start().await?;
    let pair = stage.pair("bell").await?;
    pair.synced_schools(1_000).await?;
    let service = Bridge::start(&pair).await?;
    let update = format!("update schools set name = $1 where id = {}", school_id("'1'"));
    let update = pair.source.prepare(&update).await?;
    let began = Instant::now();
    for number in 0..CHANGES {
        pair.source.execute(&update, &[&format!("name {number}")]).await?;
    }
    let took = began.elapsed();
    bridge::caught_up(&pair).await?;
    let writes = number(&pair.target, "select count(*) from salesforce._trigger_log").await?;
    service.stop().await?;
    report.add(Figure {
        what: "one school changed 10,000 times in separate transactions".into(),
        goal: "far fewer target writes".into(),
        ours: format!("{writes} writes, in {:.1} s", took.as_secs_f64()),
        baseline: String::new(),
        ratio: None,
        met: Some(writes < i64::from(CHANGES) / 2),
    });
    Ok(())
}
