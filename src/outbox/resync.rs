//! Replays existing rows: stored jobs that make keys due through the same path as changes, behind them.
//!
//! Promise: a replay writes nothing by itself, goes on where it was interrupted, and is carried out once,
//! by whoever holds the writer's lock and has the mapping it was asked for with. Sole owner of `schoolbell.resync`.

use std::time::Duration;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use tokio_postgres::Row;

use crate::capture::fill;
use crate::mapping::{Mapping, Object, OnDelete};
use crate::plan::Route;
use crate::postgres::db::{Direct, Evaluator, Parameter, Session, Transaction};
use crate::postgres::failure::Failure;
use crate::postgres::name::{ident, literal};
use crate::postgres::qualified::{self, SqlType};
use crate::project::{self, Walk};

const NEXT: &str = include_str!("../../sql/resync_next.sql");
const PASS_OVER: &str = include_str!("../../sql/resync_pass_over.sql");
const CREATE: &str = include_str!("../../sql/resync_create.sql");
const PROGRESS: &str = include_str!("../../sql/resync_progress.sql");
const FAIL: &str = include_str!("../../sql/resync_fail.sql");
const FAILED: &str = include_str!("../../sql/resync_failed.sql");
const OWED: &str = include_str!("../../sql/resync_owed.sql");
const DISMISS: &str = include_str!("../../sql/resync_dismiss.sql");
const FOREIGN: &str = include_str!("../../sql/resync_foreign.sql");
const RELEASE: &str = include_str!("../../sql/resync_release.sql");
const JOBS: &str = include_str!("../../sql/resync_jobs.sql");

/// What is to be replayed of an object.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Only these keys.
    pub keys: Option<Vec<String>>,
    /// Only rows changed since then.
    pub since: Option<Timestamp>,
    /// Only keys that the target lacks.
    pub missing: bool,
    /// At most so many target writes.
    pub limit: Option<i64>,
    /// At most so many target writes per second.
    pub rate: Option<i64>,
}

/// A job as the worker carries it out.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its number.
    pub id: i64,
    /// The object.
    pub object: String,
    /// Through the target's rows instead of the source's.
    pub walks_target: bool,
    /// What was asked for.
    pub request: Request,
    /// The last key of the page before.
    pub position: Option<Vec<String>>,
    /// Target writes so far.
    pub written: i64,
    /// It stands for changes that are acknowledged already, whatever the mapping.
    pub own: bool,
}

/// One page of a job, and where the next one begins.
#[derive(Debug, Clone)]
pub struct Page {
    /// The job.
    pub job: Job,
    /// How many rows it has.
    pub rows: i64,
    /// The last key, in the terms of the walk.
    pub position: Option<Vec<String>>,
    /// Nothing follows.
    pub last: bool,
}

/// What a page is about.
#[derive(Debug)]
pub enum Content {
    /// Keys whose rows are to be looked at.
    Keys(Vec<String>),
    /// Rows that are projected already.
    Rows(Vec<Row>),
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::Keys(keys) => keys.len(),
            Self::Rows(rows) => rows.len(),
        }
    }
}

/// What came of a page, or of all pages so far.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Progress {
    /// Keys looked at.
    pub done: i64,
    /// Rows inserted or updated.
    pub written: i64,
    /// Rows that were right.
    pub equal: i64,
    /// Keys that wait for something.
    pub waiting: i64,
    /// Keys that were refused for now, and are tried again.
    pub retrying: i64,
    /// Keys parked as dead.
    pub dead: i64,
    /// Rows deleted.
    pub deleted: i64,
    /// Rows kept although their source is gone.
    pub kept: i64,
}

/// A job for a report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its number.
    pub id: i64,
    /// The object.
    pub object: String,
    /// `queued`, `running`, `done` or `failed`.
    pub state: String,
    /// `source` or `target`.
    pub walk: String,
    /// Rows to look at, as counted at the start.
    pub total: i64,
    /// What came of it so far.
    #[serde(flatten)]
    pub progress: Progress,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its first page was done.
    pub started_at: Option<Timestamp>,
    /// When its last page was done.
    pub finished_at: Option<Timestamp>,
    /// When a writer has passed it over, whose mapping is not the one it was asked for with.
    pub passed_over_at: Option<Timestamp>,
    /// Why it failed.
    pub reason: Option<String>,
}

