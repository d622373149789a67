//! Looks again at keys that differ, until they are right, or nothing on its way explains the difference.
//!
//! Promise: a key is reported as wrong only when both sides had the same rows before and after the
//! outbox and the parked keys were read, repeatedly, or while nothing at all was written in the
//! source.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_postgres::Row;

use super::statements::{self, ComparisonSql};
use super::{ColumnDifference, RowFinding, What, count};
use crate::mapping::OnDelete;
use crate::outbox::change::{self, InFlight};
use crate::outbox::parked;
use crate::outbox::resync;
use crate::outbox::verified::Comparison;
use crate::plan::Route;
use crate::postgres::apart::{Apart, Parts};
use crate::postgres::db::{Evaluator, Session};
use crate::postgres::failure::{self, Failure};
use crate::postgres::name::ident;
use crate::project::{self, BATCH_BYTES, Wanted};

/// This many keys are looked at together: a look reads the whole outbox once, which may hold millions.
const TOGETHER: usize = 20_000;
/// This much of a value is reported: enough to see what it is about.
const SHOWN_CHARS: usize = 40;
/// This many wrong rows' values are read together, at most.
const VALUES: usize = 500;
/// A row may be changed, and its change applied, between the looks at the two sides. Such a key is right at the next
/// look, or in flight.
const LOOKS: u32 = 3;
/// Between two looks at a key: longer than a batch takes from its claim to its acknowledgement.
const PAUSE: Duration = Duration::from_millis(300);
/// Source rows are read in smaller parts where they take longer than this: one slow row must be
/// alone in the end.
const PART_LIMIT: Duration = Duration::from_secs(5);
/// For each row, on top of that.
const LIMIT_PER_ROW: Duration = Duration::from_millis(2);

/// Changes when a transaction that writes begins or ends anywhere in the cluster.
const SNAPSHOT: &str = "select pg_catalog.pg_current_snapshot()::text";

/// A row of either side: which, and how its values look.
#[derive(Debug, Clone)]
pub struct Print {
    /// Its key; of a target row, its external id.
    pub key: String,
    /// Its external id as text.
    pub id: String,
    /// How its compared values look.
    pub print: Marks,
}

/// How compared values look.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marks {
    /// The same number where the values are the same.
    plain: i64,
    /// The same of each encrypted value; none where Salesforce has masked it.
    encrypted: Vec<Option<i64>>,
}

impl Marks {
    fn of(row: &Row) -> Self {
        Self { plain: row.get("print"), encrypted: row.get("encrypted") }
    }

    /// Whether a target row is right. What is masked is never a difference.
    pub fn fit(&self, other: &Self) -> bool {
        let mut encrypted = self.encrypted.iter().zip(&other.encrypted);
        self.plain == other.plain
            && encrypted.all(|(source, target)| target.is_none() || source == target)
    }
}

impl From<&Row> for Print {
    fn from(row: &Row) -> Self {
        Self { key: row.get("key"), id: row.get("id"), print: Marks::of(row) }
    }
}

/// A key that was not found to be equal.
#[derive(Debug, Clone)]
pub struct Suspect {
    /// Its key; of a row that only the target has, its external id.
    pub key: String,
    /// Its external id as text.
    pub id: String,
    /// Only the target had it.
    pub in_target_only: bool,
}

/// The judge of one object: collects suspects and reports those that are wrong.
pub struct Judge<'a> {
    /// Looks at the source's rows as the mapping has them.
    pub source: &'a Evaluator,
    /// Looks at what is on its way and what is parked.
    pub books: &'a Session,
    /// Looks at the target.
    pub target: &'a Session,
    route: &'a Route,
    /// The statements of its object.
    pub statements: &'a ComparisonSql,
    told: mpsc::Sender<RowFinding>,
    /// Whether kept rows are reported, too, or only counted.
    pub names_kept: bool,
    fresh: Vec<Suspect>,
    waiting: VecDeque<Waiting>,
    /// What was found so far.
    pub verdict: Comparison,
}

/// Keys that looked wrong while something moved: they are looked at again.
struct Waiting {
    suspects: Vec<Suspect>,
    looks: u32,
    due: Instant,
}

/// Whether the target's row goes with the source's.
fn deletes(route: &Route) -> bool {
    route.object.on_delete == OnDelete::Delete
}

/// How a key looks on the source.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SourceMarks {
    /// There is no published row.
    Absent,
    Print(Marks),
    /// The source refuses to compute the row's values: the database's message.
    Unreadable(String),
}

