//! Sends rows to the target, and reads what became of each.

use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use deadpool_postgres::ClientWrapper;
use futures_util::SinkExt;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

use super::statements::{Copied, Statements};
use super::{KeyPart, Locked};
use crate::outbox::outcome::Outcome;
use crate::plan::Route;
use crate::postgres::db::Direct;
use crate::postgres::failure::{Failure, Refusal};
use crate::project;

/// From this many rows on, COPY is cheaper than parameters.
const MANY_ROWS: usize = 500;
/// COPY is sent in parts of about this size.
const COPY_BYTES: usize = 64 * 1024;

/// Whether this role may have temporary tables.
pub async fn may_copy(target: &Direct) -> Result<bool, Failure> {
    let sql =
        "select pg_catalog.has_database_privilege(pg_catalog.current_database(), 'temporary')";
    Ok(target.row_once(sql).await?.get(0))
}

/// A part, with everything that is needed to send it.
pub struct Call<'a> {
    route: &'a Route,
    part: KeyPart<'a>,
    locked: Locked,
    way: Transport<'a>,
}

/// How a part gets to the target.
enum Transport<'a> {
    /// As one array per column, or the keys.
    Parameters(Statement, Vec<Vec<Option<Raw<'a>>>>),
    /// By COPY. The statement is planned each time: then the planner sees how much was copied, and how far the
    /// target's table has grown.
    Copy(&'a Copied),
}

impl<'a> Call<'a> {
    /// Prepares the statement for a part. None when there is nothing to be done on the target.
    pub async fn prepare(
        target: &ClientWrapper,
        route: &'a Route,
        statements: &'a Statements,
        part: KeyPart<'a>,
        may_copy: bool,
        locked: Locked,
    ) -> Result<Option<Self>, Failure> {
        let way = match part {
            _ if part.is_empty() => return Ok(None),
            KeyPart::Absent(_) => match &statements.leave {
                Some(leave) => {
                    Transport::Parameters(target.prepare_cached(leave).await?, Vec::new())
                }
                None => return Ok(None),
            },
            KeyPart::Rows(rows) if may_copy && rows.len() >= MANY_ROWS => {
                target.batch_execute(&statements.copied.create).await?;
                Transport::Copy(&statements.copied)
            }
            KeyPart::Rows(rows) => Transport::Parameters(
                target.prepare_cached(statements.write.form(locked)).await?,
                columns_of(route, rows),
            ),
        };
        Ok(Some(Self { route, part, locked, way }))
    }

    /// How many rows it is about.
    pub fn rows(&self) -> usize {
        self.part.len()
    }

    /// Whether it takes a single message, so that others may be sent with it.
    pub fn is_one_message(&self) -> bool {
        matches!(self.way, Transport::Parameters(..))
    }

    /// Carries it out in the open transaction, and returns the outcome of each key whose row was
    /// not equal.
    pub async fn run(
        &self,
        target: &Client,
    ) -> Result<Vec<(String, Outcome)>, tokio_postgres::Error> {
        let told = match (self.part, &self.way) {
            (KeyPart::Absent(keys), Transport::Parameters(statement, _)) => {
                target.query(statement, &[&keys]).await?
            }
            (KeyPart::Rows(_), Transport::Parameters(statement, columns)) => {
                target.query(statement, &parameters(columns)).await?
            }
            (KeyPart::Rows(rows), Transport::Copy(copied)) => {
                copy_in(target, &copied.copy, self.route, rows).await?;
                target.query_typed(copied.write.form(self.locked), &[]).await?
            }
            (KeyPart::Absent(_), Transport::Copy(_)) => unreachable!("keys are never copied"),
        };
        let left = |row: &Row| match row.get("outcome") {
            "kept" => Outcome::Kept,
            "deleted" => Outcome::Deleted,
            _ => Outcome::Retries(Refusal::locked()),
        };
        Ok(told
            .iter()
            .map(|row| match self.part {
                KeyPart::Absent(_) => (row.get("key"), left(row)),
                KeyPart::Rows(_) => outcome(self.route, row),
            })
            .collect())
    }
}

/// What writing the rows would do. The statement only compares; it writes nothing.
pub async fn compare_rows(
    target: &mut Direct,
    route: &Route,
    statements: &Statements,
    rows: &[Row],
) -> Result<Vec<(String, Outcome)>, Failure> {
    let transaction = target.client_mut().build_transaction().read_only(true).start().await?;
    let statement = transaction.prepare_cached(&statements.compare).await?;
    let columns = columns_of(route, rows);
    let told = transaction.query(&statement, &parameters(&columns)).await?;
    Ok(told.iter().map(|row| outcome(route, row)).collect())
}

/// Reads one row of the write or compare statement.
fn outcome(route: &Route, row: &Row) -> (String, Outcome) {
    let awaits = row.get::<_, Option<i32>>("parent").map(|index| &route.parents[index as usize]);
    let outcome = match (row.get::<_, &str>("outcome"), awaits) {
        ("updated", _) => Outcome::Updated,
        ("inserted", _) => Outcome::Inserted,
        ("locked", _) => Outcome::Retries(Refusal::locked()),
        ("waits", Some(parent)) => Outcome::Waits {
            awaits: Route::awaits_sfid(&parent.object),
            key: row.get("parent_key"),
        },
        ("waits", None) => {
            Outcome::Waits { awaits: route.awaits_row(), key: row.get("parent_key") }
        }
        (other, _) => unreachable!("the statement returns no outcome {other:?}"),
    };
    (row.get("key"), outcome)
}

/// A value that is passed through in its binary form: both sides cast it to the same type.
#[derive(Debug, Clone, Copy)]
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Raw<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// Where the batch's columns are in a projected row.
fn places(route: &Route) -> Vec<usize> {
    let width = project::EXTERNAL_ID + 1 + route.columns.len() + route.parents.len();
    std::iter::once(0).chain(project::EXTERNAL_ID..width).collect()
}

/// The batch as one array per column.
fn columns_of<'a>(route: &Route, rows: &'a [Row]) -> Vec<Vec<Option<Raw<'a>>>> {
    let column = |place: usize| rows.iter().map(|row| row.get(place)).collect();
    places(route).into_iter().map(column).collect()
}

fn parameters<'a>(columns: &'a [Vec<Option<Raw<'_>>>]) -> Vec<&'a (dyn ToSql + Sync)> {
    columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect()
}

/// Sends rows in COPY's binary form: a header, then for each row its number of values and each value's length.
async fn copy_in(
    target: &Client,
    copy: &str,
    route: &Route,
    rows: &[Row],
) -> Result<(), tokio_postgres::Error> {
    let mut sink = pin!(target.copy_in::<_, Bytes>(copy).await?);
    let places = places(route);
    let mut part = BytesMut::with_capacity(2 * COPY_BYTES);
    part.put_slice(b"PGCOPY\n\xff\r\n\0");
    part.put_bytes(0, 8);
    for row in rows {
        part.put_i16(places.len() as i16);
        for &place in &places {
            match row.get::<_, Option<Raw<'_>>>(place) {
                Some(Raw(value)) => {
                    part.put_i32(value.len() as i32);
                    part.put_slice(value);
                }
                None => part.put_i32(-1),
            }
        }
        if part.len() >= COPY_BYTES {
            sink.send(part.split().freeze()).await?;
        }
    }
    part.put_i16(-1);
    sink.send(part.freeze()).await?;
    sink.finish().await.map(|_| ())
}
