//! Writes projected rows into the mapped tables: update what differs, insert what is missing.
//!
//! Promise: the same rows applied twice leave the same target and cause no second write. A row that is
//! right is not touched, a row whose parent Salesforce does not know is not written, and a row that
//! exists is never upserted (each attempt would burn a value of the target's int4 id sequence).

use bytes::BytesMut;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};

use crate::db::Direct;
use crate::failure::Failure;
use crate::mapping::OnDelete;
use crate::name::ident;
use crate::outcome::Outcome;
use crate::plan::Route;
use crate::project::{self, Projected};

/// The statements of one route.
#[derive(Debug, Clone)]
pub struct Statements {
    write: String,
    compare: String,
    lacking: String,
    leave: Option<String>,
    arrived: Vec<(String, String)>,
}

impl Statements {
    /// Builds them.
    pub fn new(route: &Route) -> Self {
        Self {
            write: write(route),
            compare: compare(route),
            lacking: lacking(route),
            leave: leave(route),
            arrived: arrived(route),
        }
    }
}

/// Waits only briefly for locked rows: a batch that is tried in parts would wait at every halving.
pub async fn hurry(target: &deadpool_postgres::Transaction<'_>) -> Result<(), Failure> {
    Ok(target.batch_execute("set local lock_timeout = '100ms'").await?)
}

/// Applies the rows of one object inside a transaction, or fails as a whole.
pub async fn write_rows(
    target: &deadpool_postgres::Transaction<'_>,
    route: &Route,
    statements: &Statements,
    rows: &[Row],
) -> Result<Vec<(String, Outcome)>, Failure> {
    outcomes(target, &statements.write, route, rows).await
}

/// Lets the rows of keys that left the publication go, or stay, as the object says.
pub async fn leave_rows(
    target: &deadpool_postgres::Transaction<'_>,
    route: &Route,
    statements: &Statements,
    keys: &[String],
) -> Result<Vec<(String, Outcome)>, Failure> {
    let Some(leave) = &statements.leave else { return Ok(Vec::new()) };
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let statement = target.prepare_cached(leave).await?;
    let outcome = match route.object.on_delete {
        OnDelete::Keep => Outcome::Kept,
        OnDelete::Delete => Outcome::Deleted,
    };
    let rows = target.query(&statement, &[&keys]).await?;
    Ok(rows.iter().map(|row| (row.get(0), outcome.clone())).collect())
}

/// What [`write_rows`] would do, without doing it: the server itself sees to that.
pub async fn compare_rows(
    target: &mut Direct,
    route: &Route,
    statements: &Statements,
    rows: &[Row],
) -> Result<Vec<(String, Outcome)>, Failure> {
    let transaction = target.client_mut().build_transaction().read_only(true).start().await?;
    outcomes(&transaction, &statements.compare, route, rows).await
}

/// Hands the rows to a statement that tells what becomes of each that is not simply equal.
async fn outcomes(
    target: &deadpool_postgres::Transaction<'_>,
    statement: &str,
    route: &Route,
    rows: &[Row],
) -> Result<Vec<(String, Outcome)>, Failure> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let statement = target.prepare_cached(statement).await?;
    let columns = columns_of(route, rows);
    let told = target.query(&statement, &parameters(&columns)).await?;
    Ok(told.iter().map(|row| outcome(route, row)).collect())
}

/// Leaves only the rows whose key the target lacks.
pub async fn retain_lacking(
    target: &Direct,
    statements: &Statements,
    projected: &mut Projected,
) -> Result<(), Failure> {
    let keys: Vec<&str> = projected.rows.iter().map(project::key).collect();
    let target = target.client();
    let statement = target.prepare_cached(&statements.lacking).await?;
    let lacking: std::collections::HashSet<String> =
        target.query(&statement, &[&keys]).await?.iter().map(|row| row.get(0)).collect();
    projected.rows.retain(|row| lacking.contains(project::key(row)));
    Ok(())
}

/// Of the given things waited for, by `awaits`, those that are there now.
pub async fn arrived_keys(
    target: &Direct,
    all: &[&Statements],
    awaits: &str,
    keys: &[String],
) -> Result<Vec<String>, Failure> {
    let known =
        all.iter().flat_map(|statements| &statements.arrived).find(|(what, _)| what == awaits);
    let Some((_, sql)) = known else {
        // Nothing in this mapping waits for it (any more): let the keys be looked at again.
        return Ok(keys.to_vec());
    };
    let target = target.client();
    let statement = target.prepare_cached(sql).await?;
    Ok(target.query(&statement, &[&keys]).await?.iter().map(|row| row.get(0)).collect())
}

