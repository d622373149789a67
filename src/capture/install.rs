//! Installs triggers that differ from those that should be there.
//!
//! Promise: a table whose triggers are right is not touched, and a busy table is never queued up behind
//! our DDL: each attempt gives way after `LOCK_TIMEOUT`.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::deviation::{Deviation, Fault};
use super::schema;
use super::trigger::{Function, Rendered};
use crate::postgres::db::{Direct, Session};
use crate::postgres::name::{TableName, ident, literal};
use crate::postgres::template::fill;

const SECURE: &str = include_str!("../../triggers/secure.sql");
const SEAL: &str = include_str!("../../triggers/seal.sql");
const BLOCKERS: &str = include_str!("../../sql/blockers.sql");

/// While DDL waits for its lock, every writer waits behind it: this is the longest that may last.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);
/// Between two attempts: long enough for the writers that queued up to pass.
const LOCK_PAUSE: Duration = Duration::from_millis(700);
/// After this many attempts (about a minute) it gives up and names who holds the table.
const LOCK_ATTEMPTS: u32 = 60;

/// Why the triggers could not be installed.
#[derive(Debug)]
pub enum NotInstalled {
    /// The table was never free for long enough. Names who was in the way.
    Busy {
        /// The table.
        table: TableName,
        /// Process ids and what they do.
        blockers: Vec<String>,
    },
    /// The database refused.
    Database(tokio_postgres::Error),
}

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { table, blockers } => {
                let holders = match blockers.is_empty() {
                    true => "many short transactions".to_string(),
                    false => blockers.join("; "),
                };
                write!(
                    f,
                    "{} was locked at each of {LOCK_ATTEMPTS} attempts ({holders}); end the long transaction and \
                     try again, nothing was queued up behind it",
                    table.plain()
                )
            }
            Self::Database(error) => f.write_str(&crate::postgres::failure::chain(error)),
        }
    }
}

impl std::error::Error for NotInstalled {}

impl From<tokio_postgres::Error> for NotInstalled {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

/// The SQL that fixes the deviations, one transaction per table.
pub fn sql(wanted: &[Rendered], deviations: &[Deviation]) -> Vec<(TableName, String)> {
    let rendered = |table: &TableName| wanted.iter().find(|rendered| rendered.table == *table);
    let tables: BTreeSet<&TableName> =
        deviations.iter().map(|deviation| &deviation.table).collect();
    let mut tables: Vec<&TableName> = tables.into_iter().collect();
    // A trigger that is left over on a partition is in the way of the one that its parent gets under the same name.
    let is_in_the_way = |table: &&TableName| {
        let mut of_table = deviations.iter().filter(|deviation| deviation.table == **table);
        of_table.any(|deviation| deviation.fault == Fault::NotNeeded)
    };
    tables.sort_by_key(|table| !is_in_the_way(table));
    let sql = |table| (TableName::clone(table), sql_for(table, rendered(table), deviations));
    tables.into_iter().map(sql).collect()
}

fn sql_for(table: &TableName, rendered: Option<&Rendered>, deviations: &[Deviation]) -> String {
    let mut sql = vec![format!("set local {}", schema::OWN_PATH)];
    let not_needed = deviations
        .iter()
        .filter(|deviation| deviation.table == *table && deviation.fault == Fault::NotNeeded);
    sql.extend(not_needed.map(|deviation| {
        format!("drop trigger if exists {} on {table}", ident(&deviation.trigger))
    }));
    if let Some(rendered) = rendered {
        sql.extend(rendered.functions.iter().map(|function| function.sql.clone()));
        for trigger in &rendered.triggers {
            let name = ident(&trigger.name);
            sql.push(trigger.sql.clone());
            sql.push(format!("alter table {table} enable always trigger {name}"));
        }
        sql.push(seal(rendered));
    }
    sql.push(secure(rendered));
    sql.iter().map(|statement| format!("{statement};\n")).collect()
}

/// The statement that leaves each function to the owner of the captured table alone.
fn secure(rendered: Option<&Rendered>) -> String {
    let functions = rendered.map_or(&[][..], |rendered| &rendered.functions);
    let list = |value: fn(&Function) -> String| {
        functions.iter().map(|function| literal(&value(function))).collect::<Vec<_>>().join(", ")
    };
    let names = list(|function| function.name.clone());
    let tables = list(|function| function.table.regclass());
    fill(SECURE, &[("{functions}", &names), ("{tables}", &tables)]).trim_end().to_string()
}

/// The statement that notes in the triggers' comments how they were made.
fn seal(rendered: &Rendered) -> String {
    let fingerprints = rendered
        .triggers
        .iter()
        .map(|trigger| format!("({}, {})", literal(&trigger.name), literal(&trigger.fingerprint)));
    let fingerprints = fingerprints.collect::<Vec<_>>().join(", ");
    let table = literal(&rendered.table.regclass());
    fill(SEAL, &[("{fingerprints}", &fingerprints), ("{table}", &table)]).trim_end().to_string()
}

/// Runs DDL on a table in one transaction, giving way to its writers until it gets through.
pub async fn run_ddl(source: &Direct, table: &TableName, sql: &str) -> Result<(), NotInstalled> {
    let millis = LOCK_TIMEOUT.as_millis();
    let transaction = format!("begin; set local lock_timeout = '{millis}ms'; {sql} commit");
    let mut blockers = Vec::new();
    for attempt in 1..=LOCK_ATTEMPTS {
        match source.client().batch_execute(&transaction).await {
            Ok(()) => return Ok(()),
            Err(error) if given_way(&error) => {
                source.client().batch_execute("rollback").await?;
                blockers = blockers_of(source, table).await?;
                tracing::info!(table = %table.plain(), attempt, ?blockers, "the table is busy; retrying without \
                 blocking its writers");
                tokio::time::sleep(LOCK_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
            }
            Err(error) => {
                source.client().batch_execute("rollback").await?;
                return Err(error.into());
            }
        }
    }
    Err(NotInstalled::Busy { table: table.clone(), blockers })
}

fn given_way(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED))
}

async fn blockers_of(
    source: &Session,
    table: &TableName,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let rows = source.rows(BLOCKERS, &[&table.regclass()]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