impl Report {
    /// It waits for a service with the mapping it was asked for with.
    pub fn waits_for_mapping(&self) -> bool {
        self.finished_at.is_none() && self.passed_over_at.is_some()
    }

    /// That it has failed, why, and what helps.
    pub fn failure(&self) -> String {
        let Self { id, object, reason, .. } = self;
        let reason = reason.as_deref().unwrap_or("for an unknown reason");
        format!(
            "Replay {id} of {object} has failed, {reason}: repeat it with `schoolbell resync {object}`, or dismiss it \
             with `schoolbell resync --dismiss {id}`"
        )
    }

    /// Its state, for people.
    pub fn standing(&self) -> &str {
        match self.waits_for_mapping() {
            true => "waits for a service with the mapping it was asked for with",
            false => &self.state,
        }
    }
}

/// Stores a replay of an object as its mapping has it, and returns its number.
pub async fn create(
    source: &Transaction<'_>,
    evaluator: &Evaluator,
    object: &Object,
    request: &Request,
) -> Result<i64, Failure> {
    let total = count(evaluator, object, request).await?;
    let mapping = object.fingerprint();
    insert(source, &object.name, "source", request, total, Some(&mapping)).await
}

/// Stores a replay of all rows, which stands for changes of just now: it is for whichever mapping the writer has, and
/// another replay that has passed some rows will not do. The rows are not counted: an acknowledgement waits for it.
pub async fn create_anew(source: &Transaction<'_>, object: &Object) -> Result<i64, Failure> {
    insert(source, &object.name, "source", &Request::default(), 0, None).await
}

/// Stores a walk through the target's rows, to find those whose source is gone. They are gone whatever the mapping.
pub async fn create_target_walk(source: &Transaction<'_>, route: &Route) -> Result<i64, Failure> {
    insert(source, &route.object.name, "target", &Request::default(), 0, None).await
}

/// Stores both, where rows are deleted: a look at all rows, for changes of which nobody knows which rows they are about.
pub async fn create_all(source: &Transaction<'_>, route: &Route) -> Result<i64, Failure> {
    let replay = create_anew(source, &route.object).await?;
    if route.object.on_delete == OnDelete::Delete {
        create_target_walk(source, route).await?;
    }
    Ok(replay)
}

async fn insert(
    source: &Transaction<'_>,
    object: &str,
    walk: &str,
    request: &Request,
    total: i64,
    asked_with: Option<&str>,
) -> Result<i64, Failure> {
    let Request { keys, since, missing, limit, rate } = request;
    let asked = asked_with.is_some();
    let parameters: [&dyn Parameter; 10] =
        [&object, &walk, keys, since, missing, limit, rate, &total, &asked_with, &asked];
    Ok(source.row(CREATE, &parameters).await?.get("id"))
}

/// How many unfinished replays were asked for with another mapping.
pub async fn foreign(source: &Session, mapping: &Mapping) -> Result<i64, tokio_postgres::Error> {
    let fingerprints: Vec<String> = mapping.objects.iter().map(Object::fingerprint).collect();
    Ok(source.row(FOREIGN, &[&fingerprints]).await?.get(0))
}

/// The statement that leaves those to whichever mapping the writer has.
pub fn release(mapping: &Mapping) -> String {
    let fingerprints = mapping.objects.iter().map(|object| literal(&object.fingerprint()));
    let fingerprints = fingerprints.collect::<Vec<_>>().join(", ");
    fill(RELEASE, &[("{fingerprints}", &format!("array[{fingerprints}]"))])
}

/// Progress is not worth a longer wait: the replay is not stored yet, and its transaction is open.
const COUNT_LIMIT: Duration = Duration::from_secs(10);

