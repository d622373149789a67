//! The first step: claims what is due, sorts it by object and projects it.
//!
//! Promise: live changes and due keys come first; a resync has a fifth of the time while there are, and all of it while
//! there are none. A row that the source itself refuses is found among the others.

use super::page::{self, Content};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio::time::Instant;

use super::patience::Patience;
use super::{Batch, DueKey, InHand, Lane, leave};
use crate::apply;
use crate::config::Pace;
use crate::failpoint::{self, Failpoint};
use crate::metrics::{Metrics, Step};
use crate::outbox::change::{self, Change, Position};
use crate::outbox::outcome::Outcome;
use crate::outbox::parked;
use crate::outbox::resync::{self, Job, Page};
use crate::postgres::apart::{Apart, Parts};
use crate::postgres::db::{Evaluator, Pool, Session};
use crate::postgres::failure::{Failure, Refusal};
use crate::project::{self, BATCH_BYTES, MOST_TOUCHED, Projected, Wanted};

/// From this many changes per second on, changes are gathered for a moment. Below it they are
/// applied at once.
const BUSY: f64 = 800.0;
/// Fewer than this in one look do not show how many there are per second.
const A_FEW: usize = 3;

/// While there are changes a resync rests this many times as long as its page took: it has a fifth of the time.
const SHARE_REST: u32 = 4;
/// A page beside changes should take no longer than this, all steps together: changes wait behind it.
const SHARE_TIME: Duration = Duration::from_millis(60);

/// A resync that met a passing error is tried again after this long.
const HINDERED_PAUSE: Duration = Duration::from_secs(5);
/// What helps when the keys that a change touches cannot be found.
const WRONG_KEYS: &str = "correct `keys` of this object's touched_by in the mapping, or the row of the other table whose \
                          key this is, then `schoolbell parked retry`";

/// About this many bytes a batch or page should have, by the average of the one before: few of them turn out too large.
const USUAL_BYTES: usize = BATCH_BYTES / 2;
/// Several keys have no more bytes than this: each is held in several forms.
const KEY_BYTES: usize = BATCH_BYTES / 3;
/// A batch or page that turned out too large is read again with this much less.
const LESS: i64 = 8;

/// The steps on the source side: claim and project.
pub(super) struct Reader {
    lanes: Arc<Vec<Lane>>,
    /// The fingerprints of this mapping's objects: a resync that was asked for with another mapping
    /// is not ours.
    fingerprints: Vec<String>,
    /// One session for as long as the position lasts: another one may be another server's.
    source: Session,
    /// Reads rows as the mapping has them.
    evaluator: Evaluator,
    patience: Patience,
    target: Pool,
    /// Objects whose rows are deleted, each with one whose rows leave before.
    first: Vec<(usize, usize)>,
    pace: Pace,
    metrics: Arc<Metrics>,
    position: Position,
    strange_tables: HashSet<String>,
    page_size: PageSize,
    share: Share,
    batch_size: BatchSize,
    looked_at: Instant,
    was_busy: bool,
    /// Not before this moment is the next look: changes gather.
    look_at: Instant,
    /// The last look was cut short: there may be more, whatever it found.
    pub(super) more: bool,
    /// Resyncs whose next page does not begin before a moment: they have a rate, or are hindered.
    resting: HashMap<i64, Instant>,
    /// Those whose last page could not be read.
    hindered: HashSet<i64>,
}

