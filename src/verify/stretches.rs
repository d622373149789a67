//! Compares stretch by stretch, or a sample: short statements, each with what is committed at its moment.
//!
//! Promise: a row that the source cannot compute does not hinder the others, no snapshot is held
//! for longer than a stretch, and the rest between two stretches is as long as requested.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Row;

use super::judge::{Found, Judge, Print, Suspect, read_apart, target_prints};
use super::merge::{Frontier, in_target_only};
use super::statements::{self, STRETCH};
use crate::plan::Route;
use crate::postgres::db::Transaction;
use crate::postgres::failure::Failure;

/// A stretch that is this slow reads a whole table, and there may be many. Also, a session that
/// rests sends nothing, and must not be taken for lost.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// Compares all rows that were not dealt with before. After each stretch it rests this many times as long as that took.
pub async fn walk(
    route: &Route,
    judge: &mut Judge<'_>,
    before: &Frontier,
    rest: u32,
    progress: &impl Fn(u64),
) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let began = Instant::now();
        let (found, last) = stretch(route, judge, after.as_deref()).await?;
        compare(found, judge, before).await?;
        progress(judge.verdict.rows);
        pause(began, rest).await;
        after = last;
        if after.is_none() {
            break;
        }
    }
    if route.object.update_only {
        return Ok(());
    }
    let mut after: Option<String> = None;
    loop {
        let began = Instant::now();
        let sql = match after {
            None => &judge.statements.first_ids,
            Some(_) => &judge.statements.next_ids,
        };
        let rows = judge.target.rows(sql, &[&after]).await?;
        let ids: Vec<String> = rows.iter().map(|row| row.get("id")).collect();
        after = ids.last().filter(|_| is_full(&rows)).cloned();
        let ids = ids.into_iter().filter(|id| !before.has_other(id)).collect();
        compare_others(route, ids, judge).await?;
        pause(began, rest).await;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Where a stretch takes longer it is read in parts, so that a slow row is alone.
const STRETCH_LIMIT: Duration = Duration::from_mins(1);

async fn pause(began: Instant, rest: u32) {
    let pause = (began.elapsed() * rest).min(LONGEST_REST);
    if pause > Duration::ZERO {
        tokio::time::sleep(pause).await;
    }
}

fn is_full(rows: &[Row]) -> bool {
    rows.len() >= STRETCH
}

/// The next rows in the order of the keys, and the last key unless nothing follows.
async fn stretch(
    route: &Route,
    judge: &Judge<'_>,
    after: Option<&str>,
) -> Result<(Found, Option<String>), Failure> {
    let after = after.map(str::to_string);
    let statements = judge.statements;
    let (rows_sql, keys_sql) = match after {
        None => (&statements.first_stretch, &statements.first_keys),
        Some(_) => (&statements.next_stretch, &statements.next_keys),
    };
    let last_of = |rows: &[Row]| rows.last().filter(|_| is_full(rows)).map(|row| row.get("key"));
    judge.source.limit_statements(STRETCH_LIMIT).await?;
    let found = judge.source.rows_within(usize::MAX, rows_sql, &[&after]).await;
    match found.map(Option::unwrap_or_default).map_err(Failure::from) {
        Ok(found) => {
            let last = last_of(&found);
            Ok((Found { found, ..Found::default() }, last))
        }
        Err(failure @ Failure::Reconnect(_)) => Err(failure),
        Err(_) => {
            judge.source.lift_limit().await?;
            let keys = judge.source.rows(keys_sql, &[&after]).await?;
            let last = last_of(&keys);
            let keys = keys.iter().map(|row| row.get("key")).collect();
            Ok((prints_of(route, judge, keys).await?, last))
        }
    }
}

async fn prints_of(route: &Route, judge: &Judge<'_>, keys: Vec<String>) -> Result<Found, Failure> {
    read_apart(judge.source, route, judge.statements, &judge.statements.prints_of, keys).await
}

/// Compares source rows with the target's.
async fn compare(found: Found, judge: &mut Judge<'_>, before: &Frontier) -> Result<(), Failure> {
    let rows: Vec<Print> = found.found.iter().map(Print::from).collect();
    let rows: Vec<Print> = rows.into_iter().filter(|row| !before.has_row(&row.id)).collect();
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let others = target_prints(judge.target, judge.statements, &ids).await?;
    for Print { key, id, print } in rows {
        judge.verdict.rows += 1;
        let equal = others.get(&id).is_some_and(|others| others.iter().all(|it| print.fit(it)));
        match equal {
            true => judge.verdict.equal += 1,
            false => judge.suspect(Suspect { key, id, in_target_only: false }).await?,
        }
    }
    for key in found.unreadable.into_keys().filter(|key| !before.has_row(key)) {
        judge.verdict.rows += 1;
        judge.suspect(Suspect { id: key.clone(), key, in_target_only: false }).await?;
    }
    Ok(())
}

/// Finds target rows without a source row.
async fn compare_others(
    route: &Route,
    ids: Vec<String>,
    judge: &mut Judge<'_>,
) -> Result<(), Failure> {
    let published = &judge.statements.published;
    let sources = read_apart(judge.source, route, judge.statements, published, ids.clone()).await?;
    let known: HashSet<&str> = sources.found.iter().map(|row| row.get("key")).collect();
    for id in ids {
        // If the filter fails for a row, nobody knows whether it is published; the source's side
        // reports that row.
        if !known.contains(id.as_str()) && !sources.unreadable.contains_key(&id) {
            in_target_only(route, id, judge).await?;
        }
    }
    Ok(())
}

/// Compares this many rows of either side, chosen at random.
pub async fn sample(
    source: &Transaction<'_>,
    target: &Transaction<'_>,
    route: &Route,
    judge: &mut Judge<'_>,
    rows: u64,
    progress: &impl Fn(u64),
) -> Result<(), Failure> {
    let total = expected(&judge.source.row(&judge.statements.estimate, &[]).await?);
    judge.verdict.sample_of = Some(total);
    let mut keys = Keys::open(source, &statements::sample(route, rows, total), rows).await?;
    loop {
        // Among the keys are some that are not published.
        let left = rows.saturating_sub(judge.verdict.rows);
        let keys = keys.next().await?;
        if keys.is_empty() || left == 0 {
            break;
        }
        let mut found = prints_of(route, judge, keys).await?;
        found.found.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        compare(found, judge, &Frontier::default()).await?;
        progress(judge.verdict.rows);
    }
    if route.object.update_only {
        return Ok(());
    }
    let total = expected(&judge.target.row(&judge.statements.target_estimate, &[]).await?);
    let sql = format!("{}\nlimit {rows}", statements::target_sample(route, rows, total));
    let mut ids = Keys::open(target, &sql, rows).await?;
    loop {
        let ids = ids.next().await?;
        if ids.is_empty() {
            return Ok(());
        }
        compare_others(route, ids, judge).await?;
    }
}

/// Keys of a cursor, a fetch at a time.
struct Keys<'a> {
    transaction: &'a Transaction<'a>,
    fetch: String,
}

impl<'a> Keys<'a> {
    async fn open(
        transaction: &'a Transaction<'a>,
        sql: &str,
        wanted: u64,
    ) -> Result<Self, Failure> {
        transaction.execute("set local transaction_read_only = on", &[]).await?;
        transaction.execute(&format!("declare keys no scroll cursor for {sql}"), &[]).await?;
        let rows = wanted.clamp(1, STRETCH as u64);
        Ok(Self { transaction, fetch: format!("fetch {rows} from keys") })
    }

    /// None: there are no more.
    async fn next(&mut self) -> Result<Vec<String>, Failure> {
        let rows = self.transaction.rows(&self.fetch, &[]).await?;
        let mut keys: Vec<String> = rows.iter().map(|row| row.get("key")).collect();
        // Several rows may have one key.
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }
}

/// How many rows a plan expects, from its first line; the planner knows without reading them.
pub fn expected(explained: &Row) -> u64 {
    let plan: &str = explained.get(0);
    let rows = plan.split("rows=").nth(1).and_then(|rest| rest.split(' ').next());
    rows.and_then(|rows| rows.parse().ok()).unwrap_or(0)
}
