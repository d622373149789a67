//! `run`: the service, and its pages.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Exit;
use crate::cli::Settings;
use crate::config::{Config, Pace};
use crate::http::{Address, Site};
use crate::mapping::{self, Mapping};
use crate::metrics::{Metrics, Role};
use crate::outbox::change;
use crate::outbox::parked;
use crate::outbox::resync;
use crate::reports::status;
use crate::service::{self, End};

/// The shortest interval: comparing a large table takes longer than this.
const LEAST_VERIFY_EVERY: Duration = Duration::from_mins(1);

pub async fn run(
    settings: &Settings,
    drain: bool,
    verify_every: Option<&str>,
    http: Option<&str>,
) -> Result<Exit> {
    let pace = Pace { verify_every: verify_every.map(duration).transpose()?, ..Pace::default() };
    let mapping = super::mapping(settings)?;
    let config = super::config(settings)?;
    let stop = super::stop_signal()?;
    let mapping = reloaded(settings, mapping)?;
    let metrics = Arc::default();
    // A drain ends by itself and needs no page.
    let address = if drain { Address::Off } else { Address::parse(http) };
    let site = open(&address, &config, &mapping, &metrics, &stop).await?;
    let ended = match config.enabled {
        true => work(&config, pace, mapping, stop, drain, &metrics).await,
        false => stay_disabled(stop, drain, &metrics).await,
    };
    if let Some(site) = site {
        site.close().await;
    }
    ended
}

async fn open(
    address: &Address,
    config: &Config,
    mapping: &watch::Receiver<Arc<Mapping>>,
    metrics: &Arc<Metrics>,
    stop: &watch::Receiver<bool>,
) -> Result<Option<Site>> {
    let Some(listening) = address.listen().await? else { return Ok(None) };
    let (pace, metrics) = (Pace::default(), metrics.clone());
    let site = Site::open(listening, config, mapping.clone(), pace, metrics, stop.clone())?;
    tracing::info!("status page and metrics at http://{}/", site.address);
    Ok(Some(site))
}

/// The mapping, read again at each SIGHUP; a file that cannot be used changes nothing.
fn reloaded(settings: &Settings, mapping: Mapping) -> Result<watch::Receiver<Arc<Mapping>>> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    let (wanted, mappings) = watch::channel(Arc::new(mapping));
    let settings = settings.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match Mapping::load(settings.mapping.as_deref()) {
                Ok(mapping) => {
                    let (file, objects) = (mapping.file.clone(), mapping.objects.len());
                    tracing::info!(file, objects, "the mapping was read again");
                    wanted.send_replace(Arc::new(mapping));
                }
                Err(unusable) => {
                    for finding in &unusable.findings {
                        let finding = finding.in_file(&unusable.file);
                        tracing::warn!("{finding}; the mapping from before stays in use");
                    }
                }
            }
        }
    });
    Ok(mappings)
}

async fn stay_disabled(
    mut stop: watch::Receiver<bool>,
    drain: bool,
    metrics: &Metrics,
) -> Result<Exit> {
    if drain {
        bail!("SALESFORCE_ENABLED is not true, so nothing may be written; changes keep waiting");
    }
    metrics.stands(Role::Disabled, None);
    tracing::warn!(
        "disabled: SALESFORCE_ENABLED is not true; changes keep waiting, nothing is lost"
    );
    // Fails only when the sender is gone; then we stop as well.
    _ = stop.wait_for(|stop| *stop).await;
    Ok(Exit::Clean)
}

async fn work(
    config: &Config,
    pace: Pace,
    mapping: watch::Receiver<Arc<Mapping>>,
    stop: watch::Receiver<bool>,
    drain: bool,
    metrics: &Arc<Metrics>,
) -> Result<Exit> {
    // If the source cannot be reached, the service itself reports that.
    let began = if drain { source_clock(config).await.ok() } else { None };
    let ended = service::run_with(config, pace, mapping, stop, drain, metrics).await;
    let tally = match ended.map_err(super::stopped(config))? {
        End::Done(tally) => tally,
        End::LeftTo(writer) => {
            tracing::info!(writer, "another process is the writer and applies the changes");
            return left_over(config).await;
        }
        End::Blocked(stranger) => {
            tracing::warn!("{}", service::blocked(&stranger));
            return left_over(config).await;
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
        "stopped; every batch is finished"
    );
    match drain {
        true => drained(config, began).await,
        false => Ok(Exit::Clean),
    }
}

/// Whether everything that was there when the drain began was dealt with. Logs what is left.
async fn drained(config: &Config, began: Option<Timestamp>) -> Result<Exit> {
    let source = super::source_session(&config.source).await?;
    let pending = change::pending(&source).await.map_err(super::reason)?;
    let left = began.zip(pending.oldest).is_some_and(|(began, oldest)| oldest < began);
    if left {
        let changes = status::counted(pending.changes, "change");
        tracing::warn!("{changes} left: this mapping does not read their tables");
    }
    let resyncs = resync::reports(&source, None).await.map_err(super::reason)?;
    for resync in &resyncs {
        let (resync, object, state) = (resync.id, &resync.object, resync.standing());
        tracing::warn!(resync, object, state, "a resync is left: it cannot continue now");
    }
    let parked = parked::counts(&source).await.map_err(super::reason)?;
    let refused = parked.iter().any(|count| count.state != "waiting");
    Ok(Exit::attention_if(left || !resyncs.is_empty() || refused))
}

/// The source's clock, by which changes are stamped.
async fn source_clock(config: &Config) -> Result<Timestamp> {
    let source = super::source_session(&config.source).await?;
    let row = source.row("select pg_catalog.clock_timestamp()", &[]).await;
    Ok(row.map_err(super::reason)?.get(0))
}

/// Whether anything is left for the process that was not drained by this one.
async fn left_over(config: &Config) -> Result<Exit> {
    let source = super::source_session(&config.source).await?;
    let pending = change::pending(&source).await.map_err(super::reason)?;
    if pending.changes > 0 {
        let left = status::counted(pending.changes, "change");
        tracing::warn!("{left} not applied yet; another process will apply them");
    }
    Ok(Exit::attention_if(pending.changes > 0))
}

/// How often, for `--verify-every`.
fn duration(text: &str) -> Result<Duration> {
    match mapping::duration(text) {
        Some(duration) if duration >= LEAST_VERIFY_EVERY => Ok(duration),
        Some(_) => bail!("--verify-every {text} is too often; at least a minute"),
        None => bail!("--verify-every {text:?} is no duration; use 30m, 1h or 1d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_is_a_minute_at_least() {
        assert_eq!(duration("1h").unwrap(), Duration::from_hours(1));
        assert_eq!(duration("1d 30m").unwrap(), Duration::from_mins(24 * 60 + 30));
        for text in ["59s", "-1h", "1h ago", "5", "", "1mo", "often"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
