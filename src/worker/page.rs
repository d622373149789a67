//! Reads the next page of a resync: source rows in the order of their primary key, target rows in that of the external
//! id, or keys that were named.
//!
//! Promise: a row for which the mapping's SQL fails does not end the resync. Then only keys are
//! read, without the mapping's SQL, so that this row can be found.

use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use tokio_postgres::Row;

use crate::mapping::Object;
use crate::outbox::resync::{Job, Page, Request};
use crate::plan::Route;
use crate::postgres::db::{Direct, Evaluator, Parameter};
use crate::postgres::failure::Failure;
use crate::postgres::name::ident;
use crate::postgres::qualified::{self, SqlType};
use crate::postgres::template::RenderedStatement;
use crate::project::{self, Walk};

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

/// The total is only for the progress bar, and not worth a longer wait: the resync is not stored
/// yet, and its transaction is open.
const COUNT_LIMIT: Duration = Duration::from_secs(10);

/// How many source rows a request is about; 0 where that takes too long to find out.
pub async fn count(
    evaluator: &Evaluator,
    object: &Object,
    request: &Request,
) -> Result<i64, Failure> {
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
        // A filter that fails for some row does not keep the others from being resynced.
        Err(_) => match count("").await {
            Err(failure) if failure.is_cancelled() => Ok(0),
            counted => counted,
        },
        counted => counted,
    }
}

/// How much is read at once.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// At most this many rows.
    pub rows: i64,
    /// Several rows have no more bytes than this.
    pub bytes: usize,
}

/// The next page of a job: at most this many rows after its position, and never more than it may still write. None where
/// they have too many bytes: fewer are to be asked for.
pub async fn next(
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
type FoundPage = (Content, Option<Vec<String>>);

/// Keys that were asked for by name. The position is how many of them are done.
fn named_page(keys: &[String], job: &Job, rows: i64) -> FoundPage {
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
) -> Result<Option<FoundPage>, Failure> {
    let parameters: [&dyn Parameter; 3] = [&job.position, &job.request.since, &rows];
    let goes_on = job.position.is_some();
    let filter = project::filter(&route.object);
    let (published, all) = (walk(route, goes_on, &filter), walk(route, goes_on, ""));
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
            // A row's fault; a fault of the table is met again.
            Err(Failure::Retry(_) | Failure::Blocked(_) | Failure::Dead(_)) => {}
            done => return done,
        }
    }
    evaluator.lift_limit().await?;
    keys(&all).await
}

fn keys_of(found: &[Row]) -> FoundPage {
    let position = found.last().map(|row| row.get(project::POSITION));
    (Content::Keys(found.iter().map(|row| row.get("key")).collect()), position)
}

/// Which rows a page has. `$1`: the position, `$2`: since when, `$3`: how many.
fn walk(route: &Route, goes_on: bool, filter: &str) -> Walk {
    let columns: Vec<String> =
        route.primary_key.iter().map(|(name, _)| format!("source.{}", ident(name))).collect();
    let casts = (1..).zip(&route.primary_key);
    let values: Vec<String> = casts
        .map(|(place, (_, sql_type))| format!("($1::pg_catalog.text[])[{place}]::{sql_type}"))
        .collect();
    let texts: Vec<String> =
        columns.iter().map(|column| format!("{column}::pg_catalog.text")).collect();
    let types: Vec<&SqlType> = route.primary_key.iter().map(|(_, sql_type)| sql_type).collect();
    let after = match goes_on {
        true => qualified::after(&types, &columns, &values),
        // The parameter must be there in either statement.
        false => "$1::pg_catalog.text[] is null".to_string(),
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
) -> Result<FoundPage, Failure> {
    let sql = target_statement(route);
    let target = target.client();
    let statement = target.prepare_cached(&sql).await?;
    let after = job.position.as_deref().map(place_of);
    let found = target.query(&statement, &[&after, &rows]).await?;
    let keys: Vec<String> = found.iter().map(|row| row.get("key")).collect();
    let position = keys.last().map(|key| position_of(key));
    Ok((Content::Keys(keys), position))
}

/// `$1`: the position, `$2`: how many.
fn target_statement(route: &Route) -> String {
    let (id, id_type) =
        (format!("t.{}", ident(&route.object.external_id)), &route.external_id_type);
    let next = format!("$1::pg_catalog.text::{id_type}");
    format!(
        "select {id}::pg_catalog.text as key\nfrom {} as t\nwhere {id} is not null\n\
         and ($1::pg_catalog.text is null or {})\norder by {id}\nlimit $2",
        route.object.target,
        qualified::after(&[id_type], std::slice::from_ref(&id), &[next])
    )
}

/// The statements, to be read by people: those of the pages after the first.
pub(super) fn shown(route: &Route) -> Vec<RenderedStatement> {
    const PAGE: &str = "$1: after this primary key, $2: changed since, $3: how many rows.";
    let published = walk(route, true, &project::filter(&route.object));
    let page = project::stretch(route, &published);
    let page = page.map(|sql| {
        RenderedStatement::new(
            "page",
            format!("Source: the next page of a resync, as target rows. {PAGE}"),
            sql,
        )
    });
    let keys = project::stretch_keys(route, &walk(route, true, ""));
    let keys = RenderedStatement::new("page_keys", format!("Source: its keys alone. {PAGE}"), keys);
    let target = "Target: the next page of a walk through its rows. $1: after this external id, $2: how many rows.";
    page.into_iter()
        .chain([keys, RenderedStatement::new("page_target", target, target_statement(route))])
        .collect()
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

/// The condition for rows that a resync looks at; `since` is the number of its parameter.
fn wanted(object: &Object, since: usize) -> String {
    let changed = match &object.since {
        Some(column) => format!(
            "(${since}::pg_catalog.timestamptz is null or source.{} operator(pg_catalog.>=) \
             (${since}::pg_catalog.timestamptz at time zone 'UTC'))",
            ident(column)
        ),
        // Without such a column a request with a time is refused; the statement still needs the
        // parameter.
        None => format!("${since}::pg_catalog.timestamptz is null"),
    };
    format!("{changed} and source.{} is not null", ident(&object.key))
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
