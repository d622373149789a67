//! `make bench`: every goal of the project, measured against its baseline in the same run.
//!
//! Two throw-away clusters with default durability, the release build of the program, and the load, all on one
//! machine. What is compared is measured in turn, several rounds, and the median of the rounds counts.
//! `ONLY=latency,live` measures those alone, `QUICK=1` measures everything with less of it, `SCHOOLBELL_BLESS=1` writes
//! the result to `docs/bench`, which the README shows.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

mod backlog;
mod bridge;
mod bulk;
mod idle;
mod latency;
mod live;
mod pgbench;
mod plot;
mod processor;
mod report;
mod resync;
mod rivals;
mod stage;
mod waiting;
mod writers;

use report::Report;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Rounds of what is compared in turn.
    pub rounds: usize,
    /// Seconds of one pgbench run.
    pub pgbench_seconds: u32,
    /// Schools that are changed by one statement in the live measurement.
    pub live_schools: u32,
    /// Schools of a resync.
    pub resync_schools: u32,
    /// Pending changes, and dead row versions.
    pub backlog: u32,
    /// Roles that wait for what does not come.
    pub waiting: u32,
    /// Roles that wait for schools that are then accepted.
    pub woken: u32,
    /// Single updates whose way is timed.
    pub singles: u32,
    /// Seconds of 200 writes each.
    pub steady_seconds: u32,
    /// Seconds of doing nothing.
    pub idle_seconds: u32,
}

const FULL: Scale = Scale {
    rounds: 3,
    pgbench_seconds: 6,
    live_schools: 200_000,
    resync_schools: 1_000_000,
    backlog: 5_000_000,
    waiting: 1_000_000,
    woken: 100_000,
    singles: 400,
    steady_seconds: 60,
    idle_seconds: 30,
};

const QUICK: Scale = Scale {
    rounds: 1,
    pgbench_seconds: 3,
    live_schools: 40_000,
    resync_schools: 50_000,
    backlog: 200_000,
    waiting: 100_000,
    woken: 20_000,
    singles: 50,
    steady_seconds: 10,
    idle_seconds: 10,
};

/// The measurements by name, in the order of the table.
const ALL: [&str; 11] = [
    "writers", "bulk", "latency", "steady", "live", "coalesce", "resync", "backlog", "waiting",
    "woken", "idle",
];
/// Only when asked for: it needs Node.js and the network.
const RIVALS: &str = "rivals";

#[tokio::main]
async fn main() -> Result<()> {
    let quick = std::env::var("QUICK").is_ok_and(|quick| quick == "1");
    let scale = if quick { QUICK } else { FULL };
    let only = std::env::var("ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = only.iter().find(|name| !ALL.contains(name) && **name != RIVALS) {
        anyhow::bail!(
            "ONLY: there is no measurement {unknown}; there are {}, {RIVALS}",
            ALL.join(", ")
        );
    }
    let began = Instant::now();
    let mut report = Report::new(quick).await?;
    let chosen = |name: &&str| only.contains(name) || only.is_empty() && *name != RIVALS;
    for name in ALL.into_iter().chain([RIVALS]).filter(chosen) {
        let since = Instant::now();
        eprintln!("-- {name}");
        let measured = match name {
            "writers" => writers::measure(scale, &mut report).await,
            "bulk" => bulk::measure(scale, &mut report).await,
            "latency" => latency::single(scale, &mut report).await,
            "steady" => latency::steady(scale, &mut report).await,
            "live" => live::measure(scale, &mut report).await,
            "coalesce" => live::coalesce(&mut report).await,
            "resync" => resync::measure(scale, &mut report).await,
            "backlog" => backlog::measure(scale, &mut report).await,
            "waiting" => waiting::measure(scale, &mut report).await,
            "woken" => waiting::woken(scale, &mut report).await,
            "idle" => idle::measure(scale, &mut report).await,
            _ => rivals::measure(scale, &mut report).await,
        };
        measured.with_context(|| format!("measuring {name}"))?;
        eprintln!("   {:.0} s", since.elapsed().as_secs_f64());
    }
    // What the documents quote is kept with them.
    let blessed = std::env::var("SCHOOLBELL_BLESS").is_ok_and(|bless| bless == "1");
    let folder = if blessed { "docs/bench" } else { "target/bench" };
    report.write(Path::new(folder), began.elapsed())
}
