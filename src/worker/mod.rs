//! The loop that joins the steps: claim, project, apply, acknowledge or park. No SQL, no object by name.
//!
//! Three batches may be in hand, each in another step, so that the source reads while the target writes.
//! They never overtake each other: what is read first is written first, so the newest row wins.
//! When a step fails, everything in hand is dropped and read again: nothing was acknowledged.

use crate::metrics::Tally;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::Instant;

use crate::apply::Statements;
use crate::bell::{Heard, Wishes};
use crate::config::Pace;
use crate::mapping::OnDelete;
use crate::metrics::{Metrics, Step};
use crate::outbox::change::{Change, ChangeId};
use crate::outbox::outcome::{Outcome, Outcomes};
use crate::outbox::pairing::DatabaseId;
use crate::outbox::resync::Page;
use crate::plan::Route;
use crate::postgres::db::{Direct, Evaluator, Pool, Session};
use crate::postgres::deadline::unless_silent;
use crate::postgres::failure::Failure;
use crate::postgres::template::RenderedStatement;
use crate::project::{self, Projected};

mod acknowledge;
mod leave;
pub mod page;
mod patience;
mod read;
mod rest;
mod write;

use acknowledge::Acknowledger;
use leave::Gate;
use read::Reader;
use rest::Rest;
use write::Writer;

/// One object with its statements.
#[derive(Debug, Clone, PartialEq)]
pub struct Lane {
    /// The object.
    pub route: Route,
    pub(crate) project: String,
    resolve: String,
    /// What is run on the target.
    pub statements: Statements,
}

impl Lane {
    /// Builds the statements of a route.
    pub fn new(route: Route) -> Self {
        Self {
            project: project::statement(&route),
            resolve: project::resolve_statement(&route),
            statements: Statements::new(&route),
            route,
        }
    }

    /// All statements, to be read by people.
    pub fn shown(&self) -> Vec<RenderedStatement> {
        const WANTED: &str = "$1: keys, then for each `touched_by` what its triggers recorded.";
        let project = format!("Source: the wanted keys' rows as target rows. {WANTED}");
        let resolve = format!("Source: only which keys are wanted. {WANTED}");
        let mut shown = vec![
            RenderedStatement::new("project", project, &self.project),
            RenderedStatement::new("keys", resolve, &self.resolve),
        ];
        shown.extend(page::shown(&self.route));
        shown.extend(self.statements.shown());
        shown
    }

    fn name(&self) -> &str {
        &self.route.object.name
    }

    fn deletes(&self) -> bool {
        self.route.object.on_delete == OnDelete::Delete
    }
}

/// What was claimed, on its way through the steps.
#[derive(Debug, Default)]
struct Batch {
    changes: Vec<ChangeId>,
    /// When they were made, in the same order.
    made: Vec<Made>,
    /// Lanes whose table was truncated, and whether the lane reads it (or is only touched by it).
    truncated: BTreeSet<(usize, bool)>,
    /// Lanes of which changes of another table touch more rows than are looked at together, or such as cannot be found.
    touched: BTreeSet<usize>,
    /// Parked keys that were due.
    due: Vec<DueKey>,
    page: Option<Page>,
    /// The page was read although there were changes, and had at most this many rows.
    share_of: Option<i64>,
    /// How long the steps took so far.
    took: Duration,
    /// One per lane.
    projected: Vec<Projected>,
    /// Keys that the source itself refused to project, by lane.
    refused: Vec<(usize, String, Outcome)>,
}

/// A parked key that was due, as it is parked.
#[derive(Debug)]
struct DueKey {
    lane: usize,
    key: String,
    /// The brake held its deletion, and a human has released it.
    released: bool,
    /// Since when it was due.
    since: Timestamp,
}

/// Changes of one moment: a statement makes all of its own at the same.
#[derive(Debug)]
struct Made {
    at: Timestamp,
    changes: u64,
}

/// A resync, and for how long it must rest.
type Pause = (i64, Duration);

/// What came of a batch.
struct Acknowledged {
    tally: Tally,
    pause: Option<Pause>,
    /// Of a page that was read although there were changes: how many rows it could have, and how long it took.
    share: Option<(i64, Duration)>,
}

/// A batch whose target transaction is committed.
struct Done {
    batch: Batch,
    /// One per lane.
    outcomes: Vec<Outcomes>,
}

impl Batch {
    fn take(&mut self, change: &Change) {
        self.changes.push(change.id);
        match self.made.last_mut() {
            Some(made) if made.at == change.changed_at => made.changes += 1,
            _ => self.made.push(Made { at: change.changed_at, changes: 1 }),
        }
    }

    /// The keys of a lane: all that were looked at, and no key twice but in another spelling.
    fn keys(&self, lane: usize) -> impl Iterator<Item = &str> {
        let projected = &self.projected[lane];
        let refused = self.refused.iter().filter(move |(index, ..)| *index == lane);
        projected.keys().chain(refused.map(|(_, key, _)| key.as_str()))
    }
}

/// The loop.
pub struct Worker {
    reader: Reader,
    writer: Writer,
    acknowledger: Acknowledger,
    pace: Pace,
    rest: Rest,
    tally: Tally,
    metrics: Arc<Metrics>,
}