impl Reader {
    pub(super) fn new(
        lanes: Arc<Vec<Lane>>,
        (source, evaluator): (Session, Evaluator),
        target: Pool,
        pace: Pace,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            first: leave::first(&lanes),
            fingerprints: lanes.iter().map(|lane| lane.route.object.fingerprint()).collect(),
            lanes,
            source,
            evaluator,
            patience: Patience::new(pace.statement_timeout),
            target,
            position: Position::default(),
            strange_tables: HashSet::new(),
            page_size: PageSize::new(pace.page_rows),
            share: Share::new(&pace),
            batch_size: BatchSize::new(),
            looked_at: Instant::now(),
            was_busy: false,
            look_at: Instant::now(),
            more: false,
            resting: HashMap::new(),
            hindered: HashSet::new(),
            pace,
            metrics,
        }
    }

    /// Claims what is due and projects it; none when nothing is. While there are changes, a resync has its share.
    pub(super) async fn read(&mut self, in_hand: InHand) -> Result<Option<Batch>, Failure> {
        if in_hand.pages.is_empty() && self.share.is_due() {
            let (rows, mut found) = (self.share.rows, self.page_alone(&in_hand).await?);
            if let Some(batch) = &mut found {
                batch.share_of = Some(rows);
                return Ok(found);
            }
            self.share.nothing_to_do();
        }
        tokio::time::sleep_until(self.look_at).await;
        loop {
            let before = self.position.clone();
            match self.read_within(&in_hand).await? {
                Read::Nothing => return Ok(None),
                Read::Batch(batch) => return Ok(Some(*batch)),
                // Nothing of it was kept.
                Read::TooLarge(things) => {
                    self.position = before;
                    self.batch_size.too_large(things);
                }
            }
        }
    }

    /// A page of a resync although there are changes; none when no resync can continue.
    async fn page_alone(&mut self, in_hand: &InHand) -> Result<Option<Batch>, Failure> {
        loop {
            match self.page_within(in_hand, Some(self.share.rows)).await? {
                Read::Nothing => return Ok(None),
                Read::Batch(batch) => return Ok(Some(*batch)),
                Read::TooLarge(things) => self.batch_size.too_large(things),
            }
        }
    }

    async fn read_within(&mut self, in_hand: &InHand) -> Result<Read, Failure> {
        let limit = self.batch_size.at_most(self.pace.batch_changes);
        let single = limit <= 1;
        let bytes = if single { usize::MAX } else { KEY_BYTES };
        let objects: Vec<&str> = self.lanes.iter().map(Lane::name).collect();
        let began = Instant::now();
        let (changes, due) = tokio::try_join!(
            change::claim(&self.source, bytes, &mut self.position, limit),
            due_keys(&self.source, bytes, &objects, &self.first, in_hand.due, limit),
        )?;
        let (Some(changes), Some(due)) = (changes, due) else { return Ok(Read::TooLarge(limit)) };
        let claimed = began.elapsed();
        failpoint::reach(Failpoint::AfterClaim).await;
        let cut_short = |found: usize| i64::try_from(found).is_ok_and(|found| found >= limit);
        self.more = cut_short(changes.len()) || cut_short(due.len()) || in_hand.due.is_some();
        if self.is_busy(changes.len()) && !self.more {
            self.look_at = Instant::now() + self.pace.gather;
        }
        let mut batch = Batch::default();
        let mut wanted = self.nothing_wanted();
        let things = (changes.len() + due.len()) as i64;
        for change in changes {
            self.sort(&change, &mut batch, &mut wanted);
        }
        for parked::Due { object, key, released, since } in due {
            if let Some(lane) = self.lane(&object) {
                wanted[lane].keys.push(key.clone());
                batch.due.push(DueKey { lane, key, released, since });
            }
        }
        let is_live = !batch.changes.is_empty() || !batch.due.is_empty();
        self.share.saw(is_live);
        if !is_live {
            return self.page_within(in_hand, None).await;
        }
        self.page_size.pause();
        if !self.project(&mut batch, wanted, (things, single)).await? {
            return Ok(Read::TooLarge(things));
        }
        self.metrics.step(Step::Claim, claimed);
        Ok(self.read_since(began + claimed, batch).await)
    }

    /// A page of a resync, of at most this many rows, or as many as take the time that a page may take.
    async fn page_within(&mut self, in_hand: &InHand, rows: Option<i64>) -> Result<Read, Failure> {
        let began = Instant::now();
        let mut batch = Batch::default();
        let mut wanted = self.nothing_wanted();
        let (index, page, content) = match self.next_page(&in_hand.pages, rows).await? {
            NextPage::None => {
                self.page_size.pause();
                return Ok(Read::Nothing);
            }
            NextPage::TooLarge(asked) => return Ok(Read::TooLarge(asked)),
            NextPage::Read(index, page, content) => (index, page, content),
        };
        failpoint::reach(Failpoint::ResyncPage).await;
        let things = page.rows;
        batch.page = Some(*page);
        let mut rows = None;
        match content {
            Content::Keys(keys) => wanted[index].keys = keys,
            Content::Rows(found) => rows = Some(found),
        }
        if !self.project(&mut batch, wanted, (things, things <= 1)).await? {
            return Ok(Read::TooLarge(things));
        }
        if let Some(rows) = rows {
            batch.projected[index].rows = rows;
        }
        if batch.page.as_ref().is_some_and(|page| page.job.request.missing) {
            let target = self.target.direct().await?;
            for (lane, projected) in self.lanes.iter().zip(&mut batch.projected) {
                apply::retain_lacking(&target, &lane.statements, projected).await?;
            }
        }
        Ok(self.read_since(began, batch).await)
    }

    async fn read_since(&mut self, began: Instant, mut batch: Batch) -> Read {
        self.batch_size.learn(&batch.projected);
        batch.took = began.elapsed();
        self.metrics.step(Step::Project, batch.took);
        failpoint::reach(Failpoint::AfterProject).await;
        Read::Batch(Box::new(batch))
    }

    fn nothing_wanted(&self) -> Vec<Wanted> {
        self.lanes.iter().map(|lane| Wanted::none(lane.route.touches.len())).collect()
    }

    /// A page that was read beside changes is done.
    pub(super) fn page_took(&mut self, rows: i64, took: Duration) {
        self.share.took(rows, took);
    }

    /// Reads the rows of all lanes into the batch; false where these have too many bytes. `single`: as few changes and keys
    /// are looked at as can be.
    async fn project(
        &mut self,
        batch: &mut Batch,
        wanted: Vec<Wanted>,
        (things, single): (i64, bool),
    ) -> Result<bool, Failure> {
        let asked = wanted.iter().filter(|wanted| !wanted.is_empty()).count();
        let room = Room { bytes: BATCH_BYTES / asked.max(1), single };
        // All at once on one connection: together they take one round trip.
        let source = SourceReader { session: &self.evaluator, patience: &self.patience };
        let keys = wanted.iter().map(Parts::count).sum();
        self.evaluator.limit_statements(self.patience.of_batch(keys)).await?;
        let lanes = self.lanes.iter().zip(wanted);
        let reads = lanes.map(|(lane, wanted)| project_lane(source, lane, wanted, room));
        for (index, looked) in try_join_all(reads).await?.into_iter().enumerate() {
            let Some(looked) = looked else { return Ok(false) };
            batch.projected.push(looked.projected);
            let refused = looked.refused.into_iter();
            batch.refused.extend(refused.map(|(key, outcome)| (index, key, outcome)));
            if looked.too_many {
                batch.touched.insert(index);
            }
            if looked.lacked_room {
                self.batch_size.less_than(things);
            }
        }
        Ok(true)
    }

    /// This many rows turned out to be more than the target has room for.
    pub(super) fn read_less_than(&mut self, rows: usize) {
        self.batch_size.less_than(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// Whether two looks in a row have found many changes for the time since the one before.
    fn is_busy(&mut self, changes: usize) -> bool {
        let now = Instant::now();
        let since = (now - std::mem::replace(&mut self.looked_at, now)).as_secs_f64();
        let busy = changes >= A_FEW && changes as f64 > BUSY * since;
        std::mem::replace(&mut self.was_busy, busy) && busy
    }

    fn lane(&self, object: &str) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.name() == object)
    }

    /// Adds the keys that a change is about.
    fn sort(&mut self, change: &Change, batch: &mut Batch, wanted: &mut [Wanted]) {
        let mut known = false;
        let keys: Option<HashMap<String, serde_json::Value>> =
            change.keys.as_ref().map(|keys| serde_json::from_str(keys).unwrap_or_default());
        for (index, lane) in self.lanes.iter().enumerate() {
            let object = &lane.route.object;
            if change.concerns.as_ref().is_some_and(|concerns| *concerns != object.name) {
                continue;
            }
            if object.source.plain() == change.table {
                known = true;
                match &keys {
                    Some(keys) => wanted[index].keys.extend(keys.get(&object.key).and_then(text)),
                    None => _ = batch.truncated.insert((index, true)),
                }
            }
            // Only these are captured for an object by name, whatever else is read from the table.
            if change.concerns.is_none() {
                continue;
            }
            for (touch, recorded) in lane.route.touches.iter().zip(&mut wanted[index].touches) {
                if touch.table == change.table {
                    known = true;
                    match &change.keys {
                        Some(keys) => recorded.push(keys.clone()),
                        None => _ = batch.truncated.insert((index, false)),
                    }
                }
            }
        }
        if known {
            batch.take(change);
        } else if self.strange_tables.insert(change.table.clone()) {
            tracing::warn!(
                table = %change.table,
                "the outbox has changes of tables that this mapping does not read; they stay there: start with the \
                 mapping that captured them, or delete them from schoolbell.change"
            );
        }
    }

    /// The next page of the resync whose turn it is, of those that can continue. One that never can is ended with the reason:
    /// live changes must not wait for it.
    async fn next_page(
        &mut self,
        in_hand: &[Page],
        rows: Option<i64>,
    ) -> Result<NextPage, Failure> {
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        let mut but: Vec<i64> = self.resting.keys().copied().collect();
        // What is still allowed is known only when the page in hand is done.
        let settles = |page: &&Page| {
            page.last || page.job.request.limit.is_some() || page.job.request.rate.is_some()
        };
        but.extend(in_hand.iter().filter(settles).map(|page| page.job.id));
        while let Some(mut job) = resync::next(&self.source, &self.fingerprints, &but).await? {
            if let Some(page) = in_hand.iter().rev().find(|page| page.job.id == job.id) {
                job.position = page.position.clone().or(job.position);
            }
            let (id, own) = (job.id, job.own);
            let reason = match self.lane(&job.object) {
                None => format!("the mapping has no object {}", job.object),
                Some(lane) => match self.page(lane, job, rows).await {
                    Ok(page) => return Ok(page),
                    Err(failure @ Failure::Reconnect(_)) => return Err(failure),
                    Err(failure) if own => {
                        // It replaces changes that nothing else would find again: it waits, as a
                        // parked key does.
                        self.is_hindered(id, &failure);
                        but.push(id);
                        continue;
                    }
                    Err(failure) => failure.to_string(),
                },
            };
            tracing::warn!(resync = id, reason, "a resync cannot continue");
            resync::fail(&self.source, id, &reason).await?;
            self.metrics.failed_resyncs.inc();
        }
        Ok(NextPage::None)
    }

    async fn page(
        &mut self,
        lane: usize,
        job: Job,
        rows: Option<i64>,
    ) -> Result<NextPage, Failure> {
        let id = job.id;
        let target = self.target.direct().await?;
        let rows = rows.unwrap_or_else(|| self.page_size.next(self.pace.page_time));
        let rows = self.batch_size.at_most(rows);
        let size = page::Size { rows, bytes: BATCH_BYTES };
        let route = &self.lanes[lane].route;
        let limit = self.patience.of_batch(usize::try_from(rows).unwrap_or_default());
        self.evaluator.limit_statements(limit).await?;
        Ok(match page::next(&self.evaluator, &target, route, job, size).await? {
            Some((page, content)) => {
                self.hindered.remove(&id);
                NextPage::Read(lane, Box::new(page), content)
            }
            None => NextPage::TooLarge(rows),
        })
    }

    fn is_hindered(&mut self, id: i64, reason: &Failure) {
        if self.hindered.insert(id) {
            tracing::warn!(resync = id, %reason, "a resync is blocked for now; it is retried");
        }
        self.rests_until(id, Instant::now() + HINDERED_PAUSE);
    }

    /// The next page of this resync begins then.
    pub(super) fn rests_until(&mut self, id: i64, moment: Instant) {
        self.resting.insert(id, moment);
    }

    /// When the next page of a resync that rests begins.
    pub(super) fn next_page_at(&self) -> Option<Instant> {
        self.resting.values().min().copied()
    }

    /// Whether a resync continues later although nothing is due at this moment (its rate makes it wait).
    pub(super) async fn resyncs_later(&self) -> Result<bool, Failure> {
        let hindered: Vec<i64> = self.hindered.iter().copied().collect();
        Ok(resync::next(&self.source, &self.fingerprints, &hindered).await?.is_some())
    }
}

