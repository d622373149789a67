//! Reads both sides at once, each in the order of the external ids, and passes on what is not equal.
//!
//! Promise: every row of either side is seen once, as it was when the reading began, whatever is written meanwhile.

use std::collections::VecDeque;

use super::judge::{Judge, Print, Suspect};
use crate::mapping::OnDelete;
use crate::plan::Route;
use crate::postgres::db::Transaction;
use crate::postgres::failure::Failure;

/// Rows of one fetch: a few megabytes, and some milliseconds' work for the server.
pub const FETCH: usize = 20_000;

/// A long comparison holds its transactions open while one side is still sorting.
const SETTINGS: [&str; 3] = [
    "set local idle_in_transaction_session_timeout = '1h'",
    // All rows are wanted, not the first few soon.
    "set local cursor_tuple_fraction = 1",
    "set local transaction_read_only = on",
];

/// How far both sides were read when the source refused a row's values.
#[derive(Debug, Default)]
pub struct Frontier {
    source: Reached,
    target: Reached,
}

impl Frontier {
    /// Whether a source row was dealt with.
    pub fn has_row(&self, id: &str) -> bool {
        self.source.has(id)
    }

    /// Whether a row that only the target has was.
    pub fn has_other(&self, id: &str) -> bool {
        self.target.has(id)
    }
}

/// An external id up to which all were dealt with.
#[derive(Debug, Default)]
enum Reached {
    #[default]
    Nothing,
    Before(String),
    UpTo(String),
}

impl Reached {
    fn has(&self, id: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Before(next) => id < next.as_str(),
            Self::UpTo(last) => id <= last.as_str(),
        }
    }
}

/// Compares all rows; returns how far it came where the source refuses a row's values.
pub async fn merge(
    source: &Transaction<'_>,
    target: &Transaction<'_>,
    route: &Route,
    judge: &mut Judge<'_>,
    progress: &impl Fn(u64),
) -> Result<Option<Frontier>, Failure> {
    let statements = judge.statements;
    let mut others = Stream::open(target, &statements.target_prints).await?;
    let mut rows = match Stream::open(source, &statements.prints).await {
        Err(failure @ Failure::Reconnect(_)) => return Err(failure),
        // Some row of this fetch is refused; which one is not known.
        Err(_) => return Ok(Some(Frontier::default())),
        Ok(rows) => rows,
    };
    // Whether the target has had the source's present row: with one that is right, or with another.
    let mut found: Option<bool> = None;
    loop {
        let (filled, others_filled) = tokio::join!(rows.fill(), others.fill());
        others_filled?;
        match filled {
            Err(failure @ Failure::Reconnect(_)) => return Err(failure),
            Err(_) => {
                return Ok(Some(Frontier { source: rows.reached(), target: others.reached() }));
            }
            Ok(()) => {}
        }
        match (rows.first(), others.first()) {
            (None, None) => return Ok(None),
            (Some(row), Some(other)) if row.id == other.id => {
                let equal = row.print.fit(&other.print);
                found = Some(equal && found.unwrap_or(true));
                others.pass();
            }
            (Some(row), other) if other.is_none_or(|other| row.id < other.id) => {
                judge.verdict.rows += 1;
                match found.take() {
                    Some(true) => judge.verdict.equal += 1,
                    _ => {
                        let Print { key, id, .. } = row.clone();
                        judge.suspect(Suspect { key, id, in_target_only: false }).await?;
                    }
                }
                rows.pass();
                if judge.verdict.rows.is_multiple_of(FETCH as u64) {
                    progress(judge.verdict.rows);
                }
            }
            (_, Some(other)) => {
                let id = other.id.clone();
                in_target_only(route, id, judge).await?;
                others.pass();
            }
            (Some(_), None) => unreachable!("the arm before takes a row without another"),
        }
    }
}

/// Decides what a row means that only the target has.
pub async fn in_target_only(
    route: &Route,
    id: String,
    judge: &mut Judge<'_>,
) -> Result<(), Failure> {
    match (route.object.update_only, route.object.on_delete) {
        // Salesforce's own rows.
        (true, _) => Ok(()),
        (false, OnDelete::Keep) => {
            judge.keep(id).await;
            Ok(())
        }
        (false, OnDelete::Delete) => {
            judge.suspect(Suspect { key: id.clone(), id, in_target_only: true }).await
        }
    }
}

/// The rows of a cursor, a fetch at a time.
struct Stream<'a> {
    transaction: &'a Transaction<'a>,
    rows: VecDeque<Print>,
    ended: bool,
    /// The external id of the last fetch that was passed.
    last: Option<String>,
}

impl<'a> Stream<'a> {
    async fn open(transaction: &'a Transaction<'a>, sql: &str) -> Result<Self, Failure> {
        for setting in SETTINGS {
            transaction.execute(setting, &[]).await?;
        }
        transaction.execute(&format!("declare prints no scroll cursor for {sql}"), &[]).await?;
        Ok(Self { transaction, rows: VecDeque::new(), ended: false, last: None })
    }

    async fn fill(&mut self) -> Result<(), Failure> {
        if !self.rows.is_empty() || self.ended {
            return Ok(());
        }
        let rows = self.transaction.rows(&format!("fetch {FETCH} from prints"), &[]).await?;
        self.ended = rows.len() < FETCH;
        self.rows.extend(rows.iter().map(Print::from));
        Ok(())
    }

    fn reached(self) -> Reached {
        match (self.rows.front(), self.last) {
            (Some(next), _) => Reached::Before(next.id.clone()),
            (None, Some(last)) => Reached::UpTo(last),
            (None, None) => Reached::Nothing,
        }
    }

    fn first(&self) -> Option<&Print> {
        self.rows.front()
    }

    fn pass(&mut self) {
        // Copied once for thousands of rows: all others are followed by one that is still there.
        if let Some(passed) = self.rows.pop_front()
            && self.rows.is_empty()
        {
            self.last = Some(passed.id);
        }
    }
}