/// What the worker is given to work with.
pub struct Tools {
    /// The objects, parents first.
    pub lanes: Arc<Vec<Lane>>,
    /// The session on the source that claims.
    pub reader: Session,
    /// The session on the source that reads rows as the mapping has them.
    pub evaluator: Evaluator,
    /// Sessions on the source for everything else.
    pub source: Pool,
    /// Sessions on the target that only read.
    pub target: Pool,
    /// The session that holds the writer's lock.
    pub session: Arc<Mutex<Direct>>,
    /// The target as it is noted in the source.
    pub paired: DatabaseId,
    /// Whether that session may have temporary tables.
    pub may_copy: bool,
    /// What the bell hears.
    pub heard: watch::Receiver<Heard>,
    /// What the bell is asked for.
    pub wish: watch::Sender<Wishes>,
    /// Whether the triggers ring at all.
    pub rings: bool,
    /// How fast.
    pub pace: Pace,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Notified when rows are refused as if the plan were out of date.
    pub doubt: Arc<Notify>,
}

impl Worker {
    /// Nothing is read before [`Worker::work`].
    pub fn new(tools: Tools) -> Self {
        let Tools { lanes, source, target, heard, wish, pace, metrics, doubt, .. } = tools;
        let sessions = (tools.reader, tools.evaluator);
        let reader =
            Reader::new(lanes.clone(), sessions, target.clone(), pace.clone(), metrics.clone());
        let gate = Gate::new(lanes.clone(), source.clone());
        let writer = Writer::new(
            lanes.clone(),
            gate,
            tools.session,
            target,
            tools.may_copy,
            pace.statement_timeout,
        );
        let acknowledger = Acknowledger::new(lanes, source, tools.paired, metrics.clone(), doubt);
        let rest = Rest::new(heard, wish, tools.rings);
        Self { reader, writer, acknowledger, pace, rest, tally: Tally::default(), metrics }
    }

    /// Works until told to stop, or, when draining, until nothing is due. What is in hand is finished.
    pub async fn work(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        drain: bool,
    ) -> Result<Tally, Failure> {
        let (mut read, mut applied): (Option<Batch>, Option<Done>) = (None, None);
        let silence = self.pace.longest_silence();
        loop {
            let in_hand = InHand::of(read.as_ref(), applied.as_ref());
            let claim = !*stop.borrow();
            let steps = Box::pin(async {
                tokio::try_join!(
                    read_next(&mut self.reader, claim, in_hand),
                    apply_next(&mut self.writer, read.take(), &self.metrics),
                    acknowledge_next(&self.acknowledger, applied.take(), &self.metrics),
                )
            });
            let (next, now_applied, acknowledged) = unless_silent(silence, steps).await?;
            if let Some(Acknowledged { tally, pause, share }) = acknowledged {
                self.tally.add(&tally);
                if let Some((resync, pause)) = pause {
                    self.reader.rests_until(resync, Instant::now() + pause);
                }
                if let Some((rows, took)) = share {
                    self.reader.page_took(rows, took);
                }
            }
            if let Some(rows) = self.writer.too_many.take() {
                self.reader.read_less_than(rows);
            }
            let changes = next.as_ref().is_some_and(|batch| !batch.changes.is_empty());
            (read, applied) = (next, now_applied);
            self.metrics.claimed_changes.set(InHand::changes(read.as_ref(), applied.as_ref()));
            if read.is_some() || applied.is_some() {
                self.rest.found_work(changes);
            } else if !claim {
                return Ok(self.tally);
            } else if self.reader.more {
                // The last look may have left out what was in hand: look again.
            } else if drain && !unless_silent(silence, self.reader.resyncs_later()).await? {
                return Ok(self.tally);
            } else {
                self.rest
                    .until_something_may_be_due(&self.pace, self.reader.next_page_at(), stop)
                    .await;
            }
        }
    }
}

/// What must not be read again while it is on its way.
#[derive(Clone, Default)]
struct InHand {
    /// Since when the last of the due keys was due; none if there are none.
    due: Option<Timestamp>,
    /// In the order in which they were read.
    pages: Vec<Page>,
}

impl InHand {
    /// How many changes are on their way.
    fn changes(read: Option<&Batch>, applied: Option<&Done>) -> i64 {
        let batches = [applied.map(|done| &done.batch), read];
        batches.iter().flatten().map(|batch| batch.changes.len() as i64).sum()
    }

    fn of(read: Option<&Batch>, applied: Option<&Done>) -> Self {
        let batches = [applied.map(|done| &done.batch), read];
        Self {
            due: batches.iter().flatten().flat_map(|batch| &batch.due).map(|key| key.since).max(),
            pages: batches.iter().flatten().filter_map(|batch| batch.page.clone()).collect(),
        }
    }
}

async fn read_next(
    reader: &mut Reader,
    claim: bool,
    in_hand: InHand,
) -> Result<Option<Batch>, Failure> {
    match claim {
        true => reader.read(in_hand).await,
        false => Ok(None),
    }
}

async fn apply_next(
    writer: &mut Writer,
    batch: Option<Batch>,
    metrics: &Metrics,
) -> Result<Option<Done>, Failure> {
    let Some(batch) = batch else { return Ok(None) };
    let began = Instant::now();
    let mut done = writer.apply(batch).await?;
    metrics.step(Step::Apply, began.elapsed());
    done.batch.took += began.elapsed();
    let now = Timestamp::now();
    for made in &done.batch.made {
        metrics.delivered(now.duration_since(made.at), made.changes);
    }
    Ok(Some(done))
}

async fn acknowledge_next(
    acknowledger: &Acknowledger,
    done: Option<Done>,
    metrics: &Metrics,
) -> Result<Option<Acknowledged>, Failure> {
    let Some(done) = done else { return Ok(None) };
    let (share, before, began) = (done.batch.share_of, done.batch.took, Instant::now());
    let (tally, pause) = acknowledger.acknowledge(done).await?;
    metrics.step(Step::Acknowledge, began.elapsed());
    let share = share.map(|rows| (rows, before + began.elapsed()));
    Ok(Some(Acknowledged { tally, pause, share }))
}

/// Returns when the signal is given; never, once nothing is left that could give it.
pub async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
