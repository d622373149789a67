//! Looks at both databases now and then, for the page, the metrics and the readiness, and remembers an hour.
//!
//! Promise: it reads and never writes; two sessions on the source and one on the target, one look
//! at a time, and a long rest after a long look. Every request gets the last look: no request of a
//! stranger reaches a database.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use crate::config::{Config, Pace};
use crate::mapping::Mapping;
use crate::metrics::Metrics;
use crate::outbox::parked::{self, Reasons};
use crate::postgres::db::{Database, Evaluator, Session};
use crate::postgres::deadline::unless_silent;
use crate::postgres::failure::Failure;
use crate::postgres::url::UnusableSetting;
use crate::reports::heroku_connect::{self, Mirror};
use crate::reports::status::{self, Status};

/// A look rests this many times as long as it took. Counting ten million pending changes takes seconds; so it costs the
/// database a twentieth of one core at most, and the numbers stay exact.
const REST: u32 = 20;
/// The look at Heroku Connect's tables reads each of them once, and may rest longer: it shows what takes minutes anyway.
const LONG_REST: u32 = 100;
/// A look that takes longer is given up; the tables would have to hold a hundred million rows of
/// ours.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How much longer its answer may take on the way.
const ANSWER_GRACE: Duration = Duration::from_secs(15);
/// This long after its time the next look is overdue, and the last one is old.
const OVERDUE: SignedDuration = SignedDuration::from_secs(15);
/// How much is remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);
/// A moment of the memory lasts this long: an hour is 360 of them.
const MOMENT: SignedDuration = SignedDuration::from_secs(10);
/// This many groups of parked keys are reported.
const REASONS: i64 = 20;
/// On a session of our own the server itself sees to it that nothing is written.
const READ_ONLY: &str = "set default_transaction_read_only = on";

/// What a look saw.
#[derive(Debug)]
pub struct Look {
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// The report.
    pub status: Status,
    /// What is parked, by reason.
    pub reasons: Reasons,
    /// When Salesforce's side was last read, which happens less often.
    pub salesforce_at: Option<Timestamp>,
}

/// Why nothing can be seen.
#[derive(Debug, Clone)]
pub struct Blind {
    /// Since when.
    pub since: Timestamp,
    /// Why, in the words of the last attempt.
    pub reason: String,
}

/// A moment of the last hour.
#[derive(Debug, Clone)]
pub struct Moment {
    /// When it began.
    pub at: Timestamp,
    /// When it ended, as far as it has.
    pub until: Timestamp,
    /// The greatest lag in it; none while nothing could be seen.
    pub lag_seconds: Option<f64>,
    /// Changes that this process had acknowledged before.
    pub acknowledged_before: u64,
    /// The same at its end.
    pub acknowledged: u64,
    /// Changes that were pending at its end, where that was seen.
    pub pending: Option<i64>,
}

/// All looks so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The last look that reached the source.
    pub last: Option<Arc<Look>>,
    /// The source could not be looked at since.
    pub blind: Option<Blind>,
    /// When the next look ends at the latest.
    next_by: Option<Timestamp>,
    /// The last hour, oldest first.
    pub history: VecDeque<Moment>,
}

/// What is known of the databases at a moment.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    /// The last look is as good as new.
    Fresh(&'a Look),
    /// The last look, and why there is none since.
    Old(Option<&'a Look>, &'a str),
}

