//! Starts, supervises and stops the work: connects, becomes the writer, reconnects, one stop signal for all.
//!
//! Promise: a database that goes away is an ordinary event; a setting that cannot work is said at the start,
//! once; every task that is started is ended before this returns.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::apply::{self, Statements};
use crate::backoff::Backoff;
use crate::bell::{self, Heard, Wishes};
use crate::capture::{self, NotifyMode};
use crate::config::{Config, Pace, Unusable};
use crate::db::{Database, Direct, Pool, Session};
use crate::deadline::unless_silent;
use crate::failure::{self, Failure};
use crate::mapping::Mapping;
use crate::metrics::{Metrics, Role};
use crate::parked::{self, Awaited};
use crate::plan::{self, Route, Unplannable};
use crate::schema;
use crate::supported;
use crate::verify;
use crate::worker::{self, Lane, Tally, Tools, Worker};
use crate::writer;

/// One to acknowledge, one for sweeps and one for the brake; the reader has a session of its own.
const SOURCE_POOL: usize = 3;
/// Sessions on the target that only read; the writing one is not among them.
const TARGET_POOL: usize = 2;
/// Work that lasts this long after an interruption is said to go on.
const SETTLED: Duration = Duration::from_secs(2);
/// An interruption may change its reason (refused, starting up, a standby); so many are told, each once.
const REASONS_TOLD: usize = 5;
/// Distinct parents that one sweep asks for. The look at the target takes about 1 µs each.
const SWEEP_PARENTS: i32 = 10_000;

/// Why the service could not start, or cannot go on.
#[derive(Debug)]
pub enum Fatal {
    /// A setting is wrong.
    Setting(Unusable),
    /// The schema is missing, older, or newer: the remedy.
    Schema(String),
    /// The mapping does not fit the databases.
    Plan(Unplannable),
    /// A database could not be reached at the start.
    Unreachable {
        /// Which one, and where.
        database: String,
        /// Why.
        reason: String,
    },
    /// A server lacks what the program needs.
    TooOld {
        /// Which one, and where.
        database: String,
        /// Its version, and which ones will do.
        reason: String,
    },
    /// A pooler stands in front of the target, where the writer's lock needs a session.
    PooledTarget {
        /// Which database, and where.
        database: String,
    },
    /// A database refuses something that a drain cannot do without; a service would wait until it is mended.
    Refused(Failure),
    /// A task of ours ended, which none may do by itself.
    TaskEnded(String),
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(unusable) => unusable.fmt(f),
            Self::Schema(remedy) => f.write_str(remedy),
            Self::Plan(unplannable) => unplannable.fmt(f),
            Self::Unreachable { database, reason } | Self::TooOld { database, reason } => {
                write!(f, "cannot use {database}: {reason}")
            }
            Self::PooledTarget { database } => write!(
                f,
                "cannot write to {database} through a pooler: the writer's lock belongs to a session; give it a direct \
                 connection in SALESFORCE_CONNECT_URL or --target-url"
            ),
            Self::Refused(failure) => write!(f, "cannot go on: {failure}"),
            Self::TaskEnded(what) => write!(f, "internal: {what}; please report this"),
        }
    }
}

impl std::error::Error for Fatal {}

impl From<Unusable> for Fatal {
    fn from(unusable: Unusable) -> Self {
        Self::Setting(unusable)
    }
}

/// How the service ended when it was told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Nothing is in hand; what was done since the last interruption.
    Done(Tally),
    /// Draining was left to the process that is the writer already.
    LeftTo(String),
}

/// What the writer's lock said.
enum Lock {
    /// Ours, after another process had it (`waited`) or at once.
    Ours { waited: bool },
    /// Told to stop before it was free.
    Nobody,
    /// Draining is the work of this other process.
    LeftTo(String),
}

