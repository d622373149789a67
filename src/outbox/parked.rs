//! Keys that could not be applied: parked with a reason, due again by the clock, an arrival or a human.
//!
//! Promise: no parked key is given up or hidden; waiting keys cost one look per interval, however
//! many there are. Sole owner of `schoolbell.parked` (the writing of it is part of
//! [`crate::outbox::change::acknowledge`]).

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::outbox::outcome::Outcome;
use crate::postgres::db::{Parameter, Session, Transaction};
use crate::postgres::failure::{Failure, Refusal};

const ANY: &str = include_str!("../../sql/parked_any.sql");
const DUE: &str = include_str!("../../sql/parked_due.sql");
const OF: &str = include_str!("../../sql/parked_of.sql");
const AWAITED: &str = include_str!("../../sql/parked_awaited.sql");
const AWAITED_EACH: &str = include_str!("../../sql/parked_awaited_each.sql");
const WAKE: &str = include_str!("../../sql/parked_wake.sql");
const LIST: &str = include_str!("../../sql/parked_list.sql");
const REASONS: &str = include_str!("../../sql/parked_reasons.sql");
const COUNTS: &str = include_str!("../../sql/parked_counts.sql");
const CHOSEN: &str = include_str!("../../sql/parked_chosen.sql");
const NOT_THERE: &str = include_str!("../../sql/parked_not_there.sql");
const RETRY: &str = include_str!("../../sql/parked_retry.sql");
const RESERVE: &str = include_str!("../../sql/parked_reserve.sql");
const CIRCLES: &str = include_str!("../../sql/parked_circles.sql");
const DROP: &str = include_str!("../../sql/parked_drop.sql");

/// What a human can do about a deletion that the brake holds.
const RELEASE: &str =
    "`parked retry` deletes the target row, `parked drop` keeps it; or bring the source row back";
/// What helps where rows are each other's parents.
const BREAK_CIRCLE: &str = "give one of these rows another parent, or none";
/// Most deadlocks are over by then.
const FIRST_RETRY_SECONDS: i32 = 1;
/// For a row that holds up all others for seconds at each attempt.
const SLOW_RETRY_SECONDS: i32 = 30;
/// A reason that the source refused to store is cut to this many characters.
const SIMPLE_REASON_CHARS: usize = 500;
/// A key that is reserved becomes due after this long, unless it was freed before.
const RESERVED_SECONDS: i32 = 60;

/// Before many rows are changed at once, in an order that the plan decides: with row locks alone,
/// an acknowledgement of the same keys could deadlock with it. With this lock the second waits for
/// the first.
const ALONE: &str = "lock table schoolbell.parked in share row exclusive mode";

/// A key to park, and why.
#[derive(Debug, Clone)]
pub struct Parking {
    pub(crate) object: String,
    pub(crate) key: String,
    pub(crate) state: &'static str,
    pub(crate) awaits: Option<String>,
    pub(crate) awaits_key: Option<String>,
    pub(crate) reason: String,
    pub(crate) sqlstate: Option<String>,
    pub(crate) remedy: Option<&'static str>,
    pub(crate) held: bool,
    /// Where it is retried by itself: for the first time after this many seconds.
    pub(crate) retry_seconds: i32,
}

impl Parking {
    /// What is parked of a key with this outcome; none if it needs no parking.
    pub fn of(object: &str, key: &str, outcome: &Outcome) -> Option<Self> {
        let (state, awaits, reason, refusal) = match outcome {
            Outcome::Waits { awaits, key } => (
                "waiting",
                Some((awaits.clone(), key.clone())),
                format!("waits for {awaits} {key}"),
                None,
            ),
            Outcome::Retries(refusal) => ("retrying", None, refusal.reason.clone(), Some(refusal)),
            Outcome::Dead(refusal) => ("dead", None, refusal.reason.clone(), Some(refusal)),
            Outcome::Held(reason) => ("dead", None, reason.clone(), None),
            Outcome::Updated | Outcome::Inserted | Outcome::Deleted | Outcome::Kept => return None,
        };
        let (awaits, awaits_key) = awaits.unzip();
        let held = matches!(outcome, Outcome::Held(_));
        Some(Self {
            object: object.into(),
            key: key.into(),
            state,
            awaits,
            awaits_key,
            reason,
            sqlstate: refusal.map(|refusal| refusal.sqlstate.clone()),
            remedy: held.then_some(RELEASE).or(refusal.map(|refusal| refusal.remedy)),
            held,
            retry_seconds: match refusal.is_some_and(Refusal::is_slow) {
                true => SLOW_RETRY_SECONDS,
                false => FIRST_RETRY_SECONDS,
            },
        })
    }