/// Reads one row of the write or compare statement.
fn outcome(route: &Route, row: &Row) -> (String, Outcome) {
    let awaits = row.get::<_, Option<i32>>("parent").map(|index| &route.parents[index as usize]);
    let outcome = match (row.get::<_, &str>("outcome"), awaits) {
        ("updated", _) => Outcome::Updated,
        ("inserted", _) => Outcome::Inserted,
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

/// The batch as rows, gated: what must wait, and for which parent. `$1`: keys, `$2`: external ids,
/// then one array per column and per parent.
fn gated(route: &Route) -> String {
    let mut names = vec!["key".to_string(), "external_id".to_string()];
    let mut arrays = vec!["$1::text[]".to_string(), format!("$2::{}[]", route.external_id_type)];
    for (index, column) in route.columns.iter().enumerate() {
        names.push(format!("f{index}"));
        arrays.push(format!("${}::{}[]", arrays.len() + 1, column.type_name));
    }
    for (index, parent) in route.parents.iter().enumerate() {
        names.push(format!("p{index}"));
        arrays.push(format!("${}::{}[]", arrays.len() + 1, parent.type_name));
    }
    let waits: String = route
        .parents
        .iter()
        .enumerate()
        .map(|(index, parent)| {
            format!(
                "\nwhen b.p{index} is not null and not exists (\nselect\nfrom {} as parent\nwhere parent.{} = b.p{index} \
                 and parent.sfid is not null\n) then {index}",
                parent.table,
                ident(&parent.external_id)
            )
        })
        .collect();
    let gate = match waits.is_empty() {
        true => "null::int4".to_string(),
        false => format!("case{waits}\nend"),
    };
    format!(
        "batch as materialized (\nselect b.*, {gate} as parent\nfrom rows from ({}) as b ({})\n)",
        arrays
            .iter()
            .map(|array| format!("pg_catalog.unnest({array})"))
            .collect::<Vec<_>>()
            .join(", "),
        names.join(", ")
    )
}

/// A row that must wait for a parent, with the parent's key.
fn waiting(route: &Route) -> String {
    let keys: String = (0..route.parents.len())
        .map(|index| format!(" when {index} then batch.p{index}::text"))
        .collect();
    let key = match keys.is_empty() {
        true => "null::text".to_string(),
        false => format!("case batch.parent{keys} end"),
    };
    format!(
        "select batch.key, 'waits' as outcome, batch.parent, {key} as parent_key\nfrom batch\nwhere batch.parent is not null"
    )
}

/// A row of an update-only object that Salesforce has not created yet.
fn missing(route: &Route) -> String {
    format!(
        "select batch.key, 'waits' as outcome, null::int4 as parent, batch.key as parent_key\nfrom batch\n\
         where batch.parent is null and not exists (\n{}\n)",
        same_row(route)
    )
}

fn same_row(route: &Route) -> String {
    format!(
        "select\nfrom {} as t\nwhere t.{} = batch.external_id",
        route.object.target,
        ident(&route.object.external_id)
    )
}

/// Whether the target's row differs from the batch's in a compared column.
fn differs(route: &Route) -> String {
    let compared: Vec<String> = route
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.field.compared)
        .map(|(index, column)| {
            let value = project::comparable(column, &format!("t.{}", ident(&column.field.column)));
            format!("{value} is distinct from batch.f{index}")
        })
        .collect();
    match compared.is_empty() {
        true => "false".to_string(),
        false => compared.join("\nor "),
    }
}

fn update(route: &Route) -> Option<String> {
    let set: Vec<String> = route
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| !column.field.insert_only)
        .map(|(index, column)| format!("{} = batch.f{index}", ident(&column.field.column)))
        .collect();
    if set.is_empty() {
        return None;
    }
    Some(format!(
        "update {} as t\nset {}\nfrom batch\nwhere batch.parent is null\nand t.{} = batch.external_id\nand (\n{}\n)\n\
         returning batch.key",
        route.object.target,
        set.join(",\n"),
        ident(&route.object.external_id),
        differs(route)
    ))
}