/// Both databases, checked against the mapping.
pub struct Ground {
    /// The source, for listening.
    pub source: Database,
    /// The target.
    pub target: Database,
    /// The objects with their statements, parents first.
    pub lanes: Arc<Vec<Lane>>,
    /// When the installed triggers ring.
    pub mode: NotifyMode,
    /// A pooler stands in front of the source: no notice is heard through it.
    pub pooled: bool,
    /// What does not hinder the work, but somebody should know.
    pub advice: Vec<String>,
}

impl Ground {
    /// Connects to both databases and checks schema, mapping and triggers.
    pub async fn check(config: &Config, mapping: &Mapping) -> Result<Self, Fatal> {
        let source = Database::new(config.source.clone(), "service")?;
        let target = Database::new(config.target.clone(), "service")?;
        let source_name = format!("the source database ({})", config.source);
        let target_name = format!("the target database ({})", config.target);
        let source_session = primary(&source, &source_name).await?;
        let version = schema::version(&source_session)
            .await
            .map_err(|error| unreachable(&source_name, &error))?;
        if let Some(remedy) = version.refusal() {
            return Err(Fatal::Schema(remedy));
        }
        let target_session = primary(&target, &target_name).await?;
        if target_session.is_pooled() {
            return Err(Fatal::PooledTarget { database: target_name });
        }
        let source_side = plan::source_side(&source_session, mapping).await.map_err(Fatal::Plan)?;
        let (routes, findings) =
            plan::routes(&source_side, &source_session, &target_session, mapping)
                .await
                .map_err(Fatal::Plan)?;
        let mut advice: Vec<String> = findings.iter().map(ToString::to_string).collect();
        let mode = installed_mode(&source_session)
            .await
            .map_err(|error| unreachable(&source_name, &error))?
            .unwrap_or(NotifyMode::Doorbell);
        let wanted = capture::render(&source_side.captures, mode);
        let deviations = capture::deviations(&source_session, &wanted)
            .await
            .map_err(|error| unreachable(&source_name, &error))?;
        advice.extend(deviations.iter().map(|deviation| {
            format!("{deviation}: changes may be missed; run `schoolbell migrate`")
        }));
        let lanes = Arc::new(routes.into_iter().map(Lane::new).collect());
        let pooled = source_session.is_pooled();
        Ok(Self { source, target, lanes, mode, pooled, advice })
    }

    /// The routes, parents first.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.lanes.iter().map(|lane| &lane.route)
    }
}

/// When the installed triggers ring; none before the first `migrate`.
pub async fn installed_mode(source: &Session) -> Result<Option<NotifyMode>, tokio_postgres::Error> {
    let there: bool = source
        .row("select pg_catalog.to_regproc('schoolbell.notify_mode') is not null", &[])
        .await?
        .get(0);
    if !there {
        return Ok(None);
    }
    let mode: String = source.row("select schoolbell.notify_mode()", &[]).await?.get(0);
    Ok(NotifyMode::parse(&mode))
}

/// Opens a session on a server that can be written; after a failover the old address may be a standby.
async fn primary(database: &Database, name: &str) -> Result<Session, Fatal> {
    let session = database.session().await.map_err(|failure| Fatal::Unreachable {
        database: name.into(),
        reason: failure.to_string(),
    })?;
    let in_recovery = session
        .row("select pg_catalog.pg_is_in_recovery()", &[])
        .await
        .map_err(|error| unreachable(name, &error))?;
    if in_recovery.get(0) {
        return Err(Fatal::Unreachable {
            database: name.into(),
            reason: "it is a standby in recovery; the URL must lead to the primary".into(),
        });
    }
    match supported::refusal(&session).await.map_err(|error| unreachable(name, &error))? {
        Some(reason) => Err(Fatal::TooOld { database: name.into(), reason }),
        None => Ok(session),
    }
}

fn unreachable(name: &str, error: &tokio_postgres::Error) -> Fatal {
    Fatal::Unreachable { database: name.into(), reason: failure::chain(error) }
}

