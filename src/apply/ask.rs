//! Asks the target about keys: which are there, which it lacks, which have arrived.

use std::collections::HashSet;

use super::Statements;
use crate::postgres::apart::Apart;
use crate::postgres::db::Direct;
use crate::postgres::failure::Failure;
use crate::postgres::name::TableName;
use crate::project::{self, Projected};

const WRITES: &str = include_str!("../../sql/target_writes.sql");

/// What the target said of keys that it was asked for.
#[derive(Debug, Default)]
pub struct Asked {
    /// Those that it found.
    pub found: Vec<String>,
    /// Those that it refused to look for: no column of its own could hold them, or it is hindered.
    pub refused: Vec<(String, Failure)>,
}

/// Asks a query about keys. A key that the target refuses does not hold up the others.
async fn ask(target: &Direct, sql: &str, keys: &[String]) -> Result<Asked, Failure> {
    let client = target.client();
    let statement = client.prepare_cached(sql).await?;
    let (mut apart, mut asked) = (Apart::new(0..keys.len()), Asked::default());
    while let Some(part) = apart.next_part() {
        match client.query(&statement, &[&&keys[part.clone()]]).await {
            Ok(rows) => {
                apart.through();
                asked.found.extend(rows.iter().map(|row| row.get::<_, String>(0)));
            }
            Err(error) => match Failure::from(error) {
                // A lock or a time-out: asking in parts would take that long again for each part.
                Failure::Retry(refusal) => apart.refused.push((part, Failure::Retry(refusal))),
                failure => apart.refuse(part, failure)?,
            },
        }
    }
    let refused = apart.refused.into_iter();
    asked.refused = refused
        .flat_map(|(part, failure)| {
            keys[part].iter().map(move |key| (key.clone(), failure.clone()))
        })
        .collect();
    Ok(asked)
}

/// Of these keys, those that have a row in the target.
pub async fn keys_there(
    target: &Direct,
    statements: &Statements,
    keys: &[String],
) -> Result<Asked, Failure> {
    ask(target, &statements.there, keys).await
}

/// How many rows the target's table has, counted up to this many.
pub async fn rows_standing(
    target: &Direct,
    statements: &Statements,
    most: i64,
) -> Result<i64, Failure> {
    let target = target.client();
    let statement = target.prepare_cached(&statements.standing).await?;
    Ok(target.query_one(&statement, &[&most]).await?.get(0))
}

/// How many rows were ever inserted or updated in these tables, as far as the server has counted. It may be seconds behind,
/// counts what was rolled back, and begins again after a crash: only that it is another number means something.
pub async fn writes_in(target: &Direct, tables: &[&TableName]) -> Result<i64, Failure> {
    let schemas: Vec<&str> = tables.iter().map(|table| &*table.schema).collect();
    let names: Vec<&str> = tables.iter().map(|table| &*table.table).collect();
    let client = target.client();
    let statement = client.prepare_cached(WRITES).await?;
    Ok(client.query_one(&statement, &[&schemas, &names]).await?.get("writes"))
}

/// Leaves only the rows whose key the target lacks, or refuses to look for.
pub async fn retain_lacking(
    target: &Direct,
    statements: &Statements,
    projected: &mut Projected,
) -> Result<(), Failure> {
    let keys: Vec<String> = projected.rows.iter().map(|row| project::key(row).into()).collect();
    let Asked { found, refused } = ask(target, &statements.lacking, &keys).await?;
    let lacking: HashSet<String> =
        found.into_iter().chain(refused.into_iter().map(|(key, _)| key)).collect();
    projected.rows.retain(|row| lacking.contains(project::key(row)));
    Ok(())
}

/// Of the given things waited for, by `awaits`, those that are there now.
pub async fn arrived_keys(
    target: &Direct,
    all: &[&Statements],
    awaits: &str,
    keys: &[String],
) -> Result<Asked, Failure> {
    let known =
        all.iter().flat_map(|statements| &statements.arrived).find(|(what, _)| what == awaits);
    match known {
        Some((_, sql)) => ask(target, sql, keys).await,
        // Nothing in this mapping waits for it (any more): let the keys be looked at again.
        None => Ok(Asked { found: keys.to_vec(), refused: Vec::new() }),
    }
}