/// How a key looks on both sides.
#[derive(Debug, PartialEq, Eq)]
struct Sight {
    row: SourceMarks,
    /// In the target there may be several rows with one external id.
    others: Vec<Marks>,
}

impl Sight {
    fn is_right(&self) -> bool {
        match &self.row {
            SourceMarks::Absent => self.others.is_empty(),
            SourceMarks::Print(print) => {
                !self.others.is_empty() && self.others.iter().all(|other| print.fit(other))
            }
            SourceMarks::Unreadable(_) => false,
        }
    }
}

/// What a look at a key has found, where it is not right.
enum KeyState {
    Moving,
    InFlight,
    Parked(String),
    Wrong(Sight),
}

impl<'a> Judge<'a> {
    /// Looks through these sessions; none of them is in a transaction.
    pub fn new(
        source: &'a Evaluator,
        books: &'a Session,
        target: &'a Session,
        route: &'a Route,
        statements: &'a ComparisonSql,
        told: mpsc::Sender<RowFinding>,
    ) -> Self {
        let verdict = Comparison { object: route.object.name.clone(), ..Comparison::default() };
        Self {
            source,
            books,
            target,
            route,
            statements,
            told,
            names_kept: false,
            fresh: Vec::new(),
            waiting: VecDeque::new(),
            verdict,
        }
    }

    /// Takes a key that is not equal.
    pub async fn suspect(&mut self, suspect: Suspect) -> Result<(), Failure> {
        self.fresh.push(suspect);
        if self.fresh.len() < TOGETHER {
            return Ok(());
        }
        // Keys that were put off have waited long enough when the next keys arrive; otherwise the
        // reading waits for them.
        while self.waiting.front().is_some_and(|first| first.due <= Instant::now())
            || self.waiting_keys() >= TOGETHER
        {
            self.look_at_waiting().await?;
        }
        let fresh = std::mem::take(&mut self.fresh);
        self.look_at(fresh, 1).await
    }

    /// Takes a row that stays although its source is gone.
    pub async fn keep(&mut self, key: String) {
        match self.names_kept {
            true => self.tell(key, What::Kept).await,
            false => count(&mut self.verdict, &What::Kept),
        }
    }

    async fn tell(&mut self, key: String, what: What) {
        count(&mut self.verdict, &what);
        let object = self.route.object.name.clone();
        // Nobody listens any more; the counts are still right.
        _ = self.told.send(RowFinding { object, key, what }).await;
    }

    /// Looks at what is left, until each key is decided.
    pub async fn settle(&mut self) -> Result<(), Failure> {
        let fresh = std::mem::take(&mut self.fresh);
        self.look_at(fresh, 1).await?;
        while !self.waiting.is_empty() {
            self.look_at_waiting().await?;
        }
        Ok(())
    }