    /// The same without anything that the source may refuse: it is retried by the clock alone, and
    /// its reason is plain ASCII.
    pub fn simplify(&mut self) {
        if self.awaits.is_some() {
            self.state = "retrying";
        }
        (self.awaits, self.awaits_key) = (None, None);
        let escaped = self.reason.chars().flat_map(|character| match character.is_ascii() {
            true => vec![character],
            false => character.escape_unicode().collect(),
        });
        self.reason = escaped.take(SIMPLE_REASON_CHARS).collect();
    }
}

/// Finds keys that wait for each other, among them one of these that have just begun to wait for a row of their own
/// object; these become dead. Returns how many.
pub async fn circles(
    source: &Transaction<'_>,
    object: &str,
    awaits: &str,
    keys: &[&str],
) -> Result<usize, Failure> {
    Ok(source.rows(CIRCLES, &[&object, &awaits, &keys, &BREAK_CIRCLE]).await?.len())
}

/// Of these objects, those that have parked keys.
pub async fn objects(
    source: &Transaction<'_>,
    among: &[&str],
) -> Result<HashSet<String>, tokio_postgres::Error> {
    Ok(source.rows(ANY, &[&among]).await?.iter().map(|row| row.get("object")).collect())
}

/// A parked key that is due.
#[derive(Debug)]
pub struct Due {
    /// The object.
    pub object: String,
    /// The key, as it is parked.
    pub key: String,
    /// The brake held its deletion, and a human has released it.
    pub released: bool,
    /// Since when.
    pub since: Timestamp,
}

/// The parked keys of these objects that are due, of those that have become so after a moment; none where several of them
/// have more than this many bytes. `first` names objects whose rows are deleted, each with one whose rows must leave
/// before.
pub async fn due(
    source: &Session,
    bytes: usize,
    objects: &[&str],
    first: &[(&str, &str)],
    after: Option<Timestamp>,
    limit: i64,
) -> Result<Option<Vec<Due>>, Failure> {
    let (parents, children): (Vec<&str>, Vec<&str>) = first.iter().copied().unzip();
    let parameters: [&dyn Parameter; 5] = [&objects, &limit, &parents, &children, &after];
    let rows = source.rows_within(bytes, DUE, &parameters).await?;
    let due = |row: &tokio_postgres::Row| Due {
        object: row.get("object"),
        key: row.get("key"),
        released: row.get("released"),
        since: row.get("due_at"),
    };
    Ok(rows.map(|rows| rows.iter().map(due).collect()))
}

/// A place in the order of things that are waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Awaited {
    /// What kind of thing.
    pub awaits: String,
    /// Whose.
    pub key: String,
    /// Many keys wait for each thing, as far as was seen.
    is_shared: bool,
}

/// Where this many keys wait for one thing it is cheaper to look each thing up than to read what every key waits for.
const SHARED: usize = 5;

/// The next distinct things that are waited for after a place, by what they are, and where to continue.
/// The place is back at the beginning when the end was reached.
pub async fn awaited(
    source: &Session,
    after: &mut Awaited,
    limit: i32,
) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let sql = if after.is_shared { AWAITED } else { AWAITED_EACH };
    let rows = source.rows(sql, &[&after.awaits, &after.key, &limit]).await?;
    let mut page: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &rows {
        let (keys, key) = (page.entry(row.get("awaits")).or_default(), row.get("awaits_key"));
        // Equal ones follow each other.
        if keys.last() != Some(&key) {
            keys.push(key);
        }
    }
    let distinct: usize = page.values().map(Vec::len).sum();
    let is_shared = after.is_shared || distinct < rows.len() / SHARED;
    *after = match rows.last() {
        Some(row) if rows.len() as i64 >= i64::from(limit) => {
            Awaited { awaits: row.get("awaits"), key: row.get("awaits_key"), is_shared }
        }
        _ => Awaited::default(),
    };
    Ok(page)
}

/// Makes the keys due that waited for these; returns how many.
pub async fn wake(source: &Session, awaits: &str, keys: &[String]) -> Result<u64, Failure> {
    Ok(source.execute(WAKE, &[&awaits, &keys]).await?)
}

