//! Rows that Salesforce refused, and the two ways in which Heroku Connect sends them again.
//!
//! Promise: only a row that is FAILED at that very moment is sent again, and a row that is deleted
//! is written again even if the command dies in between.
//!
//! A row without `sfid` is unknown to Salesforce: an update of it would be refused like the first attempt, so it is
//! deleted and written again. A row with `sfid` needs a new entry in Heroku Connect's log; a write with equal values
//! makes none that is sent.

use crate::worker::page;
use std::collections::HashSet;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::{FAILED, Failed, log, shortened};
use crate::mapping::Object;
use crate::outbox::parked;
use crate::outbox::resync::{self, Request};
use crate::plan::Route;
use crate::postgres::apart::Apart;
use crate::postgres::db::{Direct, Evaluator, Session};
use crate::postgres::failure::{Failure, Refusal};
use crate::postgres::name::{TableName, ident, literal};
use crate::postgres::qualified;
use crate::project::{self, BATCH_BYTES, Wanted};
use crate::worker::Lane;

const HSTORE: &str = include_str!("../../../sql/hstore.sql");
/// This many rows of an object are cured at once; the next call continues with the others.
pub const MOST: i64 = 10_000;
/// The function that makes a new log entry from a row as it is, where Heroku Connect writes in the
/// order of the changes.
const CAPTURE_UPDATE: &str = "hc_capture_update_from_row";

/// What would become of an object's refused rows.
#[derive(Debug, Default)]
pub struct Cure {
    /// Without `sfid`: deleted and written again.
    pub written_again: Vec<Failed>,
    /// With `sfid`: sent again.
    pub sent_again: Vec<Failed>,
    /// With `sfid`, and already in Heroku Connect's log to be sent once more.
    pub on_their_way: Vec<Failed>,
    /// How those are sent again.
    pub way: Resend,
    /// Without `sfid`, and not ours to write: Salesforce creates them, or the source has no such row any more.
    pub left_alone: Vec<Failed>,
    /// More are refused than these.
    pub more: bool,
}

/// How Heroku Connect is made to send a row again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Resend {
    /// By its function for that, which there is where it writes in the order of the changes.
    Function {
        /// The extension's own function that makes an hstore of a row, with its schema.
        hstore: String,
    },
    /// By setting the failed entry of the log to NEW, where it merges changes.
    #[default]
    Entry,
}

/// Finds the refused rows of an object, or of these keys, and what would cure them.
pub async fn plan(
    evaluator: &Evaluator,
    target: &Session,
    lane: &Lane,
    keys: Option<&[String]>,
) -> Result<Cure, Failure> {
    let route = &lane.route;
    let refused = refused(target, route, keys).await?;
    let mut plan = Cure { way: way(target, &route.object).await?, ..Cure::default() };
    plan.more = refused.len() as i64 >= MOST;
    let mut unknown = Vec::new();
    for row in &refused {
        match (failed(row), row.get("waits")) {
            (row, _) if row.sfid.is_none() => unknown.push(row),
            (row, true) => plan.on_their_way.push(row),
            (row, false) => plan.sent_again.push(row),
        }
    }
    if route.object.update_only {
        plan.left_alone = unknown;
        return Ok(plan);
    }
    let published = published(evaluator, lane, &unknown).await?;
    (plan.written_again, plan.left_alone) =
        unknown.into_iter().partition(|row| published.contains(&row.key));
    Ok(plan)
}

/// Deletes the rows that are still refused and unknown to Salesforce, and stores the resync that writes them again;
/// tells how many there were, and the resync's number.
pub async fn write_again(
    (source, evaluator): (&mut Session, &Evaluator),
    target: &Direct,
    route: &Route,
    keys: &[String],
) -> Result<Option<(u64, i64)>, Failure> {
    let object = &route.object;
    parked::reserve(source, &object.name, keys).await?;
    // Stored only after the deletion, or the resync might meet the rows as they were and find them right.
    let transaction = source.begin().await?;
    let id = format!("t.{}", ident(&object.external_id));
    let sql = format!(
        "delete from {} as t\nwhere {} and {} and t.sfid is null\nreturning {id}::pg_catalog.text as key",
        object.target,
        among(route, &id),
        qualified::equal("t._hc_lastop", &literal(FAILED))
    );
    let deleted = target.rows(&sql, &[&keys]).await?;
    if deleted.is_empty() {
        return Ok(None);
    }
    let keys: Vec<String> = deleted.iter().map(|row| row.get("key")).collect();
    let count = keys.len() as u64;
    let request = Request { keys: Some(keys), ..Request::default() };
    let total = page::count(evaluator, &route.object, &request).await?;
    let resync = resync::create(&transaction, &route.object, &request, total).await?;
    transaction.commit().await?;
    Ok(Some((count, resync)))
}