/// How many rows the next page of a resync has, by how long the one before took.
struct PageSize {
    least: i64,
    rows: i64,
    /// When the page before was begun, if nothing came in between.
    began: Option<Instant>,
}

impl PageSize {
    fn new(rows: i64) -> Self {
        Self { least: (rows / 4).max(1), rows, began: None }
    }

    fn pause(&mut self) {
        self.began = None;
    }

    fn next(&mut self, page_time: Duration) -> i64 {
        let now = Instant::now();
        if let Some(began) = self.began.replace(now) {
            let took = now - began;
            if took < page_time / 2 {
                self.rows = (self.rows * 2).min(self.least * 20);
            } else if took > page_time {
                self.rows = (self.rows / 2).max(self.least);
            }
        }
        self.rows
    }
}

/// The share of a resync while there are changes: pages that are small, with rests between them.
struct Share {
    /// At most this many rows in a page.
    most: i64,
    rows: i64,
    /// The last look found changes or due keys. Where it found none, a resync has all the time.
    is_live: bool,
    /// The next page is not read before.
    at: Instant,
    /// Between two looks, where the last one found nothing.
    look: Duration,
}

impl Share {
    fn new(pace: &Pace) -> Self {
        let (most, look) = (pace.page_rows, pace.resync_look);
        Self { most, rows: (most / 4).max(1), is_live: false, at: Instant::now() + look, look }
    }