impl Seen {
    /// What is known at this moment: an old look is never shown as a fresh one.
    pub fn at(&self, now: Timestamp) -> View<'_> {
        let last = self.last.as_deref();
        let overdue = self.next_by.is_some_and(|by| now > by);
        match (last, &self.blind) {
            (_, Some(blind)) => View::Old(last, &blind.reason),
            (Some(_), None) if overdue => {
                View::Old(last, "the next look at the databases is overdue")
            }
            (Some(look), None) => View::Fresh(look),
            (None, None) => View::Old(None, "the databases were not looked at yet"),
        }
    }

    fn remember(&mut self, now: Timestamp, acknowledged: u64) {
        let status = match &self.blind {
            None => self.last.as_deref().map(|look| &look.status),
            Some(_) => None,
        };
        let lag = status.map(|status| status.lag_seconds);
        let pending = status.map(|status| status.pending_changes);
        match self.history.back_mut() {
            Some(moment) if now.duration_since(moment.at) <= MOMENT => {
                moment.lag_seconds = moment.lag_seconds.into_iter().chain(lag).reduce(f64::max);
                (moment.acknowledged, moment.pending, moment.until) = (acknowledged, pending, now);
            }
            last => {
                // A moment begins where the one before ended, so that none is left out.
                let (at, before) = last.map_or((now, acknowledged), |m| (m.until, m.acknowledged));
                self.history.push_back(Moment {
                    at,
                    until: now,
                    lag_seconds: lag,
                    acknowledged_before: before,
                    acknowledged,
                    pending,
                });
            }
        }
        while self.history.front().is_some_and(|first| now.duration_since(first.at) > REMEMBERED) {
            self.history.pop_front();
        }
    }
}

/// Where the looks can be seen.
#[derive(Debug, Clone)]
pub struct Window {
    seen: watch::Receiver<Arc<Seen>>,
    asked: Arc<Notify>,
}

impl Window {
    /// What was seen so far. That somebody asks makes the next look come sooner, not at once.
    pub fn seen(&self) -> Arc<Seen> {
        self.asked.notify_one();
        self.seen.borrow().clone()
    }
}

/// Looks repeatedly.
pub struct Watcher {
    source: LookSide,
    target: LookSide,
    mapping: watch::Receiver<Arc<Mapping>>,
    enabled: bool,
    pace: Pace,
    metrics: Arc<Metrics>,
    seen: watch::Sender<Arc<Seen>>,
    asked: Arc<Notify>,
    mirrors: Vec<Mirror>,
    mirrors_at: Option<Timestamp>,
    /// Not before this moment is Salesforce's side looked at again.
    mirrors_due: Instant,
}

/// A database, and the session on it that is kept as long as it works.
struct LookSide {
    database: Database,
    session: Option<Session>,
    /// For what the mapping says; on the source alone.
    evaluator: Option<Evaluator>,
}

impl LookSide {
    fn new(database: Database) -> Self {
        Self { database, session: None, evaluator: None }
    }

    fn forget(&mut self) {
        (self.session, self.evaluator) = (None, None);
    }

    async fn evaluate(&mut self) -> Result<(), Failure> {
        if self.evaluator.is_none() {
            self.evaluator = Some(self.database.evaluator().await?);
        }
        Ok(())
    }

    /// Opens a session where there is none.
    async fn reach(&mut self) -> Result<(), Failure> {
        if self.session.is_some() {
            return Ok(());
        }
        let session = self.database.session().await?;
        // A pooler would leave it behind in a session that it lends to the application next.
        if !session.is_pooled() {
            session.execute(READ_ONLY, &[]).await?;
        }
        self.session = Some(session);
        Ok(())
    }
}

impl Watcher {
    /// Connects to nothing before [`Watcher::watch`].
    pub fn new(
        config: &Config,
        mapping: watch::Receiver<Arc<Mapping>>,
        pace: Pace,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Window), UnusableSetting> {
        let (sender, seen) = watch::channel(Arc::default());
        let asked = Arc::new(Notify::new());
        let side = |url: &crate::postgres::url::DatabaseUrl| {
            let mut database = Database::new(url.clone(), "page")?;
            database.limit_statements(STATEMENT_TIMEOUT);
            Ok::<_, UnusableSetting>(LookSide::new(database))
        };
        let watcher = Self {
            source: side(&config.source)?,
            target: side(&config.target)?,
            mapping,
            enabled: config.enabled,
            pace,
            metrics,
            seen: sender,
            asked: asked.clone(),
            mirrors: Vec::new(),
            mirrors_at: None,
            mirrors_due: Instant::now(),
        };
        Ok((watcher, Window { seen, asked }))
    }