/// Makes a new entry of the log for each of the rows that is still refused and has none that waits; tells how many.
pub async fn send_again(
    target: &Direct,
    route: &Route,
    way: &Resend,
    keys: &[String],
) -> Result<u64, Failure> {
    let Object { target: table, external_id, .. } = &route.object;
    let (log, name) = (log(&route.object), literal(&table.table));
    let is = |value: &str, what: &str| qualified::equal(value, &literal(what));
    let refused = format!(
        "from {table} as t\nwhere {} and {} and t.sfid is not null\nand not {}",
        among(route, &format!("t.{}", ident(external_id))),
        is("t._hc_lastop", FAILED),
        waits(&route.object)
    );
    let sql = match way {
        Resend::Function { hstore } => {
            let function = TableName { schema: table.schema.clone(), table: CAPTURE_UPDATE.into() };
            format!("select {function}({hstore}(t.*), {name})\n{refused}")
        }
        Resend::Entry => format!(
            "update {log} as entry\nset state = 'NEW'\nfrom (\nselect pg_catalog.max(failed.id) as id\n\
             from {log} as failed\nwhere {} and {}\nand failed.record_id operator(pg_catalog.=) any (select t.id {refused})\n\
             group by failed.record_id\n) as latest\nwhere {}\nreturning entry.id",
            is("failed.state", FAILED),
            qualified::equal("failed.table_name", &name),
            qualified::equal("latest.id", "entry.id")
        ),
    };
    Ok(target.rows(&sql, &[&keys]).await?.len() as u64)
}

/// Whether the log has an entry of the row that is still to be sent.
fn waits(object: &Object) -> String {
    let is = |value: &str, what: &str| qualified::equal(value, &literal(what));
    format!(
        "exists (\nselect\nfrom {} as waiting\nwhere ({} or {})\nand {} and {}\n)",
        log(object),
        is("waiting.state", "NEW"),
        is("waiting.state", "PENDING"),
        is("waiting.table_name", &object.target.table),
        qualified::equal("waiting.record_id", "t.id"),
    )
}

/// Whether an external id is among those of `$1`.
fn among(route: &Route, id: &str) -> String {
    let id_type = &route.external_id_type;
    id_type.equal_any(id, &format!("$1::pg_catalog.text[]::{id_type}[]"))
}

async fn refused(
    target: &Session,
    route: &Route,
    keys: Option<&[String]>,
) -> Result<Vec<Row>, Failure> {
    let Object { target: table, external_id, .. } = &route.object;
    let sql = format!(
        "select t.{0}::text as key, t.sfid::text as sfid, t._hc_err as error, {1} as waits\nfrom {table} as t\n\
         where t._hc_lastop = '{FAILED}' and t.{0} is not null and ($1::text[] is null or t.{0}::text = any ($1))\n\
         order by t.{0}\nlimit {MOST}",
        ident(external_id),
        waits(&route.object)
    );
    Ok(target.rows(&sql, &[&keys]).await?)
}

/// A refused row, of a statement that returns `key`, `sfid` and `error`.
pub(super) fn failed(row: &Row) -> Failed {
    Failed {
        key: row.get("key"),
        sfid: row.get("sfid"),
        error: row.get::<_, Option<&str>>("error").map(shortened),
    }
}

/// Of these rows those that the source still publishes.
async fn published(
    evaluator: &Evaluator,
    lane: &Lane,
    rows: &[Failed],
) -> Result<HashSet<String>, Failure> {
    let keys: Vec<String> = rows.iter().map(|row| row.key.clone()).collect();
    let whole = Wanted::of(keys, lane.route.touches.len());
    // What is refused on its own is no key of the source at all, or a row that cannot be read.
    let (mut apart, mut published) = (Apart::new(whole), HashSet::new());
    while let Some(part) = apart.next_part() {
        match project::project(evaluator, BATCH_BYTES, &lane.project, &part).await {
            Ok(None) => apart.divide(part),
            Ok(Some(projected)) => {
                apart.through();
                published.extend(projected.rows.iter().map(|row| project::key(row).to_string()));
            }
            Err(failure) => apart.refuse(part, failure)?,
        }
    }
    if let (true, Some((_, failure))) = (apart.affects_all, apart.refused.into_iter().next()) {
        return Err(failure);
    }
    Ok(published)
}

async fn way(target: &Session, object: &Object) -> Result<Resend, Failure> {
    let function = TableName { schema: object.target.schema.clone(), table: CAPTURE_UPDATE.into() };
    let sql = "select pg_catalog.to_regproc($1) is not null";
    let there: bool = target.row(sql, &[&function.to_string()]).await?.get(0);
    if !there {
        return Ok(Resend::Entry);
    }
    let rows = target.rows(HSTORE, &[]).await?;
    let Some(row) = rows.first() else {
        return Err(Failure::Blocked(Refusal {
            sqlstate: SqlState::UNDEFINED_FUNCTION.code().into(),
            reason: "the target has no extension hstore, which Heroku Connect needs".into(),
            remedy: "reinstall Heroku Connect's schema",
        }));
    };
    // If there were another function of that name beside the extension's own, it could be called in
    // its place.
    if row.get::<_, i64>("others") > 0 {
        return Err(Failure::Blocked(Refusal {
            sqlstate: SqlState::AMBIGUOUS_FUNCTION.code().into(),
            reason: format!(
                "{} is not only the function of extension hstore: there is another function of that name",
                row.get::<_, &str>("hstore")
            ),
            remedy: "drop the other one, and run: revoke create on its schema from public",
        }));
    }
    Ok(Resend::Function { hstore: row.get("hstore") })
}
