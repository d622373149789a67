//! Compares the source, as the mapping has it, with the target, and tells which keys are missing, differ or are left over.
//!
//! Promise: it writes nothing; its memory does not grow with the tables; and a key whose change is on its way, or
//! that is parked, is counted as such and not reported as wrong.
//!
//! Both sides are read in the order of the external ids, of each row only a print of its values. Keys whose prints
//! differ are looked at again, value by value, until they are right or nothing on its way explains the difference.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use crate::change::{self, InFlight};
use crate::db::{Session, Transaction};
use crate::failure::Failure;
use crate::mapping::OnDelete;
use crate::name::ident;
use crate::parked;
use crate::plan::Route;
use crate::project::{self, Wanted};

mod statements;

/// Rows of one fetch: a few megabytes, and some milliseconds' work for the server.
const FETCH: usize = 20_000;
/// So many suspected keys are looked at together.
const SUSPECTS: usize = 1_000;
/// A row may be changed, and its change applied, between the looks at the two sides. Such a key is right at the next
/// look, or in flight.
const LOOKS: u32 = 3;
/// Before the second look; twice as long before the third.
const PAUSE: Duration = Duration::from_millis(200);

/// A long comparison holds its transactions open while one side is still sorting.
const SETTINGS: [&str; 3] = [
    "set local idle_in_transaction_session_timeout = '1h'",
    // All rows are wanted, not the first few soon.
    "set local cursor_tuple_fraction = 1",
    "set local transaction_read_only = on",
];

/// One key that is not as it should be.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The object.
    pub object: String,
    /// The key; of a row that the source does not have, its external id.
    pub key: String,
    /// What is wrong.
    #[serde(flatten)]
    pub what: Wrong,
}

/// What is wrong with a key.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Wrong {
    /// The target has no row.
    Missing,
    /// The rows differ.
    Differing {
        /// In these columns.
        columns: Vec<Difference>,
    },
    /// The source publishes no such row, and `on_delete` says that the target should not have it either.
    Unexpected,
}

/// A column with what either side has.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The target's column.
    pub column: String,
    /// What the mapping makes of the source's row.
    pub source: Option<String>,
    /// What the target has, in the form in which it is compared.
    pub target: Option<String>,
}

/// What a comparison of one object has found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// The object.
    pub object: String,
    /// Rows that the source publishes.
    pub rows: u64,
    /// Of them, those that are right.
    pub equal: u64,
    /// Keys that the target lacks.
    pub missing: u64,
    /// Keys whose rows differ.
    pub differing: u64,
    /// Target rows that should not be there.
    pub unexpected: u64,
    /// Target rows that stay although their source is gone (`on_delete = "keep"`).
    pub kept: u64,
    /// Keys with a change that is not applied yet.
    pub in_flight: u64,
    /// Parked keys, by what they wait for or why they are parked.
    pub parked: BTreeMap<String, u64>,
    /// When the first of the missing and differing rows was last changed: what got past capture began by then.
    pub since: Option<Timestamp>,
}

impl Verdict {
    /// Whether there is something to mend.
    pub fn is_wrong(&self) -> bool {
        self.missing + self.differing + self.unexpected > 0
    }
}

/// The sessions of a comparison.
pub struct Sides {
    /// Holds a snapshot of the source while it is read.
    pub source: Session,
    /// The same of the target.
    pub target: Session,
    /// Looks again at single keys of the source.
    pub source_again: Session,
    /// The same of the target.
    pub target_again: Session,
}

/// Compares all rows of an object. `tell` is called with each finding, `progress` with the rows read so far.
pub async fn verify(
    sides: &mut Sides,
    route: &Route,
    mut tell: impl FnMut(Finding),
    progress: impl Fn(u64),
) -> Result<Verdict, Failure> {
    let Sides { source, target, source_again, target_again } = sides;
    let judge = Judge::new(source_again, target_again, route);
    let mut verdict = Verdict { object: route.object.name.clone(), ..Verdict::default() };
    let (source, target) = (source.begin().await?, target.begin().await?);
    let mut rows = Stream::open(&source, &statements::prints(route)).await?;
    let mut others = Stream::open(&target, &statements::target_prints(route)).await?;
    let mut suspects = Vec::new();
    // Whether the target has had the source's present row: with one that is right, or with another.
    let mut found: Option<bool> = None;
    loop {
        tokio::try_join!(rows.fill(), others.fill())?;
        match (rows.first(), others.first()) {
            (None, None) => break,
            (Some(row), Some(other)) if row.id == other.id => {
                let equal = row.print == other.print;
                found = Some(equal && found.unwrap_or(true));
                others.pass();
            }
            (Some(row), other) if other.is_none_or(|other| row.id < other.id) => {
                verdict.rows += 1;
                match found.take() {
                    Some(true) => verdict.equal += 1,
                    _ => suspects.push(row.clone()),
                }
                rows.pass();
                if verdict.rows.is_multiple_of(FETCH as u64) {
                    progress(verdict.rows);
                }
            }
            (_, Some(other)) => {
                match (route.object.update_only, route.object.on_delete) {
                    // Salesforce's own rows.
                    (true, _) => {}
                    (false, OnDelete::Keep) => verdict.kept += 1,
                    (false, OnDelete::Delete) => suspects.push(other.clone()),
                }
                others.pass();
            }
            (Some(_), None) => unreachable!("the arm before takes a row without another"),
        }
        if suspects.len() >= SUSPECTS {
            judge.settle(std::mem::take(&mut suspects), &mut verdict, &mut tell).await?;
        }
    }
    judge.settle(suspects, &mut verdict, &mut tell).await?;
    progress(verdict.rows);
    Ok(verdict)
}