fn insert(route: &Route) -> String {
    let mut columns = vec![ident(&route.object.external_id)];
    let mut values = vec!["batch.external_id".to_string()];
    for (index, column) in route.columns.iter().enumerate() {
        columns.push(ident(&column.field.column));
        values.push(format!("batch.f{index}"));
    }
    format!(
        "insert into {} ({})\nselect {}\nfrom batch\nwhere batch.parent is null and not exists (\n{}\n)\norder by batch.key\n\
         returning {}::text as key",
        route.object.target,
        columns.join(", "),
        values.join(", "),
        same_row(route),
        ident(&route.object.external_id)
    )
}

/// One statement: both parts see the target as it was, so no row is both updated and inserted.
fn write(route: &Route) -> String {
    let mut steps = vec![gated(route)];
    let mut results = vec![waiting(route)];
    if let Some(update) = update(route) {
        steps.push(format!("updated as (\n{update}\n)"));
        results.push(done("updated"));
    }
    match route.object.update_only {
        true => results.push(missing(route)),
        false => {
            steps.push(format!("inserted as (\n{}\n)", insert(route)));
            results.push(done("inserted"));
        }
    }
    format!("with {}\n{}", steps.join(",\n"), results.join("\nunion all\n"))
}

fn done(step: &str) -> String {
    format!("select {step}.key, '{step}', null, null\nfrom {step}")
}

fn compare(route: &Route) -> String {
    let mut results = vec![waiting(route)];
    results.push(format!(
        "select batch.key, 'updated', null, null\nfrom batch\nwhere batch.parent is null and exists (\n{} and (\n{}\n)\n)",
        same_row(route),
        differs(route)
    ));
    results.push(match route.object.update_only {
        true => missing(route),
        false => format!(
            "select batch.key, 'inserted', null, null\nfrom batch\nwhere batch.parent is null and not exists (\n{}\n)",
            same_row(route)
        ),
    });
    format!("with {}\n{}", gated(route), results.join("\nunion all\n"))
}

fn lacking(route: &Route) -> String {
    format!(
        "select k.key\nfrom pg_catalog.unnest($1::text[]) as k (key)\nwhere not exists (\nselect\nfrom {} as t\n\
         where t.{} = k.key::{}\n)",
        route.object.target,
        ident(&route.object.external_id),
        route.external_id_type
    )
}

/// An update-only object's rows are Salesforce's own: that their source is gone changes nothing.
fn leave(route: &Route) -> Option<String> {
    let external_id = ident(&route.object.external_id);
    let target = &route.object.target;
    let keys = format!("t.{external_id} = any ($1::text[]::{}[])", route.external_id_type);
    match (route.object.update_only, route.object.on_delete) {
        (true, _) => None,
        (false, OnDelete::Keep) => {
            Some(format!("select t.{external_id}::text\nfrom {target} as t\nwhere {keys}"))
        }
        (false, OnDelete::Delete) => Some(format!(
            "delete from {target} as t\nwhere {keys}\nreturning t.{external_id}::text"
        )),
    }
}

/// For each thing a key of this route may wait for: the query that finds the ones that are there.
fn arrived(route: &Route) -> Vec<(String, String)> {
    let there = |table: &dyn std::fmt::Display, external_id: &str, type_name: &str, and: &str| {
        format!(
            "select k.key\nfrom pg_catalog.unnest($1::text[]) as k (key)\nwhere exists (\nselect\nfrom {table} as t\n\
             where t.{} = k.key::{type_name}{and}\n)",
            ident(external_id)
        )
    };
    let parents = route.parents.iter().map(|parent| {
        let sfid = "\nand t.sfid is not null";
        let sql = there(&parent.table, &parent.external_id, &parent.type_name, sfid);
        (Route::awaits_sfid(&parent.object), sql)
    });
    let object = &route.object;
    let own = object.update_only.then(|| {
        (
            route.awaits_row(),
            there(&object.target, &object.external_id, &route.external_id_type, ""),
        )
    });
    parents.chain(own).collect()
}

/// A value on its way through, in its binary form: both sides cast it to the same type.
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

/// The batch as one array per column: keys, external ids, columns, parents.
fn columns_of<'a>(route: &Route, rows: &'a [Row]) -> Vec<Vec<Option<Raw<'a>>>> {
    let width = project::EXTERNAL_ID + 1 + route.columns.len() + route.parents.len();
    std::iter::once(0)
        .chain(project::EXTERNAL_ID..width)
        .map(|index| rows.iter().map(|row| row.get(index)).collect())
        .collect()
}

fn parameters<'a>(columns: &'a [Vec<Option<Raw<'_>>>]) -> Vec<&'a (dyn ToSql + Sync)> {
    columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect()
}
