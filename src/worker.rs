//! The loop that joins the steps: claim, project, apply, acknowledge or park. No SQL, no object by name.
//!
//! Three batches may be in hand, each in another step, so that the source reads while the target writes.
//! They never overtake each other: what is read first is written first, so the newest row wins.
//! When a step fails, everything in hand is dropped and read again: nothing was acknowledged.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_postgres::Row;

use crate::apply::{self, Applied, Outcome, Statements};
use crate::bell::{Heard, Wish};
use crate::change::{self, Change, ChangeId, Position};
use crate::config::Pace;
use crate::db::Session;
use crate::failure::{Failure, Refusal};
use crate::parked::{self, Parking};
use crate::plan::Route;
use crate::project::{self, Projected, Wanted};
use crate::resync::{self, Page, Progress};

/// One object with its statements.
#[derive(Debug, Clone)]
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

    fn name(&self) -> &str {
        &self.route.object.name
    }
}

/// What was done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Changes acknowledged.
    pub changes: u64,
    /// Target rows inserted or updated.
    pub written: u64,
    /// Keys that were right already.
    pub equal: u64,
    /// Keys parked as waiting.
    pub waiting: u64,
    /// Keys parked as retrying or dead.
    pub refused: u64,
    /// Target rows deleted.
    pub deleted: u64,
    /// Target rows kept although their source is gone.
    pub kept: u64,
}

/// What was claimed, on its way through the steps.
#[derive(Debug, Default)]
struct Batch {
    changes: Vec<ChangeId>,
    /// Lanes whose table was truncated, and whether the lane reads it (or is only touched by it).
    truncated: BTreeSet<(usize, bool)>,
    has_due: bool,
    page: Option<Page>,
    /// One per lane.
    projected: Vec<Projected>,
    /// Keys that the source itself refused to project, by lane.
    refused: Vec<(usize, String, Outcome)>,
}

/// A batch whose target transaction is committed.
struct Done {
    batch: Batch,
    /// One per lane.
    applied: Vec<Applied>,
}

/// The steps on the source side: claim and project.
struct Reader {
    lanes: Arc<Vec<Lane>>,
    source: Pool,
    target: Pool,
    pace: Pace,
    position: Position,
    strange_tables: HashSet<String>,
    /// Not before this moment does the next page of a replay with a rate begin.
    next_page_at: Instant,
}

/// The step on the target side.
struct Writer {
    lanes: Arc<Vec<Lane>>,
    session: Session,
}

/// The last step, on the source side again.
struct Acknowledger {
    lanes: Arc<Vec<Lane>>,
    source: Pool,
}

/// The loop.
pub struct Worker {
    reader: Reader,
    writer: Writer,
    acknowledger: Acknowledger,
    pace: Pace,
    rest: Rest,
    tally: Tally,
}

/// What the worker is given to work with.
pub struct Tools {
    /// The objects, parents first.
    pub lanes: Arc<Vec<Lane>>,
    /// Sessions on the source.
    pub source: Pool,
    /// Sessions on the target that only read.
    pub target: Pool,
    /// The session that holds the writer's lock.
    pub session: Session,
    /// What the bell hears.
    pub heard: mpsc::UnboundedReceiver<Heard>,
    /// What the bell is asked for.
    pub wish: watch::Sender<Wish>,
    /// Whether the triggers ring at all.
    pub rings: bool,
    /// How fast.
    pub pace: Pace,
}

impl Worker {
    /// Nothing is read before [`Worker::work`].
    pub fn new(tools: Tools) -> Self {
        let Tools { lanes, source, target, session, heard, wish, rings, pace } = tools;
        let acknowledger = Acknowledger { lanes: lanes.clone(), source: source.clone() };
        let reader = Reader {
            lanes: lanes.clone(),
            source,
            target,
            pace: pace.clone(),
            position: Position::default(),
            strange_tables: HashSet::new(),
            next_page_at: Instant::now(),
        };
        let writer = Writer { lanes, session };
        let rest = Rest::new(heard, wish, rings);
        Self { reader, writer, acknowledger, pace, rest, tally: Tally::default() }
    }