/// Of these keys of an object those that are parked, with the state and what it is about: the thing that is waited
/// for, or the reason.
pub async fn of(
    source: &Session,
    object: &str,
    keys: &[String],
) -> Result<HashMap<String, String>, tokio_postgres::Error> {
    let rows = source.rows(OF, &[&object, &keys]).await?;
    let why = |row: &tokio_postgres::Row| match row.get::<_, Option<&str>>("awaits") {
        Some(awaits) => format!("waiting for {awaits}"),
        None => format!("{}: {}", row.get::<_, &str>("state"), row.get::<_, &str>("reason")),
    };
    Ok(rows.iter().map(|row| (row.get("key"), why(row))).collect())
}

/// A parked key for a human.
#[derive(Debug, Clone, Serialize)]
pub struct Parked {
    /// The object.
    pub object: String,
    /// The key.
    pub key: String,
    /// `waiting`, `retrying` or `dead`.
    pub state: String,
    /// What it waits for, and whose.
    pub awaits: Option<String>,
    /// The key of what it waits for.
    pub awaits_key: Option<String>,
    /// When it is tried again, where that is known.
    pub due_at: Option<Timestamp>,
    /// Its deletion is held by the brake.
    pub held: bool,
    /// How often it was tried in this state.
    pub attempts: i32,
    /// Why.
    pub reason: String,
    /// The database's code for it.
    pub sqlstate: Option<String>,
    /// What a human can do.
    pub remedy: Option<String>,
    /// Since when.
    pub parked_at: Timestamp,
}

/// The chosen keys, the oldest first. `reason` is a part of the reason in either case, or a whole SQLSTATE.
pub async fn list(
    source: &Session,
    Choice { objects, keys, state }: Choice<'_>,
    reason: Option<&str>,
    limit: i64,
) -> Result<Vec<Parked>, tokio_postgres::Error> {
    let rows = source.rows(LIST, &[&objects, &keys, &state, &reason, &limit]).await?;
    Ok(rows
        .iter()
        .map(|row| Parked {
            object: row.get("object"),
            key: row.get("key"),
            state: row.get("state"),
            awaits: row.get("awaits"),
            awaits_key: row.get("awaits_key"),
            // `infinity`, set by hand, is no time that we could show.
            due_at: row.try_get("due_at").unwrap_or_default(),
            held: row.get("held"),
            attempts: row.get("attempts"),
            reason: row.get("reason"),
            sqlstate: row.get("sqlstate"),
            remedy: row.get("remedy"),
            parked_at: row.get("parked_at"),
        })
        .collect())
}

/// How many keys of an object are parked in a state.
#[derive(Debug, Clone, Serialize)]
pub struct Count {
    /// The object.
    pub object: String,
    /// The state.
    pub state: String,
    /// How many.
    pub keys: i64,
    /// How many of them are deletions that the brake holds.
    pub held: i64,
    /// Since when the oldest.
    pub oldest: Timestamp,
}

/// Counts the parked keys by object and state.
pub async fn counts(source: &Session) -> Result<Vec<Count>, tokio_postgres::Error> {
    Ok(source.rows(COUNTS, &[]).await?.iter().map(count).collect())
}

/// Keys of an object that are parked in the same state for the same reason.
#[derive(Debug, Clone, Serialize)]
pub struct Reason {
    /// The object.
    pub object: String,
    /// The state.
    pub state: String,
    /// What they wait for.
    pub awaits: Option<String>,
    /// The database's code for why they were refused.
    pub sqlstate: Option<String>,
    /// The database's own words for it; none where they may quote a row.
    pub reason: Option<String>,
    /// What a human can do.
    pub remedy: Option<String>,
    /// How many.
    pub keys: i64,
    /// Since when the oldest.
    pub oldest: Timestamp,
    /// The oldest.
    pub oldest_key: String,
}

/// Parked keys by reason.
#[derive(Debug, Clone, Default)]
pub struct Reasons {
    /// The first groups: those with dead keys, then the largest.
    pub groups: Vec<Reason>,
    /// How many groups there are.
    pub all: i64,
}

/// Groups what is parked by its reason; at most `limit` groups are reported. Reads every parked key once.
pub async fn reasons(source: &Session, limit: i64) -> Result<Reasons, tokio_postgres::Error> {
    let rows = source.rows(REASONS, &[&limit]).await?;
    let group = |row: &tokio_postgres::Row| Reason {
        object: row.get("object"),
        state: row.get("state"),
        awaits: row.get("awaits"),
        sqlstate: row.get("sqlstate"),
        reason: row.get("reason"),
        remedy: row.get("remedy"),
        keys: row.get("keys"),
        oldest: row.get("oldest"),
        oldest_key: row.get("oldest_key"),
    };
    Ok(Reasons {
        groups: rows.iter().map(group).collect(),
        all: rows.first().map_or(0, |row| row.get("groups")),
    })
}