/// Why an attempt to work ended by itself.
enum Ended {
    /// A connection failed, or something that passes: try again.
    Interrupted(String),
    /// A step failed.
    Failed(Failure),
    /// Trying again would not help.
    Fatal(Fatal),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Runs the service until `stop` says so; with `drain`, until nothing is due.
pub async fn run(
    config: &Config,
    pace: Pace,
    mapping: &Mapping,
    mut stop: watch::Receiver<bool>,
    drain: bool,
    metrics: &Arc<Metrics>,
) -> Result<End, Fatal> {
    let told_of_pooler = AtomicBool::new(false);
    let service = Service { config, mapping, pace, drain, metrics, told_of_pooler };
    let mut ground = tokio::select! {
        ground = service.check() => Some(ground?),
        () = worker::told_to_stop(&mut stop) => None,
    };
    for advice in ground.iter().flat_map(|ground| &ground.advice) {
        tracing::warn!("{advice}");
    }
    let mut backoff = Backoff::default();
    let mut told = HashSet::new();
    while !*stop.borrow() {
        let began = Instant::now();
        let resumed = !backoff.is_fresh();
        let ended = service.attempt(ground.take(), resumed, &mut stop).await;
        metrics.at_rest();
        let reason = match ended {
            Ok(end) => return Ok(end),
            Err(Ended::Fatal(fatal)) => return Err(fatal),
            // Whoever drains waits for it to end.
            Err(Ended::Failed(failure)) if drain && failure.needs_a_human() => {
                return Err(Fatal::Refused(failure));
            }
            Err(Ended::Failed(failure)) => failure.to_string(),
            Err(Ended::Interrupted(reason)) => reason,
        };
        // What worked for a while is interrupted anew, to be told and to be tried again soon; what fails
        // at once is still the old interruption.
        if began.elapsed() > Backoff::LONGEST {
            backoff.reset();
        }
        metrics.stands(Role::Interrupted, Some(reason.clone()));
        if backoff.is_fresh() {
            metrics.interruptions.inc();
            tracing::warn!(reason, "interrupted; nothing is lost, trying to go on");
            told = HashSet::from([reason]);
        } else if told.len() < REASONS_TOLD && told.insert(reason.clone()) {
            tracing::info!(reason, "waiting, for another reason now");
        } else {
            tracing::debug!(reason, "still interrupted");
        }
        tokio::select! {
            () = backoff.pause() => {}
            () = worker::told_to_stop(&mut stop) => {}
        }
    }
    Ok(End::Done(Tally::default()))
}

/// What stays the same from attempt to attempt.
struct Service<'a> {
    config: &'a Config,
    mapping: &'a Mapping,
    pace: Pace,
    drain: bool,
    metrics: &'a Arc<Metrics>,
    /// Once is enough, however often the work is interrupted.
    told_of_pooler: AtomicBool,
}