    fn waiting_keys(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.suspects.len()).sum()
    }

    async fn look_at_waiting(&mut self) -> Result<(), Failure> {
        let Some(Waiting { suspects, looks, due }) = self.waiting.pop_front() else {
            return Ok(());
        };
        tokio::time::sleep_until(due).await;
        self.look_at(suspects, looks + 1).await
    }

    async fn look_at(&mut self, suspects: Vec<Suspect>, look: u32) -> Result<(), Failure> {
        if suspects.is_empty() {
            return Ok(());
        }
        let before = self.snapshot().await?;
        let found = self.look(suspects).await?;
        // Then either side is as it was all the time, and so it is when it is looked at again.
        let nothing_stirs = before == self.snapshot().await?;
        tracing::debug!(
            object = self.route.object.name,
            keys = found.len(),
            look,
            nothing_stirs,
            "keys that differ were looked at again"
        );
        let (mut wrong, mut again) = (Vec::new(), Vec::new());
        for (suspect, found) in found {
            match found {
                KeyState::InFlight => self.verdict.in_flight += 1,
                KeyState::Parked(why) => *self.verdict.parked.entry(why).or_default() += 1,
                KeyState::Wrong(sight) if nothing_stirs || look >= LOOKS => {
                    wrong.push((suspect, sight));
                }
                // A key that still changes at the end is counted as in flight.
                KeyState::Moving if look >= LOOKS => self.verdict.in_flight += 1,
                KeyState::Wrong(_) | KeyState::Moving => again.push(suspect),
            }
        }
        let mut parts: Vec<&[(Suspect, Sight)]> = wrong.chunks(VALUES).rev().collect();
        while let Some(part) = parts.pop() {
            match self.values(part).await? {
                Some(values) => again.extend(self.convict(part, values).await?),
                None => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        if !again.is_empty() {
            // Keys that were judged wrong and then changed may be looked at once more than others.
            let looks = look.min(LOOKS - 1);
            self.waiting.push_back(Waiting { suspects: again, looks, due: Instant::now() + PAUSE });
        }
        Ok(())
    }

    /// Whether the key is found right, with nothing on its way.
    pub async fn is_settled(&self, key: &str) -> Result<bool, Failure> {
        let suspect = Suspect { key: key.into(), id: key.into(), in_target_only: false };
        let keys = [key.to_string()];
        let in_flight = self.in_flight(&keys).await?.has(key);
        let parked = !parked::of(self.books, &self.route.object.name, &keys).await?.is_empty();
        Ok(!in_flight && !parked && self.sights(&[suspect]).await?[0].is_right())
    }

    /// Reports a key that was counted as right.
    pub async fn contradict(&mut self, key: String, what: What) {
        self.verdict.equal = self.verdict.equal.saturating_sub(1);
        self.tell(key, what).await;
    }

    /// One look at each of the keys; those that are right are counted.
    async fn look(&mut self, suspects: Vec<Suspect>) -> Result<Vec<(Suspect, KeyState)>, Failure> {
        let sights = self.sights(&suspects).await?;
        let mut doubtful = Vec::new();
        for (suspect, sight) in suspects.into_iter().zip(sights) {
            match sight.is_right() {
                // A row that only the target had was not counted among the source's rows.
                true => self.verdict.equal += u64::from(!suspect.in_target_only),
                false => doubtful.push((suspect, sight)),
            }
        }
        if doubtful.is_empty() {
            return Ok(Vec::new());
        }
        let (suspects, sights): (Vec<Suspect>, Vec<Sight>) = doubtful.into_iter().unzip();
        let keys: Vec<String> = suspects.iter().map(|suspect| suspect.key.clone()).collect();
        // A change that was on its way during the first sight is so now, or the target has changed since.
        let in_flight = self.in_flight(&keys).await?;
        let parked = parked::of(self.books, &self.route.object.name, &keys).await?;
        let sights_now = self.sights(&suspects).await?;
        let looks = suspects.into_iter().zip(sights.into_iter().zip(sights_now));
        Ok(looks
            .map(|(suspect, (sight, now))| {
                let found = match parked.get(&suspect.key) {
                    _ if in_flight.has(&suspect.key) => KeyState::InFlight,
                    _ if sight != now => KeyState::Moving,
                    Some(why) => KeyState::Parked(why.clone()),
                    None => KeyState::Wrong(now),
                };
                (suspect, found)
            })
            .collect())
    }

    /// How the keys look on both sides at this moment.
    async fn sights(&self, suspects: &[Suspect]) -> Result<Vec<Sight>, Failure> {
        let keys = suspects.iter().map(|suspect| suspect.key.clone()).collect();
        let ids: Vec<String> = suspects.iter().map(|suspect| suspect.id.clone()).collect();
        let (rows, others) = tokio::try_join!(
            read_apart(self.source, self.route, self.statements, &self.statements.prints_of, keys),
            target_prints(self.target, self.statements, &ids),
        )?;
        let prints: HashMap<&str, Marks> =
            rows.found.iter().map(|row| (row.get("id"), Marks::of(row))).collect();
        let sight = |suspect: &Suspect| Sight {
            row: match (prints.get(suspect.id.as_str()), rows.unreadable.get(&suspect.key)) {
                (Some(print), _) => SourceMarks::Print(print.clone()),
                (None, Some(why)) => SourceMarks::Unreadable(why.clone()),
                (None, None) => SourceMarks::Absent,
            },
            others: others.get(&suspect.id).cloned().unwrap_or_default(),
        };
        Ok(suspects.iter().map(sight).collect())
    }

    /// The values of rows that differ, of either side; none where several rows have too many bytes.
    async fn values(&self, wrong: &[(Suspect, Sight)]) -> Result<Option<[Values; 2]>, Failure> {
        let differs =
            |sight: &Sight| matches!(sight.row, SourceMarks::Print(_)) && !sight.others.is_empty();
        let differing = || wrong.iter().filter(|(_, sight)| differs(sight));
        let keys: Vec<String> = differing().map(|(suspect, _)| suspect.key.clone()).collect();
        let ids: Vec<String> = differing().map(|(suspect, _)| suspect.id.clone()).collect();
        if keys.is_empty() {
            return Ok(Some([HashMap::new(), HashMap::new()]));
        }
        let bytes = if wrong.len() == 1 { usize::MAX } else { BATCH_BYTES };
        let ComparisonSql { values, target_values, .. } = self.statements;
        let (rows, others) = tokio::try_join!(
            read_within(bytes, self.source, self.route, self.statements, values, keys),
            async {
                match self.target.rows_within(bytes, target_values, &[&ids]).await {
                    Err(error) if failure::is_unfit(&error) => {
                        rows_by_id(self.target, target_values, &ids).await.map(Some)
                    }
                    rows => Ok(rows?),
                }
            },
        )?;
        Ok(rows.zip(others).map(|(rows, others)| [by_id(&rows.found), by_id(&others)]))
    }

    /// Reports keys that are wrong, with what differs; returns those that have changed since they
    /// were looked at.
    async fn convict(
        &mut self,
        wrong: &[(Suspect, Sight)],
        [rows, others]: [Values; 2],
    ) -> Result<Vec<Suspect>, Failure> {
        let (mut again, mut stale) = (Vec::new(), Vec::new());
        for (suspect, sight) in wrong {
            let what = match &sight.row {
                // Its source row has left since the first look, and the target's may stay.
                SourceMarks::Absent if !deletes(self.route) => {
                    if !self.route.object.update_only {
                        self.keep(suspect.key.clone()).await;
                    }
                    continue;
                }
                SourceMarks::Absent => What::Unexpected,
                SourceMarks::Unreadable(reason) => What::Unreadable { reason: reason.clone() },
                SourceMarks::Print(_) if sight.others.is_empty() => What::Missing,
                SourceMarks::Print(print) => {
                    let (row, others) = (rows.get(&suspect.id), others.get(&suspect.id));
                    match differences(self.route, print, row, &sight.others, others) {
                        Some(columns) => What::Differing { columns },
                        None => {
                            again.push(suspect.clone());
                            continue;
                        }
                    }
                }
            };
            if !matches!(what, What::Unexpected) {
                stale.push(suspect.key.clone());
            }
            self.tell(suspect.key.clone(), what).await;
        }
        let since = self.changed_since(&stale).await?;
        self.verdict.since = [self.verdict.since, since].into_iter().flatten().min();
        Ok(again)
    }

    async fn snapshot(&self) -> Result<String, Failure> {
        Ok(self.books.row(SNAPSHOT, &[]).await?.get(0))
    }

    /// Which of the keys a change is on its way for, of their own row or of one that touches it.
    async fn in_flight(&self, keys: &[String]) -> Result<InFlight, Failure> {
        let own = change::in_flight(self.books, &self.route.object, keys).await?;
        let InFlight::Keys(mut moving) = own else { return Ok(InFlight::All) };
        if resync::is_owed(self.books, &self.route.object).await? {
            return Ok(InFlight::All);
        }
        let mut wanted = Wanted::none(self.route.touches.len());
        for (touch, recorded) in self.route.touches.iter().zip(&mut wanted.touches) {
            let object = &self.route.object.name;
            match change::touching(self.books, object, &touch.table).await? {
                Some(keys) => *recorded = keys,
                None => return Ok(InFlight::All),
            }
        }
        if !wanted.is_empty() {
            let resolve = &self.statements.resolve;
            moving.extend(project::resolve(self.source, resolve, &wanted).await?);
        }
        Ok(InFlight::Keys(moving))
    }

    /// When the first of these source rows was last changed, where the mapping names a column that tells.
    async fn changed_since(&self, keys: &[String]) -> Result<Option<Timestamp>, Failure> {
        let Some(since) = &self.route.object.since else { return Ok(None) };
        if keys.is_empty() {
            return Ok(None);
        }
        let key_type = &self.route.key_type;
        let key = format!("source.{}", ident(&self.route.object.key));
        let sql = format!(
            "select min({}) from {} as source where {}",
            project::changed_at(since),
            self.route.object.source,
            key_type.equal_any(&key, &format!("$1::text[]::{key_type}[]"))
        );
        Ok(self.books.row(&sql, &[&keys]).await?.get(0))
    }
}

/// Source rows that were asked for by key.
#[derive(Default)]
pub struct Found {
    /// Those that could be read.
    pub found: Vec<Row>,
    /// Why the others could not, by key.
    pub unreadable: HashMap<String, String>,
}

/// Reads the rows with these keys; where the source refuses a row's values, finds that row and continues without it. What
/// cannot be a key of the source at all, as somebody may have written it into the target, has no row.
pub async fn read_apart(
    source: &Evaluator,
    route: &Route,
    statements: &ComparisonSql,
    sql: &str,
    keys: Vec<String>,
) -> Result<Found, Failure> {
    let found = read_within(usize::MAX, source, route, statements, sql, keys);
    Ok(found.await?.unwrap_or_default())
}

/// How long the source may take to read this many rows.
pub fn limit_of(rows: usize) -> Duration {
    PART_LIMIT + LIMIT_PER_ROW.saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX))
}