/// Which parked keys a human means; each part `None` for any.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice<'a> {
    /// Of these objects.
    pub objects: Option<&'a [String]>,
    /// These keys, as they are parked.
    pub keys: Option<&'a [String]>,
    /// In this state.
    pub state: Option<&'a str>,
}

/// What a choice means at a moment.
#[derive(Debug)]
pub struct Chosen {
    /// By object and state, with the first few keys of each.
    pub parts: Vec<(Count, Vec<String>)>,
    /// When it was looked at; none when there was nothing.
    pub seen_at: Option<Timestamp>,
}

/// Looks up what a choice means; at most `few` keys of each object and state are named. It waits
/// for a transaction that is parking keys at that moment, so these are seen, too.
pub async fn chosen(
    source: &mut Session,
    choice: Choice<'_>,
    few: i64,
) -> Result<Chosen, tokio_postgres::Error> {
    let Choice { objects, keys, state } = choice;
    let transaction = source.begin().await?;
    lock(&transaction).await?;
    let rows = transaction.rows(CHOSEN, &[&objects, &keys, &state, &few]).await?;
    transaction.commit().await?;
    let parts = rows.iter().map(|row| (count(row), row.get("first_keys"))).collect();
    Ok(Chosen { parts, seen_at: rows.first().map(|row| row.get("seen_at")) })
}

/// Of these keys, those that are not parked.
pub async fn not_there(
    source: &Session,
    objects: Option<&[String]>,
    keys: &[String],
) -> Result<Vec<String>, tokio_postgres::Error> {
    let rows = source.rows(NOT_THERE, &[&objects, &keys]).await?;
    Ok(rows.iter().map(|row| row.get("key")).collect())
}

/// Keeps others from the parked keys until the transaction ends.
pub async fn lock(source: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    source.execute(ALONE, &[]).await.map(|_| ())
}

/// Makes all keys of an object due, in a transaction that has the [`lock`]: each must be looked at
/// again. Deletions that the brake holds stay held.
pub async fn all_due(source: &Transaction<'_>, object: &str) -> Result<(), tokio_postgres::Error> {
    let (objects, any_key, any_state) = (vec![object], None::<Vec<String>>, None::<String>);
    source.rows(RETRY, &[&objects, &any_key, &any_state, &None::<Timestamp>]).await.map(|_| ())
}

/// Makes the chosen keys due now, whatever their state; returns what was chosen. Deletions that the brake held by
/// `release` are released; without it none is.
pub async fn retry(
    source: &mut Session,
    choice: Choice<'_>,
    release: Option<Timestamp>,
) -> Result<Vec<Count>, tokio_postgres::Error> {
    let Choice { objects, keys, state } = choice;
    let transaction = source.begin().await?;
    lock(&transaction).await?;
    let rows = transaction.rows(RETRY, &[&objects, &keys, &state, &release]).await?;
    transaction.commit().await?;
    Ok(rows.iter().map(count).collect())
}

/// Makes sure that these keys become due by themselves. Called before their target rows are deleted
/// to be written again.
pub async fn reserve(source: &Session, object: &str, keys: &[String]) -> Result<(), Failure> {
    source.execute(RESERVE, &[&object, &keys, &RESERVED_SECONDS]).await?;
    Ok(())
}

/// Forgets the chosen keys, but none that was parked after `seen_at`; returns what was forgotten.
pub async fn forget(
    source: &mut Session,
    choice: Choice<'_>,
    seen_at: Timestamp,
) -> Result<Vec<Count>, tokio_postgres::Error> {
    let Choice { objects, keys, state } = choice;
    let transaction = source.begin().await?;
    lock(&transaction).await?;
    let rows = transaction.rows(DROP, &[&objects, &keys, &state, &seen_at]).await?;
    transaction.commit().await?;
    Ok(rows.iter().map(count).collect())
}

fn count(row: &tokio_postgres::Row) -> Count {
    Count {
        object: row.get("object"),
        state: row.get("state"),
        keys: row.get("keys"),
        held: row.get("held"),
        oldest: row.get("oldest"),
    }
}