/// How many source rows a request is about; 0 where that takes too long to find out.
async fn count(evaluator: &Evaluator, object: &Object, request: &Request) -> Result<i64, Failure> {
    if let Some(keys) = &request.keys {
        return Ok(keys.len() as i64);
    }
    let count = async |filter: &str| {
        let sql = format!(
            "select pg_catalog.count(*) from {} as source where {}{filter}",
            object.source,
            wanted(object, 1)
        );
        let parameters: [&dyn Parameter; 1] = [&request.since];
        let counted =
            evaluator.rows_within_briefly(COUNT_LIMIT, usize::MAX, &sql, &parameters).await;
        counted.map(|rows| rows.map_or(0, |rows| rows[0].get(0))).map_err(Failure::from)
    };
    match count(&project::filter(object)).await {
        Err(failure @ Failure::Reconnect(_)) => Err(failure),
        // A filter that some row is refused by does not keep the others from being replayed.
        Err(_) => match count("").await {
            Err(failure) if failure.is_cancelled() => Ok(0),
            counted => counted,
        },
        counted => counted,
    }
}

/// The job whose turn it is, of those for a mapping with these objects' fingerprints, but for some. A job of another
/// mapping is passed over, and holds up none behind it.
pub async fn next(
    source: &Session,
    fingerprints: &[String],
    but: &[i64],
) -> Result<Option<Job>, Failure> {
    while let Some(row) = source.rows(NEXT, &[&fingerprints, &but]).await?.first() {
        if !row.get::<_, bool>("foreign") {
            return Ok(Some(job(row)));
        }
        let (id, object): (i64, &str) = (row.get("id"), row.get("object"));
        source.execute(PASS_OVER, &[&id]).await?;
        tracing::warn!(
            resync = id,
            object,
            "a replay was asked for with another mapping than this one; it waits for a service with that"
        );
    }
    Ok(None)
}

fn job(row: &Row) -> Job {
    Job {
        id: row.get("id"),
        object: row.get("object"),
        walks_target: row.get::<_, &str>("walk") == "target",
        request: Request {
            keys: row.get("only_keys"),
            since: row.get("since"),
            missing: row.get("only_missing"),
            limit: row.get("write_limit"),
            rate: row.get("write_rate"),
        },
        position: row.get("position"),
        written: row.get("written"),
        own: row.get("own"),
    }
}

/// How much is read at once.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// At most so many rows.
    pub rows: i64,
    /// Several rows have no more bytes than this.
    pub bytes: usize,
}

/// The next page of a job: at most so many rows after its position, and never more than it may still write. None where
/// they have too many bytes: fewer are to be asked for.
pub async fn page(
    evaluator: &Evaluator,
    target: &Direct,
    route: &Route,
    job: Job,
    Size { rows, bytes }: Size,
) -> Result<Option<(Page, Content)>, Failure> {
    let left = job.request.limit.map_or(i64::MAX, |limit| limit - job.written);
    let rows = rows.min(left).min(job.request.rate.unwrap_or(i64::MAX)).max(0);
    let found = match (&job.request.keys, job.walks_target) {
        (Some(keys), _) => Some(named_page(keys, &job, rows)),
        (None, true) => Some(target_page(target, route, &job, rows).await?),
        (None, false) => source_page(evaluator, route, &job, Size { rows, bytes }).await?,
    };
    Ok(found.map(|(content, position)| {
        let found = content.len() as i64;
        (Page { job, rows: found, position, last: rows == 0 || found < rows }, content)
    }))
}

/// A page's content, and the position of its last row; none when it is empty.
type Found = (Content, Option<Vec<String>>);

/// Keys that were asked for by name. The position is how many of them are done.
fn named_page(keys: &[String], job: &Job, rows: i64) -> Found {
    let from = job.position.as_ref().and_then(|position| position[0].parse().ok()).unwrap_or(0);
    let rest = keys.get(from..).unwrap_or_default();
    let page = &rest[..rest.len().min(usize::try_from(rows).unwrap_or(0))];
    (Content::Keys(page.to_vec()), Some(vec![(from + page.len()).to_string()]))
}

