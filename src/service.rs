//! Starts, supervises and stops the work: connects, becomes the writer, reconnects, one stop signal for all.
//!
//! Promise: a database that goes away is an ordinary event; a setting that cannot work is said at the start,
//! once; every task that is started is ended before this returns.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::apply::{self, Statements};
use crate::backoff::Backoff;
use crate::bell::{self, Heard};
use crate::capture::{self, NotifyMode};
use crate::config::{Config, Pace, Unusable};
use crate::db::{Database, Session};
use crate::failure::{self, Failure};
use crate::mapping::Mapping;
use crate::parked::{self, Awaited};
use crate::plan::{self, Route, Unplannable};
use crate::schema;
use crate::worker::{self, Lane, Tally, Tools, Worker};
use crate::writer;

/// Read, acknowledge, and one for sweeps: each step of the worker has a session of its own.
const SOURCE_POOL: usize = 3;
/// Sessions on the target that only read; the writing one is not among them.
const TARGET_POOL: usize = 2;
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
    /// A task of ours ended, which none may do by itself.
    TaskEnded(String),
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(unusable) => unusable.fmt(f),
            Self::Schema(remedy) => f.write_str(remedy),
            Self::Plan(unplannable) => unplannable.fmt(f),
            Self::Unreachable { database, reason } => write!(f, "cannot use {database}: {reason}"),
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
enum Role {
    Writer,
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
        let version = schema::version(&*source_session)
            .await
            .map_err(|error| unreachable(&source_name, &error))?;
        if let Some(remedy) = version.refusal() {
            return Err(Fatal::Schema(remedy));
        }
        let target_session = primary(&target, &target_name).await?;
        let source_side =
            plan::source_side(&*source_session, mapping).await.map_err(Fatal::Plan)?;
        let (routes, findings) =
            plan::routes(&source_side, &*source_session, &*target_session, mapping)
                .await
                .map_err(Fatal::Plan)?;
        let mut advice: Vec<String> = findings.iter().map(ToString::to_string).collect();
        let mode = installed_mode(&source_session)
            .await
            .map_err(|error| unreachable(&source_name, &error))?
            .unwrap_or(NotifyMode::Doorbell);
        let wanted = capture::render(&source_side.captures, mode);
        let deviations = capture::deviations(&*source_session, &wanted)
            .await
            .map_err(|error| unreachable(&source_name, &error))?;
        advice.extend(deviations.iter().map(|deviation| {
            format!("{deviation}: changes may be missed; run `schoolbell migrate`")
        }));
        let lanes = Arc::new(routes.into_iter().map(Lane::new).collect());
        Ok(Self { source, target, lanes, mode, advice })
    }

    /// The routes, parents first.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.lanes.iter().map(|lane| &lane.route)
    }
}

/// When the installed triggers ring; none before the first `migrate`.
pub async fn installed_mode(source: &Session) -> Result<Option<NotifyMode>, tokio_postgres::Error> {
    let there: bool = source
        .query_one("select pg_catalog.to_regproc('schoolbell.notify_mode') is not null", &[])
        .await?
        .get(0);
    if !there {
        return Ok(None);
    }
    let mode: String = source.query_one("select schoolbell.notify_mode()", &[]).await?.get(0);
    Ok(NotifyMode::parse(&mode))
}

/// Opens a session on a server that can be written; after a failover the old address may be a standby.
async fn primary(database: &Database, name: &str) -> Result<Session, Fatal> {
    let session = database.session().await.map_err(|error| unreachable(name, &error))?;
    let in_recovery = session
        .query_one("select pg_catalog.pg_is_in_recovery()", &[])
        .await
        .map_err(|error| unreachable(name, &error))?;
    if in_recovery.get(0) {
        return Err(Fatal::Unreachable {
            database: name.into(),
            reason: "it is a standby in recovery; the URL must lead to the primary".into(),
        });
    }
    Ok(session)
}

fn unreachable(name: &str, error: &tokio_postgres::Error) -> Fatal {
    Fatal::Unreachable { database: name.into(), reason: failure::chain(error) }
}

/// Runs the service until `stop` says so; with `drain`, until nothing is due.
pub async fn run(
    config: &Config,
    pace: Pace,
    mapping: &Mapping,
    mut stop: watch::Receiver<bool>,
    drain: bool,
) -> Result<End, Fatal> {
    let mut ground = Some(Ground::check(config, mapping).await?);
    for advice in ground.iter().flat_map(|ground| &ground.advice) {
        tracing::warn!("{advice}");
    }
    let mut backoff = Backoff::default();
    let mut end = End::Done(Tally::default());
    while !*stop.borrow() {
        let checked = match ground.take() {
            Some(ground) => Ok(ground),
            None => Ground::check(config, mapping).await.map_err(|fatal| fatal.to_string()),
        };
        let ended = match checked {
            Ok(ground) => {
                let resumed = !backoff.is_fresh();
                attempt(ground, &pace, &mut stop, drain, resumed, &mut backoff).await?
            }
            Err(reason) => Err(reason),
        };
        match ended {
            Ok(ended) => {
                end = ended;
                break;
            }
            Err(reason) => {
                if backoff.is_fresh() {
                    tracing::warn!(reason, "interrupted; nothing is lost, trying to go on");
                } else {
                    tracing::debug!(reason, "still interrupted");
                }
                tokio::select! {
                    () = backoff.pause() => {}
                    () = worker::told_to_stop(&mut stop) => {}
                }
            }
        }
    }
    Ok(end)
}

