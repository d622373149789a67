//! `run`: the service.

use anyhow::Result;

use super::Outcome;
use crate::cli::Settings;
use crate::config::Pace;
use crate::parked;
use crate::service::{self, End};

pub async fn run(settings: &Settings, drain: bool) -> Result<Outcome> {
    let mapping = super::mapping(settings)?;
    let config = super::config(settings)?;
    let mut stop = super::stop_signal()?;
    if !config.enabled {
        if drain {
            anyhow::bail!(
                "SALESFORCE_ENABLED is not true, so nothing may be written; changes keep waiting"
            );
        }
        tracing::warn!(
            "disabled: SALESFORCE_ENABLED is not true; changes keep waiting, nothing is lost"
        );
        // Fails only when nobody is left who could stop us.
        _ = stop.wait_for(|stop| *stop).await;
        return Ok(Outcome::Clean);
    }
    let ended = service::run(&config, Pace::default(), &mapping, stop, drain).await;
    let tally = match ended.map_err(super::stopped)? {
        End::Done(tally) => tally,
        End::LeftTo(writer) => {
            tracing::info!(writer, "another process is the writer and applies what is due");
            return Ok(Outcome::Clean);
        }
    };
    tracing::info!(
        changes = tally.changes,
        written = tally.written,
        equal = tally.equal,
        waiting = tally.waiting,
        retrying = tally.retrying,
        dead = tally.dead,
        deleted = tally.deleted,
        kept = tally.kept,
        "stopped; nothing is in hand"
    );
    if !drain {
        return Ok(Outcome::Clean);
    }
    let source = super::source_session(&config.source).await?;
    let parked = parked::counts(&source).await.map_err(super::reason)?;
    Ok(Outcome::attention_if(parked.iter().any(|count| count.state != "waiting")))
}
