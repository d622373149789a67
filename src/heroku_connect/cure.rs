//! Rows that Salesforce refused, and the two ways in which Heroku Connect sends them again.
//!
//! Promise: nothing is cured that is not FAILED at the very moment, and a row that is deleted is written again,
//! whoever dies on the way.
//!
//! A row without `sfid` is unknown to Salesforce: an update of it would be refused like the first attempt, so it is
//! deleted and written again. A row with `sfid` needs a new entry in Heroku Connect's log; a write with equal values
//! makes none that is sent.

use std::collections::HashSet;

use tokio_postgres::Row;

use super::{FAILED, Failed, log, shortened};
use crate::db::Session;
use crate::failure::Failure;
use crate::mapping::Object;
use crate::name::{TableName, ident, literal};
use crate::parked;
use crate::plan::Route;
use crate::project::{self, Wanted};
use crate::resync::{self, Request};
use crate::worker::Lane;

/// So many rows of an object are cured at once; the next call goes on with the others.
pub const MOST: i64 = 10_000;
/// What makes a new entry from a row as it is, where Heroku Connect writes in the order of the changes.
const CAPTURE_UPDATE: &str = "hc_capture_update_from_row";

/// What would become of an object's refused rows.
#[derive(Debug, Default)]
pub struct Plan {
    /// Without `sfid`: deleted and written again.
    pub written_again: Vec<Failed>,
    /// With `sfid`: sent again.
    pub sent_again: Vec<Failed>,
    /// How those are sent again.
    pub way: Way,
    /// Without `sfid`, and not ours to write: Salesforce creates them, or the source has no such row any more.
    pub left_alone: Vec<Failed>,
    /// More are refused than these.
    pub more: bool,
}

/// How Heroku Connect is made to send a row again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// By its function for that, which there is where it writes in the order of the changes.
    #[default]
    Function,
    /// By setting the failed entry of the log to NEW, where it merges changes.
    Entry,
}

/// Finds the refused rows of an object, or of these keys, and what would cure them.
pub async fn plan(
    source: &Session,
    target: &Session,
    lane: &Lane,
    keys: Option<&[String]>,
) -> Result<Plan, Failure> {
    let route = &lane.route;
    let refused = refused(target, route, keys).await?;
    let mut plan = Plan { way: way(target, &route.object).await?, ..Plan::default() };
    plan.more = refused.len() as i64 >= MOST;
    let (known, unknown): (Vec<_>, Vec<_>) =
        refused.into_iter().partition(|row| row.sfid.is_some());
    plan.sent_again = known;
    if route.object.update_only {
        plan.left_alone = unknown;
        return Ok(plan);
    }
    let published = published(source, lane, &unknown).await?;
    (plan.written_again, plan.left_alone) =
        unknown.into_iter().partition(|row| published.contains(&row.key));
    Ok(plan)
}

/// Deletes the rows that are still refused and unknown to Salesforce, and stores the replay that writes them again;
/// tells how many there were, and the replay's number.
pub async fn write_again(
    source: &mut Session,
    target: &Session,
    route: &Route,
    keys: &[String],
) -> Result<Option<(u64, i64)>, Failure> {
    let object = &route.object;
    parked::reserve(source, &object.name, keys).await?;
    // Stored only after the deletion, or the replay might meet the rows as they were and find them right.
    let transaction = source.begin().await?;
    let sql = format!(
        "delete from {} as t\nwhere t.{1} = any ($1::text[]::{2}[]) and t._hc_lastop = '{FAILED}' and t.sfid is null\n\
         returning t.{1}::text as key",
        object.target,
        ident(&object.external_id),
        route.external_id_type
    );
    let deleted = target.rows(&sql, &[&keys]).await?;
    if deleted.is_empty() {
        return Ok(None);
    }
    let keys: Vec<String> = deleted.iter().map(|row| row.get("key")).collect();
    let count = keys.len() as u64;
    let request = Request { keys: Some(keys), ..Request::default() };
    let replay = resync::create(&transaction, &route.object, &request).await?;
    transaction.commit().await?;
    Ok(Some((count, replay)))
}

/// Makes a new entry of the log for each of the rows that is still refused and has none that waits; tells how many.
pub async fn send_again(
    target: &Session,
    route: &Route,
    way: Way,
    keys: &[String],
) -> Result<u64, Failure> {
    let Object { target: table, external_id, .. } = &route.object;
    let log = log(&route.object);
    let refused = format!(
        "from {table} as t\nwhere t.{} = any ($1::text[]::{}[]) and t._hc_lastop = '{FAILED}' and t.sfid is not null\n\
         and not exists (\nselect\nfrom {log} as waiting\nwhere waiting.state in ('NEW', 'PENDING')\nand \
         waiting.table_name = {name} and waiting.record_id = t.id\n)",
        ident(external_id),
        route.external_id_type,
        name = literal(&table.table)
    );
    let sql = match way {
        Way::Function => {
            let function = TableName { schema: table.schema.clone(), table: CAPTURE_UPDATE.into() };
            // hstore and its functions are where Heroku Connect's own triggers look for them: on the search path.
            format!("select {function}(hstore(t.*), {})\n{refused}", literal(&table.table))
        }
        Way::Entry => format!(
            "update {log} as entry\nset state = 'NEW'\nfrom (\nselect max(failed.id) as id\nfrom {log} as failed\n\
             where failed.state = '{FAILED}' and failed.table_name = {}\nand failed.record_id in (select t.id {refused})\n\
             group by failed.record_id\n) as latest\nwhere latest.id = entry.id\nreturning entry.id",
            literal(&table.table)
        ),
    };
    Ok(target.rows(&sql, &[&keys]).await?.len() as u64)
}

async fn refused(
    target: &Session,
    route: &Route,
    keys: Option<&[String]>,
) -> Result<Vec<Failed>, Failure> {
    let Object { target: table, external_id, .. } = &route.object;
    let sql = format!(
        "select t.{0}::text as key, t.sfid::text as sfid, t._hc_err as error\nfrom {table} as t\n\
         where t._hc_lastop = '{FAILED}' and t.{0} is not null and ($1::text[] is null or t.{0}::text = any ($1))\n\
         order by t.{0}\nlimit {MOST}",
        ident(external_id)
    );
    let rows = target.rows(&sql, &[&keys]).await?;
    Ok(rows.iter().map(failed).collect())
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
    source: &Session,
    lane: &Lane,
    rows: &[Failed],
) -> Result<HashSet<String>, Failure> {
    let keys: Vec<String> = rows.iter().map(|row| row.key.clone()).collect();
    let mut published = HashSet::new();
    let mut parts = vec![Wanted::of(keys, lane.route.touches.len())];
    while let Some(part) = parts.pop() {
        match project::project(source, &lane.project, &part).await {
            Ok(projected) => {
                published.extend(projected.rows.iter().map(|row| project::key(row).to_string()));
            }
            // One of them is no key of the source at all, or a row that cannot be read.
            Err(Failure::Dead(_)) => parts.extend(part.halves().into_iter().flatten()),
            Err(failure) => return Err(failure),
        }
    }
    Ok(published)
}

async fn way(target: &Session, object: &Object) -> Result<Way, Failure> {
    let function = TableName { schema: object.target.schema.clone(), table: CAPTURE_UPDATE.into() };
    let sql = "select pg_catalog.to_regproc($1) is not null";
    let there: bool = target.row(sql, &[&function.to_string()]).await?.get(0);
    Ok(if there { Way::Function } else { Way::Entry })
}
