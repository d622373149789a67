//! One UPDATE of many rows, with and without capture.

use std::time::Instant;

use anyhow::Result;

use crate::Scale;
use crate::bridge::{self, Bridge};
use crate::report::{Figure, Report, median};
use crate::stage::{Pair, Stage};

const SCHOOLS: u32 = 100_000;

pub async fn measure(scale: Scale, report: &mut Report) -> Result<()> {
    let stage = Stage::start().await?;
    let plain = stage.pair("plain").await?;
    plain.insert_schools(SCHOOLS).await?;
    let bell = stage.pair("bell").await?;
    bell.synced_schools(SCHOOLS).await?;
    let service = Bridge::start(&bell).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds.max(2) {
        without.push(update(&plain).await?);
        with.push(update(&bell).await?);
        bridge::caught_up(&bell).await?;
    }
    report.memory("bulk", service.peak_memory());
    service.stop().await?;
    let ratios: Vec<f64> =
        with.iter().zip(&without).map(|(with, without)| with / without).collect();
    report.add(Figure {
        what: "UPDATE of 100,000 rows".into(),
        goal: "≤ 1.8 × without triggers".into(),
        ours: format!("{:.2} s", median(&with)),
        baseline: format!("no triggers: {:.2} s", median(&without)),
        ratio: Some(median(&ratios)),
        met: Some(median(&ratios) <= 1.8),
    });
    Ok(())
}

async fn update(pair: &Pair) -> Result<f64> {
    pair.settle_source().await?;
    let began = Instant::now();
    pair.source.batch_execute("update schools set name = name || 'x'").await?;
    Ok(began.elapsed().as_secs_f64())
}