    /// Works until told to stop, or, when draining, until nothing is due. What is in hand is finished.
    pub async fn work(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        drain: bool,
    ) -> Result<Tally, Failure> {
        let (mut read, mut applied): (Option<Batch>, Option<Done>) = (None, None);
        loop {
            let in_hand = InHand::of(read.as_ref(), applied.as_ref());
            let claim = !*stop.borrow();
            let (next, now_applied, acknowledged) = tokio::try_join!(
                read_next(&mut self.reader, claim, in_hand),
                apply_next(&mut self.writer, read.take()),
                acknowledge_next(&self.acknowledger, applied.take()),
            )?;
            if let Some((tally, pause)) = acknowledged {
                self.tally.add(&tally);
                if let Some(pause) = pause {
                    self.reader.next_page_at = Instant::now() + pause;
                }
            }
            (read, applied) = (next, now_applied);
            if read.is_some() || applied.is_some() {
                self.rest.found_work();
            } else if !claim || (drain && !self.reader.replays_later(claim).await?) {
                return Ok(self.tally);
            } else {
                self.rest
                    .until_something_may_be_due(&self.pace, self.reader.next_page_at, stop)
                    .await;
            }
        }
    }
}

/// What must not be read again while it is on its way.
#[derive(Clone, Default)]
struct InHand {
    due: bool,
    page: Option<Page>,
}