    fn is_due(&self) -> bool {
        self.is_live && Instant::now() >= self.at
    }

    fn saw(&mut self, is_live: bool) {
        if is_live && !std::mem::replace(&mut self.is_live, is_live) {
            self.nothing_to_do();
        }
        self.is_live = is_live;
    }

    fn nothing_to_do(&mut self) {
        self.at = Instant::now() + self.look;
    }

    fn took(&mut self, rows: i64, took: Duration) {
        self.at = Instant::now() + took * SHARE_REST;
        if took > SHARE_TIME {
            self.rows = (rows / 2).max(self.most / 40).max(1);
        } else if took < SHARE_TIME / 3 {
            self.rows = (rows * 2).min(self.most);
        }
    }
}

/// How much is read at once.
struct BatchSize {
    /// How many bytes come with each change, key or row of a page, on the average of the last batch.
    average: usize,
    /// At most this many, while a server has no room for more at once.
    most: i64,
}

impl BatchSize {
    fn new() -> Self {
        Self { average: 0, most: i64::MAX }
    }

    fn learn(&mut self, projected: &[Projected]) {
        let bytes: usize = projected.iter().map(Projected::bytes).sum();
        let rows = projected.iter().map(|part| part.rows.len()).sum();
        self.average = bytes.checked_div(rows).unwrap_or(self.average);
        // In small steps: a step too far costs a batch that is tried in halves.
        self.most = self.most.saturating_add(self.most / 8 + 1);
    }

