//! Starts, supervises and stops the work: connects, becomes the writer, reconnects, one stop signal for all.
//!
//! Promise: a database that goes away is an ordinary event; a setting that cannot work is reported
//! once, at the start; every task that is started is ended before this returns.

pub mod reporting;

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::apply;
use crate::apply::writer::{self, Holding};
use crate::bell::{self, Heard, Wishes};
use crate::capture::NotifyMode;
use crate::config::{Config, Pace};
use crate::mapping::Mapping;
use crate::metrics::Tally;
use crate::metrics::{Metrics, Role};
use crate::outbox::pairing::{self, DatabaseId, Pair};
use crate::outbox::parked::{self, Choice};
use crate::outbox::shape;
use crate::postgres::backoff::Backoff;
use crate::postgres::db::{Direct, Pool};
use crate::postgres::deadline::unless_silent;
use crate::postgres::failure::Failure;
use crate::postgres::stranger::Stranger;
use crate::service::reporting::kept_up;
use crate::verify;
use crate::worker::{self, Tools, Worker};

mod ground;
mod planner;
mod sweep;

use ground::BothReached;
pub use ground::{Fatal, Ground, Plan};
use planner::Planner;
use sweep::{keep_sweeping, sweep};

/// One to acknowledge, one for sweeps and one for the brake; the reader has a session of its own.
const SOURCE_POOL: usize = 3;
/// Sessions on the target that only read; the writing one is not among them.
const TARGET_POOL: usize = 2;
/// Work that lasts this long after an interruption is said to continue.
const SETTLED: Duration = Duration::from_secs(2);
/// The reason of an interruption may change (refused, starting up, a standby); this many different
/// reasons are reported, each once.
const REASONS_TOLD: usize = 5;

/// How the service ended when it was told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Nothing is in hand; what was done since the last interruption.
    Done(Tally),
    /// Draining was left to the process that is the writer already.
    LeftTo(String),
    /// Nothing was drained: somebody who may not write keeps everybody from it.
    Blocked(Stranger),
}

/// The result of waiting for the writer's lock.
enum Lock {
    /// Ours, after another process had it (`waited`) or at once.
    Ours { waited: bool },
    /// Told to stop before it was free.
    Nobody,
    /// Draining is the work of this other process.
    LeftTo(String),
    /// Somebody holds it who is no writer, and draining waits for nobody.
    Blocked(Stranger),
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
    stop: watch::Receiver<bool>,
    drain: bool,
    metrics: &Arc<Metrics>,
) -> Result<End, Fatal> {
    let (_, mapping) = watch::channel(Arc::new(mapping.clone()));
    run_with(config, pace, mapping, stop, drain, metrics).await
}