/// A row of either side: which, and how its values look.
#[derive(Debug, Clone)]
struct Print {
    key: String,
    id: String,
    print: i64,
}

/// The rows of a cursor, a fetch at a time.
struct Stream<'a> {
    transaction: &'a Transaction<'a>,
    rows: VecDeque<Print>,
    ended: bool,
}

impl<'a> Stream<'a> {
    async fn open(transaction: &'a Transaction<'a>, sql: &str) -> Result<Self, Failure> {
        for setting in SETTINGS {
            transaction.execute(setting, &[]).await?;
        }
        transaction.execute(&format!("declare prints no scroll cursor for {sql}"), &[]).await?;
        Ok(Self { transaction, rows: VecDeque::new(), ended: false })
    }

    async fn fill(&mut self) -> Result<(), Failure> {
        if !self.rows.is_empty() || self.ended {
            return Ok(());
        }
        let rows = self.transaction.rows(&format!("fetch {FETCH} from prints"), &[]).await?;
        self.ended = rows.len() < FETCH;
        self.rows.extend(rows.iter().map(|row| Print {
            key: row.get("key"),
            id: row.get("id"),
            print: row.get("print"),
        }));
        Ok(())
    }

    fn first(&self) -> Option<&Print> {
        self.rows.front()
    }

    fn pass(&mut self) {
        self.rows.pop_front();
    }
}

/// Looks at single keys again, on sessions that see what is committed now.
struct Judge<'a> {
    source: &'a Session,
    target: &'a Session,
    route: &'a Route,
    /// The statements.
    values: String,
    target_values: String,
    resolve: String,
}

/// What a look at a key has found.
enum Look {
    Right,
    InFlight,
    Parked(String),
    Wrong(Wrong),
}

impl<'a> Judge<'a> {
    fn new(source: &'a Session, target: &'a Session, route: &'a Route) -> Self {
        Self {
            source,
            target,
            route,
            values: statements::values(route),
            target_values: statements::target_values(route),
            resolve: project::resolve_statement(route),
        }
    }