    /// This many have too many bytes.
    fn too_large(&mut self, rows: i64) {
        self.average = USUAL_BYTES / usize::try_from((rows / LESS).max(1)).unwrap_or(1);
    }

    /// A server has no room for this many.
    fn less_than(&mut self, rows: i64) {
        self.most = (rows / 2).max(1);
    }

    /// This many rows, or as many as may be in a batch.
    fn at_most(&self, rows: i64) -> i64 {
        let fit = USUAL_BYTES.checked_div(self.average).and_then(|fit| i64::try_from(fit).ok());
        rows.min(self.most).min(fit.unwrap_or(rows).max(1))
    }
}

async fn due_keys(
    source: &Session,
    bytes: usize,
    objects: &[&str],
    first: &[(usize, usize)],
    after: Option<Timestamp>,
    limit: i64,
) -> Result<Option<Vec<parked::Due>>, Failure> {
    let first = first.iter().map(|&(lane, child)| (objects[lane], objects[child]));
    parked::due(source, bytes, objects, &first.collect::<Vec<_>>(), after, limit).await
}

fn text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// What came of a read.
enum Read {
    Nothing,
    Batch(Box<Batch>),
    /// This many changes, keys or rows have too many bytes; none was kept.
    TooLarge(i64),
}

/// What came of a look for the next page of a resync.
enum NextPage {
    None,
    /// With the place of its lane.
    Read(usize, Box<Page>, Content),
    /// This many rows have too many bytes.
    TooLarge(i64),
}