impl Service<'_> {
    /// Becomes the writer and works until told to stop, or until something fails. `ground` was just checked.
    async fn attempt(
        &self,
        ground: Option<Ground>,
        resumed: bool,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<End, Ended> {
        let ground = match ground {
            Some(ground) => ground,
            None => self.check_again().await?,
        };
        let session = ground.target.session().await?.direct()?;
        let ground = match self.become_writer(&session, resumed, stop).await? {
            Lock::Ours { waited: false } => ground,
            // Much may have changed while another process was the writer.
            Lock::Ours { waited: true } => self.check_again().await?,
            Lock::Nobody => return Ok(End::Done(Tally::default())),
            Lock::LeftTo(process) => return Ok(End::LeftTo(process)),
        };
        let names: Vec<&str> = ground.routes().map(|route| route.object.name.as_str()).collect();
        let (objects, notify) = (names.join(", "), ground.mode);
        if !resumed {
            self.metrics.stands(Role::Writer, None);
            tracing::info!(objects, %notify, "working as the writer");
        }
        let settle = async {
            // Told when it lasts: an interruption that comes back at once would be told with every attempt.
            tokio::time::sleep(SETTLED).await;
            if resumed {
                self.metrics.stands(Role::Writer, None);
                tracing::info!(objects, %notify, "going on as the writer");
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = Box::pin(self.work(ground, session, stop)) => ended,
            never = settle => never,
        }
    }

    /// Waits for the writer's lock; when draining, waits for no other process.
    async fn become_writer(
        &self,
        session: &Direct,
        resumed: bool,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Lock, Failure> {
        let (mut told, silence) = (false, self.pace.longest_silence());
        while !*stop.borrow() {
            if unless_silent(silence, async { Ok(writer::take(session).await?) }).await? {
                return Ok(Lock::Ours { waited: told });
            }
            if !told {
                let holder = async { Ok(writer::holder(session).await?) };
                let holder = unless_silent(silence, holder).await?;
                let process = holder.and_then(|holder| holder.process).unwrap_or_default();
                if resumed && process == writer::process() {
                    tracing::info!(
                        "our lost session is still the writer until the target lets it go"
                    );
                } else if self.drain {
                    return Ok(Lock::LeftTo(process));
                } else {
                    self.metrics.stands(Role::Standby, None);
                    tracing::info!(writer = process, "another process is the writer; standing by");
                }
                told = true;
            }
            tokio::select! {
                () = tokio::time::sleep(self.pace.standby) => {}
                () = worker::told_to_stop(stop) => {}
            }
        }
        Ok(Lock::Nobody)
    }

    /// After an interruption a setting that does not work (any more) is waited for, too.
    async fn check_again(&self) -> Result<Ground, Ended> {
        self.check().await.map_err(|fatal| Ended::Interrupted(fatal.to_string()))
    }

    async fn check(&self) -> Result<Ground, Fatal> {
        let check = async { Ok(Ground::check(self.config, self.mapping).await) };
        let checked = unless_silent(self.pace.longest_silence(), check).await;
        let mut ground = checked.unwrap_or_else(|failure| {
            let database = "the source or the target database".into();
            Err(Fatal::Unreachable { database, reason: failure.to_string() })
        })?;
        ground.source.limit_statements(self.pace.statement_timeout);
        ground.target.limit_statements(self.pace.statement_timeout);
        Ok(ground)
    }

    fn tell_of_pooler(&self) {
        if self.drain || self.told_of_pooler.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(
            "a pooler stands in front of the source, so no notice can be heard; polling every {} ms instead. A direct \
             connection in DATABASE_URL means less delay",
            self.pace.quiet_poll.as_millis()
        );
    }

    /// Starts the tasks around the worker, and ends them with it.
    async fn work(
        &self,
        ground: Ground,
        session: Direct,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<End, Ended> {
        let source = ground.source.pool(SOURCE_POOL);
        let target = ground.target.pool(TARGET_POOL);
        let rings = ground.mode != NotifyMode::Never && !ground.pooled && !self.drain;
        if ground.pooled {
            self.tell_of_pooler();
        }
        let may_copy = apply::may_copy(&session).await?;
        let session = Arc::new(Mutex::new(session));
        let (heard_sender, heard) = watch::channel(Heard::default());
        let (wish, wishes) = watch::channel(Wishes::default());
        let mut worker = Worker::new(Tools {
            lanes: ground.lanes.clone(),
            reader: ground.source.session().await?,
            source: source.clone(),
            target: target.clone(),
            session: session.clone(),
            may_copy,
            heard,
            wish,
            rings,
            pace: self.pace.clone(),
            metrics: self.metrics.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async { Some(writer::stay(session).await) });
        if self.drain {
            let sweep = sweep(&ground.lanes, &source, &target);
            unless_silent(self.pace.longest_silence(), sweep).await?;
        } else {
            let (pace, heard) = (self.pace.clone(), heard_sender.clone());
            if let Some(every) = pace.verify_every {
                let (source, target) = (ground.source.clone(), ground.target.clone());
                let verifying = verify::keep_verifying(source, target, ground.lanes.clone(), every);
                tasks.spawn(verifying.map(|()| None));
            }
            if rings {
                let listening = bell::listen(
                    ground.source,
                    source.clone(),
                    wishes,
                    heard_sender,
                    self.metrics.clone(),
                );
                tasks.spawn(listening.map(|()| None));
            }
            tasks.spawn(keep_sweeping(ground.lanes, source, target, pace, heard).map(|()| None));
        }
        let ended = tokio::select! {
            ended = worker.work(stop, self.drain) => ended.map(End::Done).map_err(Ended::from),
            Some(task) = tasks.join_next() => Err(match task {
                Ok(Some(failure)) => failure.into(),
                task => {
                    let what = format!("a task that should run for ever ended ({task:?})");
                    Ended::Fatal(Fatal::TaskEnded(what))
                }
            })
        };
        tasks.shutdown().await;
        ended
    }
}

/// Looks at what parked keys wait for, again and again, and rings when some of it has arrived.
async fn keep_sweeping(
    lanes: Arc<Vec<Lane>>,
    source: Pool,
    target: Pool,
    pace: Pace,
    heard: watch::Sender<Heard>,
) {
    let mut hindered = false;
    let mut queue_is_filling = false;
    let silence = pace.longest_silence();
    loop {
        match unless_silent(silence, sweep(&lanes, &source, &target)).await {
            Ok(woken) => {
                hindered = false;
                if woken > 0 {
                    tracing::debug!(woken, "parents have arrived");
                    heard.send_modify(|heard| heard.rings += 1);
                }
            }
            Err(failure) => {
                // A connection that has stalled looks alive to the pool, which would hand it out again.
                if let Failure::Reconnect(_) = failure {
                    source.forget();
                    target.forget();
                }
                if !hindered {
                    hindered = true;
                    tracing::warn!(reason = %failure, "what waits for parents cannot be looked at; trying again");
                }
            }
        }
        match unless_silent(silence, queue_usage(&source)).await {
            Ok(usage) => tell_queue(usage, pace.queue_warning, &mut queue_is_filling),
            // The next sweep meets the same trouble and says so.
            Err(_) => source.forget(),
        }
        tokio::time::sleep(pace.wait_sweep).await;
    }
}

async fn queue_usage(source: &Pool) -> Result<f64, Failure> {
    bell::queue_usage(&source.get().await?).await
}

/// Says when the notification queue fills up, and when it is well again. A session that listens, ours or
/// another's, and stays in a transaction keeps the queue from being emptied.
fn tell_queue(usage: f64, warning: f64, is_filling: &mut bool) {
    let fills = usage > warning;
    if fills && !*is_filling {
        tracing::warn!(
            usage,
            "the source's notification queue is filling up; when it is full, writers that notify fail. Find the \
             session that listens in an open transaction: select * from pg_stat_activity where state like 'idle in%'"
        );
    } else if *is_filling && !fills {
        tracing::info!(usage, "the source's notification queue is emptying again");
    }
    *is_filling = fills;
}

/// One round through everything that is waited for; returns how many keys became due.
async fn sweep(lanes: &[Lane], source: &Pool, target: &Pool) -> Result<u64, Failure> {
    let statements: Vec<&Statements> = lanes.iter().map(|lane| &lane.statements).collect();
    let source = source.get().await?;
    let mut after = Awaited::default();
    let mut woken = 0;
    loop {
        let page = parked::awaited(&source, &mut after, SWEEP_PARENTS).await?;
        if !page.is_empty() {
            let target = target.direct().await?;
            for (awaits, keys) in &page {
                let arrived = apply::arrived_keys(&target, &statements, awaits, keys).await?;
                if !arrived.is_empty() {
                    woken += parked::wake(&source, awaits, &arrived).await?;
                }
            }
        }
        if after == Awaited::default() {
            return Ok(woken);
        }
    }
}
