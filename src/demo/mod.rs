//! `schoolbell demo`: the whole thing on a throw-away Postgres of its own.
//!
//! Promise: it touches none of your databases, and leaves nothing behind, however it ends. The
//! commands it shows are run as a user would run them, by the program itself (`bridge`). The tests
//! use two of its parts, the [`cluster`] and the [`stand_in`] for Heroku Connect.

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

mod bridge;
mod check;
pub mod cluster;
mod programs;
mod school_data;
mod stage;
pub mod stand_in;
mod story;
mod watchdog;

/// What the demo is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoOptions {
    /// How many schools the application has at the start, with two roles each
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub schools: u32,
    /// Keep it running at the end, to try it with psql, until Ctrl-C
    #[arg(long)]
    pub stay: bool,
}

/// Tells the story from start to end; true when every row was right.
pub async fn run(options: DemoOptions) -> Result<bool> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let asked_to_end = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(asked_to_end);

    // A story that is dropped in the middle takes its service and its server with it.
    let mut told = tokio::select! {
        told = story::tell(&options) => told?,
        () = &mut asked_to_end => bail!("interrupted; everything was cleaned up"),
    };
    if options.stay {
        told.stay(asked_to_end).await?;
    }
    told.end().await
}