/// What became of one object's keys.
#[derive(Default)]
struct Looked {
    projected: Projected,
    /// Keys that the source refused to project.
    refused: Vec<(String, Outcome)>,
    /// Changes of other tables touch this many rows, or such as cannot be found, that none of these was looked at.
    too_many: bool,
    /// The source had no room for all together.
    lacked_room: bool,
}

/// How much there may be.
#[derive(Clone, Copy)]
struct Room {
    /// Several rows have no more bytes than this.
    bytes: usize,
    /// As few changes and keys are looked at as can be: where their rows are too large no smaller batch has less.
    single: bool,
}

/// The session that reads, and how long a statement of it may take.
#[derive(Clone, Copy)]
struct SourceReader<'a> {
    session: &'a Evaluator,
    patience: &'a Patience,
}

impl SourceReader<'_> {
    async fn whole(
        self,
        lane: &Lane,
        wanted: &Wanted,
        bytes: usize,
    ) -> Result<Option<Projected>, Failure> {
        let began = Instant::now();
        let projected = project::project(self.session, bytes, &lane.project, wanted).await?;
        self.patience.got_through(began.elapsed());
        Ok(projected)
    }

    async fn part(
        self,
        lane: &Lane,
        part: &Wanted,
        bytes: usize,
    ) -> Result<Option<Projected>, Failure> {
        let (limit, began) = (self.patience.of_part(part.count()), Instant::now());
        let projected =
            project::project_part(self.session, limit, bytes, &lane.project, part).await;
        match &projected {
            Ok(_) => self.patience.got_through(began.elapsed()),
            Err(failure)
                if part.count() == 1 && failure.is_cancelled() && began.elapsed() >= limit =>
            {
                return Err(Failure::Retry(Refusal::slow_in_the_source(limit)));
            }
            Err(_) => {}
        }
        projected
    }
}

/// Projects one object's keys; where the source refuses a row's values, finds that row and continues without it. None
/// where there is no room for the rows.
async fn project_lane(
    source: SourceReader<'_>,
    lane: &Lane,
    mut wanted: Wanted,
    room: Room,
) -> Result<Option<Looked>, Failure> {
    wanted.leave_each_once();
    if wanted.is_empty() {
        return Ok(Some(Looked::default()));
    }
    let projected = match source.whole(lane, &wanted, room.bytes).await {
        Ok(projected) => projected,
        Err(failure @ Failure::Reconnect(_)) => return Err(failure),
        Err(failure) => {
            let lacked_room = failure.is_lack_of_room();
            let began = Instant::now();
            let Some(looked) = project_apart(source, lane, wanted, room).await? else {
                return Ok(None);
            };
            source.patience.came_apart(&failure, began.elapsed(), looked.refused.iter());
            return Ok(Some(Looked { lacked_room, ..looked }));
        }
    };
    match projected {
        Some(projected) if !wanted.has_touches() || projected.len() <= MOST_TOUCHED => {
            Ok(Some(Looked { projected, ..Looked::default() }))
        }
        None if !room.single => Ok(None),
        _ => untouched(source, lane, wanted.keys, room).await,
    }
}

