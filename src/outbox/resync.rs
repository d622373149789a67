//! Resyncs existing rows: stored jobs that make keys due through the same path as changes, behind them.
//!
//! Promise: a resync writes nothing by itself, continues where it was interrupted, and is carried
//! out once, by the writer whose mapping is the one that it was asked for with. Sole owner of
//! `schoolbell.resync`.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use crate::mapping::{Mapping, Object, OnDelete};
use crate::plan::Route;
use crate::postgres::db::{Parameter, Session, Transaction};
use crate::postgres::failure::Failure;
use crate::postgres::name::literal;
use crate::postgres::template::fill;

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

/// What is to be resynced of an object.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Only these keys.
    pub keys: Option<Vec<String>>,
    /// Only rows changed since then.
    pub since: Option<Timestamp>,
    /// Only keys that the target lacks.
    pub missing: bool,
    /// At most this many target writes.
    pub limit: Option<i64>,
    /// At most this many target writes per second.
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
    /// It replaces changes that are acknowledged already, whatever the mapping.
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
pub struct JobReport {
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

impl JobReport {
    /// It waits for a service with the mapping it was asked for with.
    pub fn waits_for_mapping(&self) -> bool {
        self.finished_at.is_none() && self.passed_over_at.is_some()
    }

    /// That it has failed, why, and what helps.
    pub fn failure(&self) -> String {
        let Self { id, object, reason, .. } = self;
        let reason = reason.as_deref().unwrap_or("for an unknown reason");
        format!(
            "Resync {id} of {object} has failed, {reason}: repeat it with `schoolbell resync {object}`, or dismiss it \
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

/// Stores a resync of an object as its mapping has it, and returns its number. `total`: how many rows it is about.
pub async fn create(
    source: &Transaction<'_>,
    object: &Object,
    request: &Request,
    total: i64,
) -> Result<i64, Failure> {
    let mapping = object.fingerprint();
    insert(source, &object.name, "source", request, total, Some(&mapping)).await
}

/// Stores a resync of all rows that replaces changes of this moment: it is for whichever mapping
/// the writer has, and an unfinished resync that has passed some rows is not enough. The rows are
/// not counted, because an acknowledgement waits for it.
pub async fn create_anew(source: &Transaction<'_>, object: &Object) -> Result<i64, Failure> {
    insert(source, &object.name, "source", &Request::default(), 0, None).await
}

/// Stores a walk through the target's rows, to find those whose source is gone. That does not
/// depend on the mapping.
pub async fn create_target_walk(source: &Transaction<'_>, route: &Route) -> Result<i64, Failure> {
    insert(source, &route.object.name, "target", &Request::default(), 0, None).await
}

/// Stores both, where rows are deleted: a look at all rows, for changes of which nobody knows which rows they are about.
pub async fn create_all(source: &Transaction<'_>, route: &Route) -> Result<i64, Failure> {
    let resync = create_anew(source, &route.object).await?;
    if route.object.on_delete == OnDelete::Delete {
        create_target_walk(source, route).await?;
    }
    Ok(resync)
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

/// How many unfinished resyncs were asked for with another mapping.
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

/// The next job for a mapping with these objects' fingerprints, except the given jobs. A job of
/// another mapping is passed over, and does not hold up those behind it.
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
            "a resync was requested with another mapping; it waits for a service with that mapping"
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

/// Ends a job that cannot continue, so that the next one has its turn.
pub async fn fail(source: &Session, id: i64, reason: &str) -> Result<(), Failure> {
    source.execute(FAIL, &[&id, &reason]).await?;
    Ok(())
}

/// Jobs by number, or those that are not finished.
pub async fn reports(
    source: &Session,
    ids: Option<&[i64]>,
) -> Result<Vec<JobReport>, tokio_postgres::Error> {
    Ok(source.rows(JOBS, &[&ids]).await?.iter().map(report).collect())
}

/// Those that have failed, and were neither repeated nor dismissed.
pub async fn failed(source: &Session) -> Result<Vec<JobReport>, tokio_postgres::Error> {
    let rows = source.rows(FAILED, &[]).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get("id")).collect();
    match ids.is_empty() {
        true => Ok(Vec::new()),
        false => reports(source, Some(&ids)).await,
    }
}

/// Whether a resync of the object that replaces changes is not finished: any of its rows may still
/// be written.
pub async fn is_owed(source: &Session, object: &Object) -> Result<bool, tokio_postgres::Error> {
    Ok(source.row(OWED, &[&object.name]).await?.get(0))
}

/// Says that the failure of a job is of no interest any more; false where no such job has failed.
pub async fn dismiss(source: &Session, id: i64) -> Result<bool, tokio_postgres::Error> {
    Ok(source.execute(DISMISS, &[&id]).await? > 0)
}

fn report(row: &Row) -> JobReport {
    JobReport {
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