    /// Looks until it is dropped. It keeps no state from before, so it can be restarted after a bug
    /// of ours.
    pub async fn watch(&mut self) {
        self.forget();
        loop {
            let silence = STATEMENT_TIMEOUT + ANSWER_GRACE;
            let looked = unless_silent(silence, self.look()).await;
            let rest = match &looked {
                Ok(look) => look.took * REST,
                // A connection that is refused costs the server nothing. What it refuses later has cost it something.
                Err(Failure::Reconnect(_)) => Duration::ZERO,
                Err(_) => STATEMENT_TIMEOUT,
            };
            if looked.is_err() {
                self.forget();
            }
            let least = rest.max(self.pace.look_watched);
            let next = least.max(self.pace.look);
            let reached = looked.is_ok();
            self.publish(looked, next);
            if reached && Instant::now() >= self.mirrors_due {
                if unless_silent(silence, self.look_behind()).await.is_err() {
                    self.forget();
                }
                self.publish_mirrors(next);
            }
            sleep(least).await;
            tokio::select! {
                () = sleep(self.pace.look.saturating_sub(least)) => {}
                () = self.asked.notified() => {}
            }
        }
    }

    fn forget(&mut self) {
        self.source.forget();
        self.target.forget();
    }

    async fn look(&mut self) -> Result<Look, Failure> {
        let (source, target) = tokio::join!(self.source.reach(), self.target.reach());
        source?;
        self.source.evaluate().await?;
        let target = target.map_err(|failure| failure.to_string());
        let (at, began) = (Timestamp::now(), Instant::now());
        let source = self.source.session.as_ref().expect("it was reached");
        let evaluator = self.source.evaluator.as_ref().expect("it was reached, too");
        let reached = match (&self.target.session, &target) {
            (Some(session), _) => Ok(session),
            (None, Err(problem)) => Err(problem.as_str()),
            (None, Ok(())) => Err("it is not connected"),
        };
        let mapping = self.mapping.borrow().clone();
        let mut status =
            status::collect((source, evaluator), reached, &mapping, self.enabled).await?;
        let reasons: OptionFuture<_> =
            (!status.parked.is_empty()).then(|| parked::reasons(source, REASONS)).into();
        let reasons = reasons.await.transpose()?.unwrap_or_default();
        if status.target_problem.is_some() {
            self.target.session = None;
        }
        status.salesforce.clone_from(&self.mirrors);
        Ok(Look { at, took: began.elapsed(), status, reasons, salesforce_at: self.mirrors_at })
    }

    /// What Heroku Connect and Salesforce have made of the rows.
    async fn look_behind(&mut self) -> Result<(), Failure> {
        let (Some(source), Some(target)) = (&self.source.session, &self.target.session) else {
            return Ok(());
        };
        let (at, began) = (Timestamp::now(), Instant::now());
        let mapping = self.mapping.borrow().clone();
        self.mirrors = heroku_connect::collect(source, target, &mapping).await;
        self.mirrors_at = Some(at);
        self.mirrors_due = Instant::now() + (began.elapsed() * LONG_REST).max(self.pace.look);
        // Salesforce's own words may quote the row.
        for failed in self.mirrors.iter_mut().flat_map(|mirror| &mut mirror.failed) {
            failed.error = None;
        }
        Ok(())
    }

    /// The last look, with the last known state of Salesforce's side.
    fn publish_mirrors(&self, next: Duration) {
        let Some(last) = self.seen.borrow().last.clone() else { return };
        let mut status = last.status.clone();
        status.salesforce.clone_from(&self.mirrors);
        let (at, took, reasons) = (last.at, last.took, last.reasons.clone());
        let look = Look { at, took, status, reasons, salesforce_at: self.mirrors_at };
        self.publish(Ok(look), next);
    }

    fn publish(&self, looked: Result<Look, Failure>, next: Duration) {
        let now = Timestamp::now();
        let mut seen = Seen::clone(&self.seen.borrow());
        match looked {
            Ok(look) => (seen.last, seen.blind) = (Some(Arc::new(look)), None),
            Err(failure) => {
                let since = seen.blind.map_or(now, |blind| blind.since);
                seen.blind = Some(Blind { since, reason: failure.to_string() });
            }
        }
        let next = SignedDuration::try_from(next).unwrap_or(REMEMBERED);
        seen.next_by = Some(now + next + OVERDUE);
        seen.remember(now, self.metrics.acknowledged_changes.get());
        self.seen.send_replace(Arc::new(seen));
    }
}