/// The same with a mapping that may be replaced while the service runs. One that does not fit is reported, and the one from
/// before stays in use.
pub async fn run_with(
    config: &Config,
    pace: Pace,
    mapping: watch::Receiver<Arc<Mapping>>,
    mut stop: watch::Receiver<bool>,
    drain: bool,
    metrics: &Arc<Metrics>,
) -> Result<End, Fatal> {
    let (planner, told_of_pooler) = (Planner::new(mapping), false);
    let mut service =
        Service { config, planner, pace, drain, metrics, told_of_pooler, writing_pid: None };
    let mut ground = tokio::select! {
        ground = Box::pin(service.check()) => Some(ground?),
        () = worker::told_to_stop(&mut stop) => None,
    };
    let mut backoff = Backoff::default();
    let mut told = HashSet::new();
    while !*stop.borrow() {
        let began = Instant::now();
        let resumed = !backoff.is_fresh();
        // On the heap: the future of an attempt is large, and callers may hold several of them.
        let ended = Box::pin(service.attempt(ground.take(), resumed, &mut stop)).await;
        metrics.at_rest();
        let reason = match ended {
            Ok(end) => return Ok(end),
            Err(Ended::Fatal(fatal)) => return Err(fatal),
            // A drain waits for it to end.
            Err(Ended::Failed(failure)) if drain && failure.needs_a_human() => {
                return Err(Fatal::Refused(failure));
            }
            Err(Ended::Failed(failure)) => failure.to_string(),
            Err(Ended::Interrupted(reason)) => reason,
        };
        // A failure after a while of work is a new interruption: it is reported and retried soon. A
        // failure at once belongs to the interruption before.
        if began.elapsed() > Backoff::LONGEST {
            backoff.reset();
        }
        metrics.stands(Role::Interrupted, Some(reason.clone()));
        if backoff.is_fresh() {
            metrics.interruptions.inc();
            tracing::warn!(reason, "interrupted; nothing is lost, retrying");
            told = HashSet::from([reason]);
        } else if told.len() < REASONS_TOLD && told.insert(reason.clone()) {
            tracing::info!(reason, "still waiting, for a different reason");
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
    planner: Planner,
    pace: Pace,
    drain: bool,
    metrics: &'a Arc<Metrics>,
    /// Once is enough, however often the work is interrupted.
    told_of_pooler: bool,
    /// The session in which this process was the writer last, by its process id on the target's server.
    writing_pid: Option<i32>,
}

impl Service<'_> {
    /// Becomes the writer and works until told to stop, or until something fails. `ground` was just checked.
    async fn attempt(
        &mut self,
        ground: Option<Ground>,
        resumed: bool,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<End, Ended> {
        let ground = match ground {
            Some(ground) => ground,
            None => Box::pin(self.check_again()).await?,
        };
        let noted = self.paired(&ground).await?;
        let session = ground.target.writing_session().await?;
        let lock = self.become_writer(&ground, &session, resumed, stop).await?;
        if let Lock::Ours { .. } = lock {
            self.writing_pid = Some(writer::pid(&session).await.map_err(Failure::from)?);
        }
        let ground = match lock {
            Lock::Ours { waited: false } => ground,
            // Much may have changed while another process was the writer.
            Lock::Ours { waited: true } => Box::pin(self.check_again()).await?,
            Lock::Nobody => return Ok(End::Done(Tally::default())),
            Lock::LeftTo(process) => return Ok(End::LeftTo(process)),
            Lock::Blocked(stranger) => return Ok(End::Blocked(stranger)),
        };
        let names: Vec<&str> = ground.routes().map(|route| route.object.name.as_str()).collect();
        let (objects, notify) = (names.join(", "), ground.plan.mode);
        let metrics = self.metrics;
        if !resumed {
            self.metrics.stands(Role::Writer, None);
            tracing::info!(objects, %notify, "working as the writer");
        }
        let settle = async {
            // Reported only when it lasts: otherwise every failing attempt would be reported as a
            // recovery.
            tokio::time::sleep(SETTLED).await;
            if resumed {
                metrics.stands(Role::Writer, None);
                tracing::info!(objects, %notify, "resumed as the writer");
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = Box::pin(self.work_on(ground, (session, noted), stop)) => ended,
            never = settle => never,
        }
    }

    /// The target to which the source's changes go, if that is ours.
    async fn paired(&self, ground: &Ground) -> Result<DatabaseId, Ended> {
        let asked = async {
            let (source, target) =
                tokio::try_join!(ground.source.session(), ground.target.session())?;
            let pair = Pair::of(&source, &target, self.config.target.to_string()).await?;
            pairing::claim(&source, &pair).await
        };
        match unless_silent(self.pace.longest_silence(), asked).await? {
            Ok(target) => Ok(target),
            Err(mismatch) if self.drain => Err(Ended::Fatal(Fatal::Unpaired(mismatch))),
            // Somebody may adopt it.
            Err(mismatch) => Err(Ended::Interrupted(mismatch.to_string())),
        }
    }

    /// Works with one plan after the other: a batch is finished with the plan that read it.
    async fn work_on(
        &mut self,
        mut ground: Ground,
        (session, target): (Direct, DatabaseId),
        stop: &mut watch::Receiver<bool>,
    ) -> Result<End, Ended> {
        let (session, mut tally) = (Arc::new(Mutex::new(session)), Tally::default());
        loop {
            let work = self.work(&ground, (session.clone(), &target), stop);
            let worked = Box::pin(work).await?;
            tally.add(&worked.tally);
            let Some(plan) = worked.replanned else { return Ok(End::Done(tally)) };
            ground.plan = plan;
            // Rows that the plan before could not write may be written now.
            let mut source = ground.source.session().await?;
            let choice = Choice { state: Some("retrying"), ..Choice::default() };
            parked::retry(&mut source, choice, None).await.map_err(Failure::from)?;
        }
    }

    /// Waits for the writer's lock; when draining, waits for nobody else.
    async fn become_writer(
        &self,
        ground: &Ground,
        session: &Direct,
        resumed: bool,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Lock, Failure> {
        let (mut waited, silence) = (false, self.pace.longest_silence());
        let mut reported = None;
        while !*stop.borrow() {
            if unless_silent(silence, async { Ok(writer::take(session).await?) }).await? {
                return Ok(Lock::Ours { waited });
            }
            let holding = unless_silent(silence, holding(ground)).await?;
            match holding {
                // It was let go in between.
                None => {}
                Some(Holding::Stranger(stranger)) if self.drain => {
                    return Ok(Lock::Blocked(stranger));
                }
                Some(Holding::Stranger(stranger)) => {
                    let reason = blocked(&stranger);
                    if reported.as_ref() != Some(&reason) {
                        tracing::warn!("{reason}");
                        self.metrics.stands(Role::Standby, Some(reason.clone()));
                        reported = Some(reason);
                    }
                }
                Some(Holding::Writer(holder)) => {
                    let process = holder.process.unwrap_or_default();
                    // By its session: processes in containers may well have the same name.
                    let own = resumed && holder.pid.is_some() && holder.pid == self.writing_pid;
                    if self.drain && !own {
                        return Ok(Lock::LeftTo(process));
                    }
                    if reported.as_ref() != Some(&process) {
                        self.report_standby(&process, own);
                        reported = Some(process);
                    }
                }
            }
            waited = true;
            tokio::select! {
                () = tokio::time::sleep(self.pace.standby) => {}
                () = worker::told_to_stop(stop) => {}
            }
        }
        Ok(Lock::Nobody)
    }

    fn report_standby(&self, writer: &str, own: bool) {
        if own {
            tracing::info!(
                "our lost session is still the writer until the target's server closes it"
            );
        } else {
            self.metrics.stands(Role::Standby, None);
            tracing::info!(writer, "another process is the writer; standing by");
        }
    }

    /// After an interruption a setting that does not work (any more) is waited for, too.
    async fn check_again(&mut self) -> Result<Ground, Ended> {
        let resumed = true;
        self.reach(resumed).await.map_err(|fatal| Ended::Interrupted(fatal.to_string()))
    }

    async fn check(&mut self) -> Result<Ground, Fatal> {
        let resumed = false;
        self.reach(resumed).await
    }

    async fn reach(&mut self, resumed: bool) -> Result<Ground, Fatal> {
        let silence = self.pace.longest_silence();
        let check = async {
            let reached = match BothReached::both(self.config).await {
                Ok(reached) => reached,
                Err(fatal) => return Ok(Err(fatal)),
            };
            Ok(match resumed {
                true => self.planner.resume(reached).await,
                false => self.planner.begin(reached).await,
            })
        };
        let checked = unless_silent(silence, check).await;
        let mut ground = checked.unwrap_or_else(|failure| {
            let database = "the source or the target database".into();
            Err(Fatal::Unreachable { database, reason: failure.to_string() })
        })?;
        ground.source.limit_statements(self.pace.statement_timeout);
        ground.target.limit_statements(self.pace.statement_timeout);
        Ok(ground)
    }

    fn tell_of_pooler(&mut self) {
        if self.drain || std::mem::replace(&mut self.told_of_pooler, true) {
            return;
        }
        tracing::warn!(
            "the source is behind a pooler, which passes no notices; polling every {} ms instead. A direct connection \
             in DATABASE_URL means less delay",
            self.pace.quiet_poll.as_millis()
        );
    }

    /// Orders resyncs for changes that no trigger reports.
    async fn answer(&self, ground: &Ground) -> Result<(), Failure> {
        let routes: Vec<_> = ground.routes().collect();
        let look = async {
            let mut source = ground.source.session().await?;
            shape::answer(&mut source, &routes, &ground.plan.captured).await
        };
        unless_silent(self.pace.longest_silence(), look).await
    }

    /// Starts the tasks around the worker, and ends them with it: when told to stop, when there is another plan, or when
    /// something fails.
    async fn work(
        &mut self,
        ground: &Ground,
        (session, paired): (Arc<Mutex<Direct>>, &DatabaseId),
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Worked, Ended> {
        let Plan { lanes, mode, .. } = &ground.plan;
        let (reading, writing) = (ground.source.with_kept_plans(), ground.target.with_kept_plans());
        let (source, target) = (reading.pool(SOURCE_POOL), writing.pool(TARGET_POOL));
        let rings = *mode != NotifyMode::Never && !ground.pooled && !self.drain;
        if ground.pooled {
            self.tell_of_pooler();
        }
        self.answer(ground).await?;
        let may_copy = apply::may_copy(&*session.lock().await).await?;
        let (heard_sender, heard) = watch::channel(Heard::default());
        let (wish, wishes) = watch::channel(Wishes::default());
        let mut worker = Worker::new(Tools {
            lanes: lanes.clone(),
            reader: reading.session().await?,
            evaluator: reading.evaluator().await?,
            source: source.clone(),
            target: target.clone(),
            session: session.clone(),
            paired: paired.clone(),
            may_copy,
            heard,
            wish,
            rings,
            pace: self.pace.clone(),
            metrics: self.metrics.clone(),
            doubt: self.planner.doubt.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async { Some(writer::stay(session).await) });
        if self.drain {
            let sweep = sweep(lanes, &source, &target, &heard_sender);
            unless_silent(self.pace.longest_silence(), sweep).await?;
        } else {
            self.start_around(&mut tasks, ground, (&source, &target), heard_sender.clone());
        }
        if rings {
            let listening = bell::listen(
                ground.source.clone(),
                source.clone(),
                wishes,
                heard_sender,
                self.metrics.clone(),
                self.pace.bell_patience,
            );
            tasks.spawn(listening.map(|()| None));
        }
        let ended = self.until_halted(&mut worker, &mut tasks, ground, (&source, &target), stop);
        let worked = Box::pin(ended).await;
        tasks.shutdown().await;
        worked
    }

    /// Starts the tasks beside the worker: sweeps, and comparisons.
    fn start_around(
        &self,
        tasks: &mut JoinSet<Option<Failure>>,
        ground: &Ground,
        (source, target): (&Pool, &Pool),
        heard: watch::Sender<Heard>,
    ) {
        let lanes = &ground.plan.lanes;
        if let Some(every) = self.pace.verify_every {
            let (source, target) = (ground.source.clone(), ground.target.clone());
            let lanes = lanes.clone();
            tasks.spawn(async move {
                let verifying =
                    || verify::keep_verifying(source.clone(), target.clone(), lanes.clone(), every);
                kept_up("the comparison in the background", verifying).await;
                None
            });
        }
        let (source, target) = (source.clone(), target.clone());
        let sweeping = keep_sweeping(lanes.clone(), source, target, self.pace.clone(), heard);
        tasks.spawn(sweeping.map(|()| None));
    }

    /// Lets the worker work until it is told to stop, there is another plan, or a task around it
    /// ends.
    async fn until_halted(
        &mut self,
        worker: &mut Worker,
        tasks: &mut JoinSet<Option<Failure>>,
        ground: &Ground,
        (source, target): (&Pool, &Pool),
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Worked, Ended> {
        let (halt, mut halted) = watch::channel(false);
        let (every, silence) = (self.pace.replan, self.pace.longest_silence());
        let mut replanned = None;
        let drain = self.drain;
        let halting = async {
            tokio::select! {
                () = worker::told_to_stop(stop) => {}
                plan = self.planner.replanned((source, &ground.source), target, every, silence), if !drain => {
                    replanned = Some(plan);
                }
            }
            halt.send_replace(true);
            std::future::pending::<Infallible>().await
        };
        let tally = tokio::select! {
            ended = worker.work(&mut halted, drain) => ended?,
            never = halting => match never {},
            Some(task) = tasks.join_next() => return Err(match task {
                Ok(Some(failure)) => failure.into(),
                task => {
                    let what = format!("a task that should run for ever ended ({task:?})");
                    Ended::Fatal(Fatal::TaskEnded(what))
                }
            })
        };
        Ok(Worked { tally, replanned })
    }
}

async fn holding(ground: &Ground) -> Result<Option<Holding>, Failure> {
    let objects = ground.routes().map(|route| &route.object);
    Ok(writer::holding(&ground.target.session().await?, objects).await?)
}

/// Why nobody can write.
pub fn blocked(stranger: &Stranger) -> String {
    format!(
        "{stranger} holds the writer's lock and is not a Schoolbell writer, so writing is blocked; end it in the \
         target: {}",
        stranger.end()
    )
}

/// What was done with a plan, and the next plan, if that is why it ended.
struct Worked {
    tally: Tally,
    replanned: Option<Plan>,
}