impl InHand {
    fn of(read: Option<&Batch>, applied: Option<&Done>) -> Self {
        let batches = [applied.map(|done| &done.batch), read];
        Self {
            due: batches.iter().flatten().any(|batch| batch.has_due),
            // The later one: its page begins after the other's.
            page: batches.iter().flatten().filter_map(|batch| batch.page.clone()).next_back(),
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

async fn apply_next(writer: &mut Writer, batch: Option<Batch>) -> Result<Option<Done>, Failure> {
    match batch {
        Some(batch) => writer.apply(batch).await.map(Some),
        None => Ok(None),
    }
}

async fn acknowledge_next(
    acknowledger: &Acknowledger,
    done: Option<Done>,
) -> Result<Option<(Tally, Option<Duration>)>, Failure> {
    match done {
        Some(done) => acknowledger.acknowledge(done).await.map(Some),
        None => Ok(None),
    }
}

impl Reader {
    /// Claims what is due and projects it; none when nothing is.
    async fn read(&mut self, in_hand: InHand) -> Result<Option<Batch>, Failure> {
        let source = self.source.get().await?;
        let limit = self.pace.batch_changes;
        let (changes, due) = tokio::try_join!(
            change::claim(&source, &mut self.position, limit),
            due_keys(&source, in_hand.due, limit),
        )?;
        let mut wanted = vec![Wanted::default(); self.lanes.len()];
        for (lane, wanted) in self.lanes.iter().zip(&mut wanted) {
            wanted.touches = vec![Vec::new(); lane.route.touches.len()];
        }
        let mut batch = Batch { has_due: !due.is_empty(), ..Batch::default() };
        for change in changes {
            self.sort(change, &mut batch, &mut wanted);
        }
        for (object, key) in due {
            if let Some(index) = self.lanes.iter().position(|lane| lane.name() == object) {
                wanted[index].keys.push(key);
            }
        }
        // Replays stand behind: a page is read only when nothing else is due.
        if batch.changes.is_empty() && !batch.has_due {
            batch.page = self.next_page(&source, in_hand.page).await?;
            if let Some(page) = &batch.page
                && let Some(index) =
                    self.lanes.iter().position(|lane| lane.name() == page.job.object)
            {
                wanted[index].keys.extend(page.keys.iter().cloned());
            }
        }
        if batch.changes.is_empty() && !batch.has_due && batch.page.is_none() {
            return Ok(None);
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            unique(&mut wanted[index].keys);
            wanted[index].touches.iter_mut().for_each(unique);
            let (projected, refused) =
                project_lane(&source, lane, std::mem::take(&mut wanted[index])).await?;
            batch.projected.push(projected);
            batch.refused.extend(refused.into_iter().map(|(key, outcome)| (index, key, outcome)));
        }
        if batch.page.as_ref().is_some_and(|page| page.job.request.missing) {
            let target = self.target.get().await?;
            for (lane, projected) in self.lanes.iter().zip(&mut batch.projected) {
                apply::retain_lacking(&target, &lane.statements, projected).await?;
            }
        }
        Ok(Some(batch))
    }

    /// Adds the keys that a change is about.
    fn sort(&mut self, change: Change, batch: &mut Batch, wanted: &mut [Wanted]) {
        let mut known = false;
        let keys: Option<HashMap<String, serde_json::Value>> =
            change.keys.as_ref().map(|keys| serde_json::from_str(keys).unwrap_or_default());
        for (index, lane) in self.lanes.iter().enumerate() {
            let object = &lane.route.object;
            match &change.concerns {
                None if object.source.plain() == change.table => {
                    known = true;
                    match &keys {
                        Some(keys) => {
                            wanted[index].keys.extend(keys.get(&object.key).and_then(text))
                        }
                        None => _ = batch.truncated.insert((index, true)),
                    }
                }
                Some(concerns) if *concerns == object.name => {
                    for (touch, recorded) in
                        lane.route.touches.iter().zip(&mut wanted[index].touches)
                    {
                        if touch.table == change.table {
                            known = true;
                            match &change.keys {
                                Some(keys) => recorded.push(keys.clone()),
                                None => _ = batch.truncated.insert((index, false)),
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        if known {
            batch.changes.push(change.id);
        } else if self.strange_tables.insert(change.table.clone()) {
            tracing::warn!(
                table = %change.table,
                "the outbox has changes that no object of this mapping is read from; they stay there: run \
                 `schoolbell migrate` with this mapping, or start with the mapping that captured them"
            );
        }
    }

    async fn next_page(
        &self,
        source: &deadpool_postgres::Client,
        in_hand: Option<Page>,
    ) -> Result<Option<Page>, Failure> {
        if Instant::now() < self.next_page_at {
            return Ok(None);
        }
        let Some(mut job) = resync::next(source).await? else { return Ok(None) };
        if let Some(page) = in_hand.filter(|page| page.job.id == job.id) {
            // What is still allowed is known only when the page in hand is done.
            if page.last || job.request.limit.is_some() || job.request.rate.is_some() {
                return Ok(None);
            }
            job.position = page.position.or(job.position);
        }
        let Some(lane) = self.lanes.iter().find(|lane| lane.name() == job.object) else {
            tracing::warn!(object = %job.object, "a replay is for an object that this mapping lacks; it is skipped");
            return Ok(Some(Page { job, keys: Vec::new(), position: None, last: true }));
        };
        let target = self.target.get().await?;
        Ok(Some(resync::page(source, &target, &lane.route, job, self.pace.page_rows).await?))
    }

    /// Whether a replay goes on later although nothing is due at this moment (its rate makes it wait).
    async fn replays_later(&self, claim: bool) -> Result<bool, Failure> {
        let source = self.source.get().await?;
        Ok(claim && resync::next(&source).await?.is_some())
    }
}

async fn due_keys(
    source: &deadpool_postgres::Client,
    in_hand: bool,
    limit: i64,
) -> Result<Vec<(String, String)>, Failure> {
    match in_hand {
        // They are still due until they are acknowledged; one at a time is enough.
        true => Ok(Vec::new()),
        false => parked::due(source, limit).await,
    }
}

fn text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn unique(keys: &mut Vec<String>) {
    let mut seen = HashSet::with_capacity(keys.len());
    keys.retain(|key| seen.insert(key.clone()));
}

/// Projects one object's keys; where the source refuses a row's values, finds that row and goes on without it.
async fn project_lane(
    source: &deadpool_postgres::Client,
    lane: &Lane,
    wanted: Wanted,
) -> Result<(Projected, Vec<(String, Outcome)>), Failure> {
    let mut all = Projected::default();
    let mut refused = Vec::new();
    let mut parts = vec![wanted];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let failure = match project::project(source, &lane.project, &part).await {
            Ok(mut projected) => {
                all.rows.append(&mut projected.rows);
                all.absent.append(&mut projected.absent);
                continue;
            }
            Err(failure) => failure,
        };
        // What changes of other tables touch is asked for first, to find the row at fault among it.
        if let Some((keys, touching)) = part.apart() {
            parts.push(keys);
            match project::resolve(source, &lane.resolve, &touching).await {
                Ok(keys) => parts.push(Wanted::of(keys, &touching)),
                // A recorded key that does not fit its column (any more); the others do.
                Err(Failure::Dead(refusal)) => match touching.halves() {
                    Some(halves) => parts.extend(halves),
                    None => {
                        let recorded = touching.touches.into_iter().flatten();
                        refused.extend(recorded.map(|key| (key, Outcome::Dead(refusal.clone()))));
                    }
                },
                // Whom the change touches cannot be known now, so it must not be acknowledged.
                Err(failure) => return Err(failure),
            }
            continue;
        }
        match verdict(Err(failure), part.keys.len())? {
            Verdict::Split => parts.extend(part.halves().into_iter().flatten()),
            Verdict::All(outcome) => {
                refused.extend(part.keys.into_iter().map(|key| (key, outcome.clone())))
            }
            Verdict::Through(_) => unreachable!("a failure is not a success"),
        }
    }
    Ok((all, refused))
}

impl Writer {
    /// Applies a batch in one transaction, or, where rows are refused, so that the others get through.
    async fn apply(&mut self, batch: Batch) -> Result<Done, Failure> {
        let outcomes = match self.together(&batch).await {
            Ok(outcomes) => outcomes,
            Err(Failure::Reconnect(reason)) => return Err(Failure::Reconnect(reason)),
            Err(refused) => {
                tracing::debug!(reason = %refused, "the batch is refused as a whole, applying it in parts");
                self.apart(&batch).await?
            }
        };
        let mut applied: Vec<Applied> = outcomes
            .into_iter()
            .zip(&batch.projected)
            .map(|(outcomes, projected)| Applied {
                keys: projected
                    .rows
                    .iter()
                    .map(|row| project::key(row).to_string())
                    .chain(projected.absent.iter().cloned())
                    .collect(),
                outcomes: apply::by_key(outcomes),
            })
            .collect();
        for (lane, key, outcome) in &batch.refused {
            applied[*lane].keys.push(key.clone());
            applied[*lane].outcomes.push((key.clone(), outcome.clone()));
        }
        Ok(Done { batch, applied })
    }

    async fn together(&mut self, batch: &Batch) -> Result<Vec<Vec<(String, Outcome)>>, Failure> {
        let mut outcomes = vec![Vec::new(); self.lanes.len()];
        if batch.projected.iter().all(|part| part.rows.is_empty() && part.absent.is_empty()) {
            return Ok(outcomes);
        }
        let transaction = self.session.transaction().await?;
        // Children leave before their parents, and come after them.
        for (index, lane) in self.lanes.iter().enumerate().rev() {
            let absent = &batch.projected[index].absent;
            let left =
                apply::leave_rows(&transaction, &lane.route, &lane.statements, absent).await?;
            outcomes[index].extend(left);
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            let rows = &batch.projected[index].rows;
            let written =
                apply::write_rows(&transaction, &lane.route, &lane.statements, rows).await?;
            outcomes[index].extend(written);
        }
        transaction.commit().await?;
        Ok(outcomes)
    }

    async fn apart(&mut self, batch: &Batch) -> Result<Vec<Vec<(String, Outcome)>>, Failure> {
        let lanes = self.lanes.clone();
        let mut outcomes = vec![Vec::new(); lanes.len()];
        for (index, lane) in lanes.iter().enumerate().rev() {
            let absent = Part::Absent(&batch.projected[index].absent);
            outcomes[index].extend(self.halve(lane, absent).await?);
        }
        for (index, lane) in lanes.iter().enumerate() {
            let rows = Part::Rows(&batch.projected[index].rows);
            outcomes[index].extend(self.halve(lane, rows).await?);
        }
        Ok(outcomes)
    }

    /// Halves what is refused until the rows at fault stand alone: a few bad rows among thousands cost a
    /// few statements each, not one for every row.
    async fn halve(
        &mut self,
        lane: &Lane,
        whole: Part<'_>,
    ) -> Result<Vec<(String, Outcome)>, Failure> {
        let mut outcomes = Vec::new();
        let mut parts = vec![whole];
        while let Some(part) = parts.pop() {
            let tried = self.alone(lane, part).await;
            match verdict(tried, part.len())? {
                Verdict::Through(through) => outcomes.extend(through),
                Verdict::Split => parts.extend(part.halves()),
                Verdict::All(outcome) => {
                    outcomes.extend(part.keys().map(|key| (key.to_string(), outcome.clone())));
                }
            }
        }
        Ok(outcomes)
    }

    /// Applies a part in a transaction of its own.
    async fn alone(
        &mut self,
        lane: &Lane,
        part: Part<'_>,
    ) -> Result<Vec<(String, Outcome)>, Failure> {
        let transaction = self.session.transaction().await?;
        let tried = part.apply(&transaction, lane).await;
        match tried {
            Ok(outcomes) => {
                transaction.commit().await?;
                Ok(outcomes)
            }
            Err(failure) => transaction.rollback().await.map_err(Failure::from).and(Err(failure)),
        }
    }
}

/// Some keys of one object: rows to write, or keys whose row is gone.
#[derive(Clone, Copy)]
enum Part<'a> {
    Rows(&'a [Row]),
    Absent(&'a [String]),
}

impl<'a> Part<'a> {
    fn len(self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Absent(keys) => keys.len(),
        }
    }

    /// The second half first: what is pushed last is tried first.
    fn halves(self) -> [Self; 2] {
        let middle = self.len() / 2;
        match self {
            Self::Rows(rows) => [Self::Rows(&rows[middle..]), Self::Rows(&rows[..middle])],
            Self::Absent(keys) => [Self::Absent(&keys[middle..]), Self::Absent(&keys[..middle])],
        }
    }

    fn keys(self) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Self::Rows(rows) => Box::new(rows.iter().map(project::key)),
            Self::Absent(keys) => Box::new(keys.iter().map(String::as_str)),
        }
    }

    async fn apply(
        self,
        target: &deadpool_postgres::Transaction<'_>,
        lane: &Lane,
    ) -> Result<Vec<(String, Outcome)>, Failure> {
        match self {
            Self::Rows(rows) => {
                apply::write_rows(target, &lane.route, &lane.statements, rows).await
            }
            Self::Absent(keys) => {
                apply::leave_rows(target, &lane.route, &lane.statements, keys).await
            }
        }
    }
}

/// What to do with a part of a batch that was tried on its own.
enum Verdict {
    Through(Vec<(String, Outcome)>),
    Split,
    All(Outcome),
}

fn verdict(
    result: Result<Vec<(String, Outcome)>, Failure>,
    size: usize,
) -> Result<Verdict, Failure> {
    Ok(match result {
        Ok(outcomes) => Verdict::Through(outcomes),
        Err(Failure::Reconnect(reason)) => return Err(Failure::Reconnect(reason)),
        // No row of the object can succeed now, so there is no row to look for.
        Err(Failure::Blocked(refusal)) => Verdict::All(Outcome::Retries(refusal)),
        Err(_) if size > 1 => Verdict::Split,
        Err(Failure::Retry(refusal)) => Verdict::All(Outcome::Retries(refusal)),
        Err(Failure::Dead(refusal)) => Verdict::All(Outcome::Dead(refusal)),
    })
}

impl Acknowledger {
    /// Deletes what was claimed and parks what must wait, in one transaction; tells how long a replay must pause.
    async fn acknowledge(&self, done: Done) -> Result<(Tally, Option<Duration>), Failure> {
        let Done { batch, applied } = done;
        let mut parking = Parking::default();
        let mut freed: Vec<(&str, &str)> = Vec::new();
        for (lane, applied) in self.lanes.iter().zip(&applied) {
            let mut parked = HashSet::new();
            for (key, outcome) in &applied.outcomes {
                if parking.add(lane.name(), key, outcome) {
                    parked.insert(key.as_str());
                }
            }
            let keys = applied.keys.iter().map(String::as_str).filter(|key| !parked.contains(key));
            freed.extend(keys.map(|key| (lane.name(), key)));
            report(lane, applied);
        }
        let tally = tally(&batch, &applied);
        let mut client = self.source.get().await?;
        let transaction = client.transaction().await?;
        change::acknowledge(&transaction, &batch.changes, &freed, &parking).await?;
        for &(index, reads) in &batch.truncated {
            let lane = &self.lanes[index];
            // The rows that are gone are known only to the target; what a touched object lost, only to the source.
            let walk = match reads {
                true if lane.route.object.update_only => continue,
                true => resync::create_target_walk(&*transaction, &lane.route).await?,
                false => {
                    resync::create(&*transaction, &lane.route, &resync::Request::default()).await?
                }
            };
            tracing::warn!(
                object = lane.name(),
                resync = walk,
                "its table was truncated; a replay finds what is gone"
            );
        }
        let mut pause = None;
        if let Some(page) = &batch.page {
            let progress = Progress {
                done: page.keys.len() as i64,
                written: tally.written as i64,
                equal: tally.equal as i64,
                waiting: tally.waiting as i64,
                dead: tally.refused as i64,
                deleted: tally.deleted as i64,
                kept: tally.kept as i64,
            };
            resync::progress(&transaction, page, &progress).await?;
            let writes = tally.written + tally.deleted;
            pause = page
                .job
                .request
                .rate
                .map(|rate| Duration::from_secs_f64(writes as f64 / rate as f64));
        }
        transaction.commit().await?;
        Ok((tally, pause))
    }
}

fn tally(batch: &Batch, applied: &[Applied]) -> Tally {
    let count =
        |wanted: fn(&Outcome) -> bool| applied.iter().map(|lane| lane.count(wanted)).sum::<u64>();
    let keys: u64 = applied.iter().map(|lane| lane.keys.len() as u64).sum();
    let other: u64 = applied.iter().map(|lane| lane.outcomes.len() as u64).sum();
    let absent: u64 = batch.projected.iter().map(|part| part.absent.len() as u64).sum();
    let deleted = count(|outcome| matches!(outcome, Outcome::Deleted));
    let kept = count(|outcome| matches!(outcome, Outcome::Kept));
    Tally {
        changes: batch.changes.len() as u64,
        written: count(|outcome| matches!(outcome, Outcome::Updated | Outcome::Inserted)),
        // Keys that are absent on both sides are neither equal nor anything else.
        equal: keys.saturating_sub(other).saturating_sub(absent.saturating_sub(deleted + kept)),
        waiting: count(|outcome| matches!(outcome, Outcome::Waits { .. })),
        refused: count(|outcome| matches!(outcome, Outcome::Dead(_) | Outcome::Retries(_))),
        deleted,
        kept,
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.written += other.written;
        self.equal += other.equal;
        self.waiting += other.waiting;
        self.refused += other.refused;
        self.deleted += other.deleted;
        self.kept += other.kept;
    }
}

/// Logs what came of an object's keys: counts, and codes for what was refused, never contents.
fn report(lane: &Lane, applied: &Applied) {
    let object = lane.name();
    let kept = applied.count(|outcome| *outcome == Outcome::Kept);
    if kept > 0 {
        tracing::info!(
            object,
            kept,
            "target rows stay although their source is gone (on_delete = keep)"
        );
    }
    let mut refused: HashMap<(&str, &str), u64> = HashMap::new();
    for (_, outcome) in &applied.outcomes {
        if let Outcome::Dead(Refusal { sqlstate, remedy, .. })
        | Outcome::Retries(Refusal { sqlstate, remedy, .. }) = outcome
        {
            *refused.entry((sqlstate, remedy)).or_default() += 1;
        }
    }
    for ((sqlstate, remedy), keys) in refused {
        tracing::warn!(
            object,
            keys,
            sqlstate,
            remedy,
            "rows are refused and parked: see `schoolbell parked list`"
        );
    }
    let written = applied.written();
    if written > 0 {
        tracing::debug!(object, keys = applied.keys.len(), written, "applied");
    }
}

/// Returns when the signal says so. A signal that nobody can give any more is never given.
pub async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Between two looks: awake with short polls, then asleep behind an armed bell.
struct Rest {
    heard: mpsc::UnboundedReceiver<Heard>,
    wish: watch::Sender<Wish>,
    rings: bool,
    wishes: u64,
    armed: bool,
    deaf: bool,
    last_work: Instant,
}

impl Rest {
    fn new(heard: mpsc::UnboundedReceiver<Heard>, wish: watch::Sender<Wish>, rings: bool) -> Self {
        Self { heard, wish, rings, wishes: 0, armed: false, deaf: true, last_work: Instant::now() }
    }

    fn found_work(&mut self) {
        self.last_work = Instant::now();
        self.armed = false;
        // Awake means that nobody rings: the writers' commits stay grouped.
        self.wish.send_if_modified(|wish| wish.take().is_some());
    }

    /// Returns when the outbox should be looked at: never later than the sweep, which would also find
    /// what a lost bell left behind.
    async fn until_something_may_be_due(
        &mut self,
        pace: &Pace,
        next_page_at: Instant,
        stop: &mut watch::Receiver<bool>,
    ) {
        let longest = if self.armed {
            pace.sweep
        } else if self.last_work.elapsed() < pace.awake {
            pace.poll
        } else if !self.rings || self.deaf {
            pace.quiet_poll
        } else {
            if self.wish.borrow().is_none() {
                self.wishes += 1;
                self.wish.send_replace(Some(self.wishes));
            }
            // Until the bell is armed nobody rings for changes that others hold back.
            pace.poll
        };
        let mut until = Instant::now() + longest;
        if next_page_at > Instant::now() {
            until = until.min(next_page_at);
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            heard = self.heard.recv() => match heard {
                Some(heard) => self.hear(&heard),
                // The bell's task is gone; the service is about to notice. Until then: poll.
                None => tokio::time::sleep_until(until).await,
            },
            () = told_to_stop(stop) => {}
        }
        while let Ok(heard) = self.heard.try_recv() {
            self.hear(&heard);
        }
    }

    fn hear(&mut self, heard: &Heard) {
        match heard {
            Heard::Listening => self.deaf = false,
            Heard::Armed(number) if self.wish.borrow().as_ref() == Some(number) => {
                tracing::trace!("asleep");
                self.armed = true;
            }
            Heard::Armed(_) | Heard::Rung => {}
            Heard::Deaf => {
                self.deaf = true;
                self.armed = false;
            }
        }
    }
}