/// Source rows in the order of the primary key: it has an index, the object's key may not. Where the source refuses
/// a row's values, or the filter, only the keys, read without anything that the mapping says, so that this row can be
/// looked for.
async fn source_page(
    evaluator: &Evaluator,
    route: &Route,
    job: &Job,
    Size { rows, bytes }: Size,
) -> Result<Option<Found>, Failure> {
    let parameters: [&dyn Parameter; 3] = [&job.position, &job.request.since, &rows];
    let (published, all) =
        (walk(route, job, &project::filter(&route.object)), walk(route, job, ""));
    let mut is_slow = false;
    if let Some(sql) = project::stretch(route, &published) {
        match evaluator.rows_within(bytes, &sql, &parameters).await {
            Ok(found) => {
                return Ok(found.map(|found| {
                    let position = found.last().map(|row| row.get(project::POSITION));
                    (Content::Rows(found), position)
                }));
            }
            Err(error) => match Failure::from(error) {
                failure @ Failure::Reconnect(_) => return Err(failure),
                refused => {
                    tracing::debug!(sqlstate = refused.sqlstate(), "a page is refused as a whole");
                    is_slow = refused.is_cancelled();
                }
            },
        }
    }
    let keys = async |walk: &Walk| {
        let sql = project::stretch_keys(route, walk);
        let found = evaluator.rows_within(bytes, &sql, &parameters).await?;
        Ok::<_, Failure>(found.as_deref().map(keys_of))
    };
    if !is_slow {
        match keys(&published).await {
            // Some row's fault; what is the table's is met again.
            Err(Failure::Retry(_) | Failure::Blocked(_) | Failure::Dead(_)) => {}
            done => return done,
        }
    }
    evaluator.lift_limit().await?;
    keys(&all).await
}

fn keys_of(found: &[Row]) -> Found {
    let position = found.last().map(|row| row.get(project::POSITION));
    (Content::Keys(found.iter().map(|row| row.get("key")).collect()), position)
}

/// Which rows a page has. `$1`: the position, `$2`: since when, `$3`: how many.
fn walk(route: &Route, job: &Job, filter: &str) -> Walk {
    let columns: Vec<String> =
        route.primary_key.iter().map(|(name, _)| format!("source.{}", ident(name))).collect();
    let casts = (1..).zip(&route.primary_key);
    let values: Vec<String> = casts
        .map(|(place, (_, sql_type))| format!("($1::pg_catalog.text[])[{place}]::{sql_type}"))
        .collect();
    let texts: Vec<String> =
        columns.iter().map(|column| format!("{column}::pg_catalog.text")).collect();
    let types: Vec<&SqlType> = route.primary_key.iter().map(|(_, sql_type)| sql_type).collect();
    let after = match &job.position {
        Some(_) => qualified::after(&types, &columns, &values),
        // The parameter must be there in either statement.
        None => "$1::pg_catalog.text[] is null".to_string(),
    };
    Walk {
        condition: format!("{after} and {}{filter}", wanted(&route.object, 2)),
        order: columns.join(", "),
        position: format!("array[{}]", texts.join(", ")),
        limit: "$3",
    }
}

/// Keys of target rows, in their order.
async fn target_page(
    target: &Direct,
    route: &Route,
    job: &Job,
    rows: i64,
) -> Result<Found, Failure> {
    let (id, id_type) =
        (format!("t.{}", ident(&route.object.external_id)), &route.external_id_type);
    let next = format!("$1::pg_catalog.text::{id_type}");
    let sql = format!(
        "select {id}::pg_catalog.text as key\nfrom {} as t\nwhere {id} is not null\n\
         and ($1::pg_catalog.text is null or {})\norder by {id}\nlimit $2",
        route.object.target,
        qualified::after(&[id_type], std::slice::from_ref(&id), &[next])
    );
    let target = target.client();
    let statement = target.prepare_cached(&sql).await?;
    let after = job.position.as_deref().map(place_of);
    let found = target.query(&statement, &[&after, &rows]).await?;
    let keys: Vec<String> = found.iter().map(|row| row.get("key")).collect();
    let position = keys.last().map(|key| position_of(key));
    Ok((Content::Keys(keys), position))
}

/// The second part of a position whose first is percent-encoded.
const PERCENT_ENCODED: &str = "percent-encoded";
/// What is encoded, beside what is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// A place in the target as the source stores it, whose encoding may lack the characters.
fn position_of(key: &str) -> Vec<String> {
    match key.is_ascii() {
        true => vec![key.to_string()],
        false => {
            let encoded = utf8_percent_encode(key, ENCODED).to_string();
            vec![encoded, PERCENT_ENCODED.to_string()]
        }
    }
}

