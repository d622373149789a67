//! Replays existing rows: stored jobs that make keys due through the same path as changes, behind them.
//!
//! Promise: a replay writes nothing by itself, goes on where it was interrupted, and is carried out once,
//! by whoever holds the writer's lock. Sole owner of `schoolbell.resync`.

use jiff::Timestamp;
use serde::Serialize;

use crate::db::{Direct, Session, Transaction};
use crate::failure::Failure;
use crate::name::ident;
use crate::plan::Route;

const NEXT: &str = include_str!("../sql/resync_next.sql");
const CREATE: &str = include_str!("../sql/resync_create.sql");
const PROGRESS: &str = include_str!("../sql/resync_progress.sql");
const FAIL: &str = include_str!("../sql/resync_fail.sql");
const JOBS: &str = include_str!("../sql/resync_jobs.sql");

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
}

/// The keys of one page, and where the next one begins.
#[derive(Debug, Clone)]
pub struct Page {
    /// The job.
    pub job: Job,
    /// What is to be looked at.
    pub keys: Vec<String>,
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
    /// Keys parked as waiting or retrying.
    pub waiting: i64,
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
    /// Why it failed.
    pub reason: Option<String>,
}

/// Stores a replay of an object and returns its number.
pub async fn create(
    source: &Transaction<'_>,
    route: &Route,
    request: &Request,
) -> Result<i64, Failure> {
    let total = count(source, route, request).await?;
    insert(source, &route.object.name, "source", request, total).await
}

/// Stores a walk through the target's rows, to find those whose source is gone.
pub async fn create_target_walk(source: &Transaction<'_>, route: &Route) -> Result<i64, Failure> {
    insert(source, &route.object.name, "target", &Request::default(), 0).await
}

async fn insert(
    source: &Transaction<'_>,
    object: &str,
    walk: &str,
    request: &Request,
    total: i64,
) -> Result<i64, Failure> {
    let Request { keys, since, missing, limit, rate } = request;
    let row =
        source.row(CREATE, &[&object, &walk, keys, since, missing, limit, rate, &total]).await?;
    Ok(row.get("id"))
}

/// How many source rows a request is about.
pub async fn count(
    source: &Transaction<'_>,
    route: &Route,
    request: &Request,
) -> Result<i64, Failure> {
    if let Some(keys) = &request.keys {
        return Ok(keys.len() as i64);
    }
    let sql = format!(
        "select count(*) from {} as source where {}",
        route.object.source,
        wanted(route, 1)
    );
    Ok(source.row(&sql, &[&request.since]).await?.get(0))
}

/// The job whose turn it is.
pub async fn next(source: &Session) -> Result<Option<Job>, Failure> {
    Ok(source.rows(NEXT, &[]).await?.first().map(|row| Job {
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
    }))
}

/// The next page of a job: at most `rows` keys after its position, and never more than it may still write.
pub async fn page(
    source: &Session,
    target: &Direct,
    route: &Route,
    job: Job,
    rows: i64,
) -> Result<Page, Failure> {
    let left = job.request.limit.map_or(i64::MAX, |limit| limit - job.written);
    let rows = rows.min(left).min(job.request.rate.unwrap_or(i64::MAX)).max(0);
    if let Some(keys) = &job.request.keys {
        let from = job.position.as_ref().and_then(|position| position[0].parse().ok()).unwrap_or(0);
        let until = keys.len().min(from + usize::try_from(rows).unwrap_or(0));
        let keys = keys[from.min(until)..until].to_vec();
        let last = rows == 0 || until == job.request.keys.as_ref().map_or(0, Vec::len);
        return Ok(Page { job, keys, position: Some(vec![until.to_string()]), last });
    }
    let found = match job.walks_target {
        true => target_page(target, route, &job, rows).await?,
        false => source_page(source, route, &job, rows).await?,
    };
    let last = rows == 0 || (found.len() as i64) < rows;
    let position = found.last().map(|(_, position)| position.clone());
    Ok(Page { job, keys: found.into_iter().map(|(key, _)| key).collect(), position, last })
}

/// Keys of source rows, in the order of the primary key: it has an index, the object's key may not.
async fn source_page(
    source: &Session,
    route: &Route,
    job: &Job,
    rows: i64,
) -> Result<Vec<(String, Vec<String>)>, Failure> {
    let columns: Vec<String> =
        route.primary_key.iter().map(|(name, _)| format!("source.{}", ident(name))).collect();
    let casts = (1..).zip(&route.primary_key);
    let values: Vec<String> = casts
        .map(|(place, (_, type_name))| format!("($1::text[])[{place}]::{type_name}"))
        .collect();
    let (columns, values) = (columns.join(", "), values.join(", "));
    let after = match &job.position {
        Some(_) => format!("({columns}) > ({values})"),
        // The parameter must be there in either statement.
        None => "$1::text[] is null".to_string(),
    };
    let texts: Vec<String> =
        route.primary_key.iter().map(|(name, _)| format!("source.{}::text", ident(name))).collect();
    let sql = format!(
        "select source.{}::text as key, array[{}] as position\nfrom {} as source\nwhere {after} and {}\n\
         order by {columns}\nlimit $3",
        ident(&route.object.key),
        texts.join(", "),
        route.object.source,
        wanted(route, 2)
    );
    let found = source.rows(&sql, &[&job.position, &job.request.since, &rows]).await?;
    Ok(found.iter().map(|row| (row.get("key"), row.get("position"))).collect())
}

/// Keys of target rows, in their order.
async fn target_page(
    target: &Direct,
    route: &Route,
    job: &Job,
    rows: i64,
) -> Result<Vec<(String, Vec<String>)>, Failure> {
    let external_id = ident(&route.object.external_id);
    let sql = format!(
        "select t.{external_id}::text as key\nfrom {} as t\nwhere t.{external_id} is not null\n\
         and ($1::text is null or t.{external_id} > $1::text::{})\norder by t.{external_id}\nlimit $2",
        route.object.target, route.external_id_type
    );
    let target = target.client();
    let statement = target.prepare_cached(&sql).await?;
    let after = job.position.as_ref().and_then(|position| position.first());
    let found = target.query(&statement, &[&after, &rows]).await?;
    Ok(found
        .iter()
        .map(|row| row.get::<_, String>("key"))
        .map(|key| (key.clone(), vec![key]))
        .collect())
}

/// The condition for rows that a replay looks at; `since` is the number of its parameter.
fn wanted(route: &Route, since: usize) -> String {
    let changed = match &route.object.since {
        Some(column) => format!(
            "(${since}::timestamptz is null or source.{} >= ${since}::timestamptz at time zone 'UTC')",
            ident(column)
        ),
        // Without such a column a request with a time is refused; the parameter must be there all the same.
        None => format!("${since}::timestamptz is null"),
    };
    let filter =
        route.object.filter.as_ref().map_or(String::new(), |filter| format!(" and ({filter})"));
    format!("{changed}{filter} and source.{} is not null", ident(&route.object.key))
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
    let rows = source.rows(JOBS, &[&ids]).await?;
    Ok(rows
        .iter()
        .map(|row| Report {
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
                dead: row.get("dead"),
                deleted: row.get("deleted"),
                kept: row.get("kept"),
            },
            created_at: row.get("created_at"),
            started_at: row.get("started_at"),
            finished_at: row.get("finished_at"),
            reason: row.get("reason"),
        })
        .collect())
}
