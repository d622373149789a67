//! Notices changes of a captured table that no trigger reports: columns that are altered,
//! partitions and children that come or go, triggers that were disabled for a while.
//!
//! Promise: they are noticed however long nobody looked, and answered with a resync that makes the
//! rows right. Sole owner of `schoolbell.shape`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::outbox::resync;
use crate::plan::Captured;
use crate::plan::Route;
use crate::postgres::db::Session;
use crate::postgres::failure::Failure;
use crate::postgres::name::TableName;

const NOW: &str =
    concat!(include_str!("../../sql/parts_of.sql"), include_str!("../../sql/shape_now.sql"));
const NOTE: &str = include_str!("../../sql/shape_note.sql");
const NOTED: &str = "select source_table, shape from schoolbell.shape";

/// What has changed of a table since it was looked at last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeChange {
    /// The table, plain.
    pub table: String,
    /// What has changed, in words.
    pub what: String,
    shape: String,
}

impl ShapeChange {
    /// For people.
    pub fn sentence(&self) -> String {
        format!("{}: {}; no trigger reports which rows are affected", self.table, self.what)
    }
}

/// Tables that are not what they were. A table that is looked at for the first time is none of them; it is in the second
/// list, which is to be noted.
async fn compare(
    source: &Session,
    captured: &Captured,
) -> Result<(Vec<ShapeChange>, Vec<(String, String)>), tokio_postgres::Error> {
    let rows = source.rows(NOTED, &[]).await?;
    let noted: BTreeMap<String, Value> =
        rows.iter().map(|row| (row.get("source_table"), row.get("shape"))).collect();
    let (mut changed, mut new) = (Vec::new(), Vec::new());
    for (name, columns) in captured {
        let asked = source.rows(NOW, &[&name.schema, &name.table, columns]).await?;
        let Some(row) = asked.first() else { continue };
        let now: Value = row.get::<_, Option<Value>>("shape").unwrap_or_default();
        let table = name.plain();
        match noted.get(&table) {
            None => new.push((table, now.to_string())),
            Some(before) => changed.extend(difference(table, before, &now)),
        }
    }
    Ok((changed, new))
}

fn difference(table: String, before: &Value, now: &Value) -> Option<ShapeChange> {
    let altered = altered(&before["columns"], &now["columns"]);
    let mut what = Vec::new();
    if !altered.is_empty() {
        what.push(format!("altered was {}", altered.join(", ")));
    }
    if before["parts"] != now["parts"] {
        what.push("partitions or children came or went".into());
    }
    if before["crash"] != now["crash"] && !before["crash"].is_null() {
        what.push("the server crashed, which empties what is unlogged".into());
    }
    if before["triggers"] != now["triggers"] {
        what.push("triggers were changed, or disabled for a while".into());
    }
    (before != now).then(|| ShapeChange {
        table,
        what: what.join(", and "),
        shape: now.to_string(),
    })
}

/// Columns that were there before and have changed. A column that is new to the mapping is not
/// reported here.
fn altered(before: &Value, now: &Value) -> Vec<String> {
    let empty = serde_json::Map::new();
    let before = before.as_object().unwrap_or(&empty);
    before
        .iter()
        .filter(|(column, mark)| now.get(column).is_some_and(|now| now != *mark))
        .map(|(column, _)| column.clone())
        .collect()
}

/// What has changed and was not answered yet.
pub async fn unanswered(
    source: &Session,
    captured: &Captured,
) -> Result<Vec<ShapeChange>, tokio_postgres::Error> {
    let (changed, _) = compare(source, captured).await?;
    Ok(changed.into_iter().filter(|changed| !changed.what.is_empty()).collect())
}

/// Looks, and orders a resync of each object whose table is not what it was.
pub async fn answer(
    source: &mut Session,
    routes: &[&Route],
    captured: &Captured,
) -> Result<(), Failure> {
    let (changed, new) = compare(source, captured).await?;
    if changed.is_empty() && new.is_empty() {
        return Ok(());
    }
    let transaction = source.begin().await?;
    for (table, shape) in &new {
        transaction.execute(NOTE, &[table, shape]).await?;
    }
    for change in &changed {
        transaction.execute(NOTE, &[&change.table, &change.shape]).await?;
        let objects = routes.iter().filter(|_| !change.what.is_empty());
        for route in objects {
            let reads = route.object.source.plain() == change.table;
            let is_touched = route.touches.iter().any(|touch| touch.table == change.table);
            if reads || is_touched {
                resync::create_all(&transaction, route).await?;
            }
        }
    }
    transaction.commit().await?;
    for change in changed.iter().filter(|change| !change.what.is_empty()) {
        let (table, what) = (&change.table, &change.what);
        tracing::warn!(
            table,
            what,
            "no trigger reports which rows are affected; a resync checks all of them"
        );
    }
    Ok(())
}

/// Of these tables those that nothing has happened to since they were looked at.
pub async fn settled(
    source: &Session,
    captured: &Captured,
) -> Result<Captured, tokio_postgres::Error> {
    let (changed, new) = compare(source, captured).await?;
    let is_settled = |table: &TableName| {
        let table = table.plain();
        !changed.iter().any(|changed| changed.table == table && !changed.what.is_empty())
            && !new.iter().any(|(new, _)| *new == table)
    };
    Ok(captured.clone().into_iter().filter(|(table, _)| is_settled(table)).collect())
}

/// Notes what these tables are now: their triggers were changed by us, and no change was missed.
pub async fn renew(source: &Session, settled: &Captured) -> Result<(), tokio_postgres::Error> {
    let (changed, _) = compare(source, settled).await?;
    for ShapeChange { table, shape, .. } in changed {
        source.execute(NOTE, &[&table, &shape]).await?;
    }
    Ok(())
}