/// Works until told to stop (`Ok`), or until a connection fails (`Err`, with the reason).
async fn attempt(
    ground: Ground,
    pace: &Pace,
    stop: &mut watch::Receiver<bool>,
    drain: bool,
    resumed: bool,
    backoff: &mut Backoff,
) -> Result<Result<End, String>, Fatal> {
    let session = match ground.target.session().await {
        Ok(session) => session,
        Err(error) => return Ok(Err(failure::chain(&error))),
    };
    match become_writer(&session, pace, stop, drain).await {
        Ok(Role::Writer) => {}
        Ok(Role::Nobody) => return Ok(Ok(End::Done(Tally::default()))),
        Ok(Role::LeftTo(process)) => return Ok(Ok(End::LeftTo(process))),
        Err(error) => return Ok(Err(failure::chain(&error))),
    }
    let source = ground.source.pool(SOURCE_POOL);
    let target = ground.target.pool(TARGET_POOL);
    let (heard_sender, heard) = mpsc::unbounded_channel();
    let (wish, wishes) = watch::channel(None);
    let rings = ground.mode != NotifyMode::Never;
    let objects =
        ground.routes().map(|route| route.object.name.as_str()).collect::<Vec<_>>().join(", ");
    let mode = ground.mode;
    tracing::info!(objects, notify = %mode, "{}", if resumed { "going on as the writer" } else { "working as the writer" });

    let lanes = ground.lanes.clone();
    let mut worker = Worker::new(Tools {
        lanes: lanes.clone(),
        source: source.clone(),
        target: target.clone(),
        session,
        heard,
        wish,
        rings: rings && !drain,
        pace: pace.clone(),
    });
    if drain && let Err(failure) = sweep(&lanes, &source, &target).await {
        return Ok(Err(failure.to_string()));
    }
    let mut tasks = JoinSet::new();
    if !drain {
        tasks.spawn(bell::listen(ground.source, wishes, heard_sender.clone()));
        tasks.spawn(keep_sweeping(lanes, source, target, pace.wait_sweep, heard_sender));
    }
    let began = tokio::time::Instant::now();
    let ended = {
        let work = worker.work(stop, drain);
        tokio::pin!(work);
        tokio::select! {
            ended = &mut work => ended.map(End::Done).map_err(|failure| failure.to_string()),
            Some(task) = tasks.join_next() => {
                return Err(Fatal::TaskEnded(format!("a task that should run for ever ended ({task:?})")));
            }
        }
    };
    // What worked for a while is a new interruption, to be told and to be retried soon; what fails at once
    // again is the old one.
    if began.elapsed() > Backoff::LONGEST {
        backoff.reset();
    }
    tasks.shutdown().await;
    Ok(ended)
}

/// Waits for the writer's lock; when draining, does not wait.
async fn become_writer(
    session: &Session,
    pace: &Pace,
    stop: &mut watch::Receiver<bool>,
    drain: bool,
) -> Result<Role, tokio_postgres::Error> {
    let mut told = false;
    while !*stop.borrow() {
        if writer::take(session).await? {
            return Ok(Role::Writer);
        }
        if !told {
            let holder = writer::holder(&**session).await?;
            let process = holder.and_then(|holder| holder.process).unwrap_or_default();
            if drain {
                return Ok(Role::LeftTo(process));
            }
            tracing::info!(writer = process, "another process is the writer; standing by");
            told = true;
        }
        tokio::select! {
            () = tokio::time::sleep(pace.standby) => {}
            () = worker::told_to_stop(stop) => {}
        }
    }
    Ok(Role::Nobody)
}

/// Looks at what parked keys wait for, again and again, and rings when some of it has arrived.
async fn keep_sweeping(
    lanes: Arc<Vec<Lane>>,
    source: Pool,
    target: Pool,
    every: Duration,
    heard: mpsc::UnboundedSender<Heard>,
) {
    loop {
        match sweep(&lanes, &source, &target).await {
            Ok(0) => {}
            Ok(woken) => {
                tracing::debug!(woken, "parents have arrived");
                if heard.send(Heard::Rung).is_err() {
                    return;
                }
            }
            // The worker meets the same trouble and says so.
            Err(failure) => tracing::debug!(reason = %failure, "the sweep has to wait"),
        }
        tokio::time::sleep(every).await;
    }
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
            let target = target.get().await?;
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