/// Only the keys that are named: a resync looks at those that are touched.
async fn untouched(
    source: SourceReader<'_>,
    lane: &Lane,
    keys: Vec<String>,
    room: Room,
) -> Result<Option<Looked>, Failure> {
    let own = Wanted::of(keys, lane.route.touches.len());
    let room = Room { bytes: usize::MAX, ..room };
    let looked = Box::pin(project_lane(source, lane, own, room)).await?;
    Ok(looked.map(|looked| Looked { too_many: true, ..looked }))
}

/// The same in parts, after it failed as a whole.
async fn project_apart(
    source: SourceReader<'_>,
    lane: &Lane,
    wanted: Wanted,
    room: Room,
) -> Result<Option<Looked>, Failure> {
    source.session.lift_limit().await?;
    let Touched { mut keys, mut refused, unknown } = touched_keys(source, lane, &wanted).await?;
    let too_many = unknown || keys.len() > MOST_TOUCHED;
    if too_many {
        keys.clear();
    }
    keys.extend(wanted.keys.iter().cloned());
    let mut whole = Wanted::of(keys, lane.route.touches.len());
    whole.leave_each_once();
    let (mut apart, mut all) = (Apart::new(whole), Projected::default());
    while let Some(part) = apart.next_part() {
        let left = room.bytes.saturating_sub(all.bytes());
        match source.part(lane, &part, left).await {
            Ok(Some(projected)) => {
                apart.through();
                all.add(projected);
            }
            Ok(None) if room.single => return untouched(source, lane, wanted.keys, room).await,
            Ok(None) => return Ok(None),
            Err(failure) => apart.refuse(part, failure)?,
        }
    }
    if apart.affects_all && apart.refused.iter().any(|(_, failure)| failure.is_slow()) {
        source.patience.nothing_got_through();
    }
    for (part, failure) in apart.refused {
        let outcome = Outcome::of(failure)?;
        if !project::can_be_sent(source.session, &part.keys).await? {
            let object = lane.name();
            tracing::warn!(
                object,
                "a target row is skipped: the source's encoding lacks a character of its external id"
            );
            continue;
        }
        let keys = match project::resolve(source.session, &lane.resolve, &part).await {
            // As the source writes them, which is how they are freed again.
            Ok(keys) => keys,
            Err(failure @ Failure::Reconnect(_)) => return Err(failure),
            Err(_) => part.keys,
        };
        refused.extend(keys.into_iter().map(|key| (key, outcome.clone())));
    }
    Ok(Some(Looked { projected: all, refused, too_many, ..Looked::default() }))
}

/// The keys that changes of other tables touch.
#[derive(Default)]
struct Touched {
    keys: Vec<String>,
    /// What was recorded and is no key.
    refused: Vec<(String, Outcome)>,
    /// Some cannot be found now: a table is locked, or has not the columns of before.
    unknown: bool,
}

/// Finds the keys that changes of other tables touch. A recorded key that does not fit its column (any more) is
/// parked as it was recorded, so that the others continue.
async fn touched_keys(
    source: SourceReader<'_>,
    lane: &Lane,
    wanted: &Wanted,
) -> Result<Touched, Failure> {
    let mut touched = Touched::default();
    let whole = Wanted { keys: Vec::new(), touches: wanted.touches.clone() };
    let mut apart = Apart::new(whole);
    while let Some(part) = apart.next_part() {
        if part.is_empty() || touched.keys.len() > MOST_TOUCHED {
            continue;
        }
        match project::resolve(source.session, &lane.resolve, &part).await {
            Ok(mut found) => {
                apart.through();
                touched.keys.append(&mut found);
            }
            // A resync of all rows replaces those that cannot be found.
            Err(Failure::Retry(_) | Failure::Blocked(_)) => touched.unknown = true,
            Err(failure) => apart.refuse(part, failure)?,
        }
    }
    for (part, failure) in apart.refused {
        let outcome = match Outcome::of(failure)? {
            Outcome::Dead(refusal) => Outcome::Dead(refusal.with_remedy(WRONG_KEYS)),
            outcome => outcome,
        };
        let recorded = part.touches.into_iter().flatten();
        touched.refused.extend(recorded.map(|key| (key, outcome.clone())));
    }
    Ok(touched)
}