fn place_of(position: &[String]) -> String {
    match position {
        [encoded, how, ..] if how == PERCENT_ENCODED => {
            percent_decode_str(encoded).decode_utf8_lossy().into_owned()
        }
        [key, ..] => key.clone(),
        [] => String::new(),
    }
}

/// The condition for rows that a replay looks at; `since` is the number of its parameter.
fn wanted(object: &Object, since: usize) -> String {
    let changed = match &object.since {
        Some(column) => format!(
            "(${since}::pg_catalog.timestamptz is null or source.{} operator(pg_catalog.>=) \
             (${since}::pg_catalog.timestamptz at time zone 'UTC'))",
            ident(column)
        ),
        // Without such a column a request with a time is refused; the parameter must be there all the same.
        None => format!("${since}::pg_catalog.timestamptz is null"),
    };
    format!("{changed} and source.{} is not null", ident(&object.key))
}

/// Stores what came of a page, together with the acknowledgement of its keys.
pub async fn progress(
    source: &Transaction<'_>,
    page: &Page,
    progress: &Progress,
) -> Result<(), Failure> {
    let p = progress;
    source
        .execute(
            PROGRESS,
            &[
                &page.job.id,
                &page.position,
                &p.done,
                &p.written,
                &p.equal,
                &p.waiting,
                &p.retrying,
                &p.dead,
                &p.deleted,
                &p.kept,
                &page.last,
            ],
        )
        .await?;
    Ok(())
}

/// Ends a job that cannot go on, so that the next one has its turn.
pub async fn fail(source: &Session, id: i64, reason: &str) -> Result<(), Failure> {
    source.execute(FAIL, &[&id, &reason]).await?;
    Ok(())
}

/// Jobs by number, or those that are not finished.
pub async fn reports(
    source: &Session,
    ids: Option<&[i64]>,
) -> Result<Vec<Report>, tokio_postgres::Error> {
    Ok(source.rows(JOBS, &[&ids]).await?.iter().map(report).collect())
}

/// Those that have failed, and were neither repeated nor dismissed.
pub async fn failed(source: &Session) -> Result<Vec<Report>, tokio_postgres::Error> {
    let rows = source.rows(FAILED, &[]).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get("id")).collect();
    match ids.is_empty() {
        true => Ok(Vec::new()),
        false => reports(source, Some(&ids)).await,
    }
}

/// Whether a replay of the object that stands for changes is not finished: any of its rows may be written yet.
pub async fn is_owed(source: &Session, object: &Object) -> Result<bool, tokio_postgres::Error> {
    Ok(source.row(OWED, &[&object.name]).await?.get(0))
}

/// Says that the failure of a job is of no interest any more; false where no such job has failed.
pub async fn dismiss(source: &Session, id: i64) -> Result<bool, tokio_postgres::Error> {
    Ok(source.execute(DISMISS, &[&id]).await? > 0)
}

fn report(row: &Row) -> Report {
    Report {
        id: row.get("id"),
        object: row.get("object"),
        state: row.get("state"),
        walk: row.get("walk"),
        total: row.get("total"),
        progress: Progress {
            done: row.get("done"),
            written: row.get("written"),
            equal: row.get("equal"),
            waiting: row.get("waiting"),
            retrying: row.get("retrying"),
            dead: row.get("dead"),
            deleted: row.get("deleted"),
            kept: row.get("kept"),
        },
        created_at: row.get("created_at"),
        started_at: row.get("started_at"),
        finished_at: row.get("finished_at"),
        passed_over_at: row.get("passed_over_at"),
        reason: row.get("reason"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_target_is_stored_in_ascii_and_read_as_it_was() {
        for key in ["", "a", "100%41", "Ж", "50 % Köln", "…\n%00"] {
            let position = position_of(key);
            assert!(position.iter().all(|part| part.is_ascii()), "{position:?}");
            assert_eq!(place_of(&position), key);
        }
    }
}