    /// Sorts suspected keys into what they are.
    async fn settle(
        &self,
        mut suspects: Vec<Print>,
        verdict: &mut Verdict,
        tell: &mut impl FnMut(Finding),
    ) -> Result<(), Failure> {
        let mut wrong = Vec::new();
        for look in 0..LOOKS {
            if suspects.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE * look).await;
            wrong.clear();
            for (suspect, found) in self.look(&suspects).await? {
                match found {
                    Look::Right => verdict.equal += 1,
                    Look::InFlight => verdict.in_flight += 1,
                    Look::Parked(why) => *verdict.parked.entry(why).or_default() += 1,
                    Look::Wrong(what) => wrong.push((suspect.clone(), what)),
                }
            }
            suspects = wrong.iter().map(|(suspect, _)| suspect.clone()).collect();
        }
        self.convict(wrong, verdict, tell).await
    }

    async fn convict(
        &self,
        wrong: Vec<(Print, Wrong)>,
        verdict: &mut Verdict,
        tell: &mut impl FnMut(Finding),
    ) -> Result<(), Failure> {
        let mut stale = Vec::new();
        for (suspect, what) in wrong {
            match &what {
                Wrong::Missing => verdict.missing += 1,
                Wrong::Differing { .. } => verdict.differing += 1,
                Wrong::Unexpected => verdict.unexpected += 1,
            }
            if !matches!(what, Wrong::Unexpected) {
                stale.push(suspect.key.clone());
            }
            let object = self.route.object.name.clone();
            tell(Finding { object, key: suspect.key, what });
        }
        let since = self.changed_since(&stale).await?;
        verdict.since = [verdict.since, since].into_iter().flatten().min();
        Ok(())
    }

    /// One look at each of the keys.
    async fn look<'s>(&self, suspects: &'s [Print]) -> Result<Vec<(&'s Print, Look)>, Failure> {
        let keys: Vec<String> = suspects.iter().map(|suspect| suspect.key.clone()).collect();
        let ids: Vec<String> = suspects.iter().map(|suspect| suspect.id.clone()).collect();
        let object = &self.route.object.name;
        // What is on its way during the looks at the rows is so before or after them, or changes the source's row.
        let was_in_flight = self.in_flight(&keys).await?;
        let rows = self.values(&keys).await?;
        let others = self.target.rows(&self.target_values, &[&ids]).await?;
        let others = by_id(&others);
        let in_flight = self.in_flight(&keys).await?;
        let parked = parked::of(self.source, object, &keys).await?;
        let rows_now = self.values(&keys).await?;
        let moving = |Print { key, id, .. }: &Print| {
            was_in_flight.has(key) || in_flight.has(key) || rows.get(id) != rows_now.get(id)
        };
        Ok(suspects
            .iter()
            .map(|suspect| {
                let found = match self.difference(rows.get(&suspect.id), others.get(&suspect.id)) {
                    None => Look::Right,
                    Some(_) if moving(suspect) => Look::InFlight,
                    Some(wrong) => match parked.get(&suspect.key) {
                        Some(why) => Look::Parked(why.clone()),
                        None => Look::Wrong(wrong),
                    },
                };
                (suspect, found)
            })
            .collect())
    }

    /// The source's rows. What cannot be a key of the source at all, as somebody may have written it into the target,
    /// has none.
    async fn values(&self, keys: &[String]) -> Result<HashMap<String, Values>, Failure> {
        let mut found = HashMap::new();
        let mut parts = vec![Wanted::of(keys.to_vec(), self.route.touches.len())];
        while let Some(part) = parts.pop() {
            match self.source.rows(&self.values, &part.parameters()).await.map_err(Failure::from) {
                Ok(rows) => found.extend(by_id(&rows)),
                Err(Failure::Dead(_)) => parts.extend(part.halves().into_iter().flatten()),
                Err(failure) => return Err(failure),
            }
        }
        Ok(found)
    }

    fn difference(&self, rows: Option<&Values>, others: Option<&Values>) -> Option<Wrong> {
        let (row, others) = match (rows.and_then(|rows| rows.first()), others) {
            (None, None) => return None,
            (None, Some(_)) => return Some(Wrong::Unexpected),
            (Some(_), None) => return Some(Wrong::Missing),
            (Some(row), Some(others)) => (row, others),
        };
        let columns =
            statements::compared(self.route).enumerate().filter_map(|(place, (_, column))| {
                let other = others.iter().find(|other| other[place] != row[place])?;
                Some(Difference {
                    column: column.field.column.clone(),
                    source: row[place].clone(),
                    target: other[place].clone(),
                })
            });
        let columns: Vec<Difference> = columns.collect();
        (!columns.is_empty()).then_some(Wrong::Differing { columns })
    }

    /// Which of the keys a change is on its way for, of their own row or of one that touches it.
    async fn in_flight(&self, keys: &[String]) -> Result<InFlight, Failure> {
        let own = change::in_flight(self.source, &self.route.object, keys).await?;
        let InFlight::Keys(mut moving) = own else { return Ok(InFlight::All) };
        let mut wanted = Wanted::none(self.route.touches.len());
        for (touch, recorded) in self.route.touches.iter().zip(&mut wanted.touches) {
            let object = &self.route.object.name;
            match change::touching(self.source, object, &touch.table).await? {
                Some(keys) => *recorded = keys,
                None => return Ok(InFlight::All),
            }
        }
        if !wanted.is_empty() {
            moving.extend(project::resolve(self.source, &self.resolve, &wanted).await?);
        }
        Ok(InFlight::Keys(moving))
    }

    /// When the first of these source rows was last changed, where the mapping names a column that tells.
    async fn changed_since(&self, keys: &[String]) -> Result<Option<Timestamp>, Failure> {
        let Some(since) = &self.route.object.since else { return Ok(None) };
        if keys.is_empty() {
            return Ok(None);
        }
        let sql = format!(
            "select min(source.{} at time zone 'UTC') from {} as source where source.{} = any ($1::text[]::{}[])",
            ident(since),
            self.route.object.source,
            ident(&self.route.object.key),
            self.route.key_type
        );
        Ok(self.source.row(&sql, &[&keys]).await?.get(0))
    }
}

/// The compared values of the rows with one external id: in the target there may be several.
type Values = Vec<Vec<Option<String>>>;

fn by_id(rows: &[Row]) -> HashMap<String, Values> {
    let mut found: HashMap<String, Values> = HashMap::new();
    for row in rows {
        found.entry(row.get("id")).or_default().push(row.get("values"));
    }
    found
}