/// The same; none where several rows have more than this many bytes.
async fn read_within(
    bytes: usize,
    source: &Evaluator,
    route: &Route,
    statements: &ComparisonSql,
    sql: &str,
    keys: Vec<String>,
) -> Result<Option<Found>, Failure> {
    let whole = Wanted::of(keys, route.touches.len());
    let (mut apart, mut all) = (Apart::new(whole), Found::default());
    while let Some(part) = apart.next_part() {
        let read: usize = all.found.iter().map(Row::raw_size_bytes).sum();
        let (limit, bytes) = (limit_of(part.count()), bytes.saturating_sub(read));
        match source.rows_within_briefly(limit, bytes, sql, &part.parameters()).await {
            Ok(None) => return Ok(None),
            Ok(Some(rows)) => {
                apart.through();
                all.found.extend(rows);
            }
            Err(error) => apart.refuse(part, error.into())?,
        }
    }
    for (part, failure) in apart.refused {
        let Some(refusal) = failure.refusal().filter(|_| !apart.affects_all) else {
            return Err(failure);
        };
        match project::resolve(source, &statements.resolve, &part).await {
            Ok(_) => {
                let reason = format!("{} ({})", refusal.reason, refusal.sqlstate);
                all.unreadable.extend(part.keys.into_iter().map(|key| (key, reason.clone())));
            }
            Err(Failure::Dead(_)) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(Some(all))
}

/// The target rows with these external ids. What the target cannot hold is not there.
async fn rows_by_id(target: &Session, sql: &str, ids: &[String]) -> Result<Vec<Row>, Failure> {
    let (mut apart, mut found) = (Apart::new(0..ids.len()), Vec::new());
    while let Some(part) = apart.next_part() {
        match target.rows(sql, &[&&ids[part.clone()]]).await {
            Ok(rows) => {
                apart.through();
                found.extend(rows);
            }
            Err(error) if failure::is_unfit(&error) => apart.refuse(part, error.into())?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// The prints of target rows by their external ids.
pub async fn target_prints(
    target: &Session,
    statements: &ComparisonSql,
    ids: &[String],
) -> Result<HashMap<String, Vec<Marks>>, Failure> {
    let mut prints: HashMap<String, Vec<Marks>> = HashMap::new();
    for row in rows_by_id(target, &statements.target_prints_of, ids).await? {
        prints.entry(row.get("id")).or_default().push(Marks::of(&row));
    }
    // Two looks at the same rows must look the same.
    prints.values_mut().for_each(|prints| prints.sort_unstable());
    Ok(prints)
}

/// A row's compared values, and their print.
struct RowValues {
    values: Vec<Option<String>>,
    print: Marks,
}

/// The values of rows by their external ids.
type Values = HashMap<String, Vec<RowValues>>;

fn by_id(rows: &[Row]) -> Values {
    let mut found = Values::new();
    for row in rows {
        let values = RowValues { values: row.get("values"), print: Marks::of(row) };
        found.entry(row.get("id")).or_default().push(values);
    }
    found
}

/// The columns that differ; none when the rows are not those any more that were looked at.
fn differences(
    route: &Route,
    print: &Marks,
    row: Option<&Vec<RowValues>>,
    prints: &[Marks],
    others: Option<&Vec<RowValues>>,
) -> Option<Vec<ColumnDifference>> {
    let row = row?.first().filter(|row| row.print == *print)?;
    let others = others?;
    let seen: HashSet<&Marks> = prints.iter().collect();
    if others.iter().map(|other| &other.print).collect::<HashSet<&Marks>>() != seen {
        return None;
    }
    let columns = statements::compared(route).enumerate().filter_map(|(place, (_, column))| {
        let differs = |other: &&RowValues| {
            other.values[place] != row.values[place]
                && !project::is_masked(column, other.values[place].as_deref())
        };
        let other = others.iter().find(differs)?;
        Some(ColumnDifference {
            column: column.field.column.clone(),
            source: row.values[place].as_deref().map(shortened),
            target: other.values[place].as_deref().map(shortened),
        })
    });
    Some(columns.collect())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
