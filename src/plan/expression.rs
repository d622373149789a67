//! What only Postgres can say of the SQL in a mapping: whether it parses, of which type it is, and what it reads.
//!
//! Promise: nothing is computed; each expression is parsed or planned for no row.

use std::collections::BTreeSet;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Oid;

use super::Unplannable;
use crate::mapping::{Finding, Mapping, Object, Parent, Value};
use crate::postgres::catalogue::Table;
use crate::postgres::db::{Evaluator, Session};
use crate::postgres::failure;
use crate::postgres::name::TableName;

const ROOTS: &str = include_str!("../../sql/roots.sql");

/// What findings call something, and its line.
pub(super) type SettingLine<'a> = (&'a str, usize);

/// What an expression belongs to.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) object: &'a Object,
    /// The table whose columns it may name.
    pub(super) table: &'a Table,
    pub(super) place: SettingLine<'a>,
}

/// Lets the source parse a query of one column and returns its type, or reports what Postgres says. No row is read.
///
/// Asked for in SQL: the driver would look up a type that is not built in by statements with a name, which no
/// pooler keeps for us.
pub(super) async fn expression(
    evaluator: &Evaluator,
    about: About<'_>,
    sql: &str,
    findings: &mut Vec<Finding>,
) -> Result<Option<Oid>, Unplannable> {
    let sql = format!("select pg_catalog.pg_typeof(({sql}\nlimit 0))::pg_catalog.oid");
    match evaluator.rows_and_roll_back(&sql).await {
        Ok(rows) => match rows.first().map(|row| row.try_get(0)) {
            Some(Ok(oid)) => Ok(Some(oid)),
            _ => {
                let (setting, line) = about.place;
                let problem = "is not one expression: it ends the query that it is put into";
                findings.push(Finding::of(about.object, setting, problem).at(line));
                Ok(None)
            }
        },
        Err(error) => match error.as_db_error() {
            // A missing right is not the mapping's fault: rows wait for it, one by one.
            Some(db) if *db.code() == SqlState::INSUFFICIENT_PRIVILEGE => Ok(None),
            // Nor is a locked table or a busy server.
            Some(db) if passes(db.code()) => Err(error.into()),
            Some(db) => {
                let (setting, line) = about.place;
                let problem = failure::of_a_statement_that_reads_no_row(db);
                let unknown = (*db.code() == SqlState::UNDEFINED_COLUMN)
                    .then(|| named_column(&problem))
                    .flatten();
                findings.push(
                    Finding::of(about.object, setting, &problem)
                        .at(line)
                        .or(unknown.and_then(|column| about.table.nearest(column))),
                );
                Ok(None)
            }
            None => Err(error.into()),
        },
    }
}

/// The column of the source row that Postgres misses, from its message: `column "kee" does not exist`. None where it
/// speaks another language, or of another table.
fn named_column(message: &str) -> Option<&str> {
    let named = message.strip_prefix("column ")?.strip_suffix(" does not exist")?;
    let named = named.strip_prefix("source.").unwrap_or(named);
    let plain = named.strip_prefix('"').and_then(|named| named.strip_suffix('"')).unwrap_or(named);
    (!plain.contains(['"', '.'])).then_some(plain)
}

/// The same question may be answered a moment later.
fn passes(state: &SqlState) -> bool {
    matches!(state.code().get(..2), Some("40" | "53" | "55" | "57" | "58"))
}

/// The expressions of an object that are no fields, each as the end of a query on the source table.
pub(super) fn other_expressions(object: &Object) -> Vec<(SettingLine<'static>, String)> {
    let place = |setting: &'static str| (setting, object.line_of(setting));
    let mut expressions = Vec::new();
    if let Some(filter) = &object.filter {
        expressions.push((place("filter"), format!("where ({filter})")));
    }
    if let Some(winner) = &object.winner {
        expressions.push((place("winner.order"), format!("order by {}", winner.order)));
        if let Some(prefer) = &winner.prefer {
            expressions.push((place("winner.prefer"), format!("where ({prefer})")));
        }
    }
    let computed = |parent: &&Parent| matches!(parent.key, Value::Sql(_));
    for parent in object.parents.iter().filter(computed) {
        let place = ("parents", parent.lines.key);
        expressions.push((place, format!("where ({}) is null", parent.key.sql())));
    }
    expressions
}

/// Expressions read tables of which this object's rows follow no change.
pub(super) async fn unwatched(
    source: &Session,
    evaluator: &Evaluator,
    mapping: &Mapping,
) -> Result<Vec<Finding>, Unplannable> {
    let mut advice = Vec::new();
    for object in &mapping.objects {
        let compared = object.fields.iter().filter(|field| field.compared);
        let fields = compared.map(|field| (field.column.as_str(), field.line, field.value.sql()));
        let filter =
            object.filter.iter().map(|sql| ("filter", object.line_of("filter"), sql.clone()));
        for (setting, line, sql) in fields
            .chain(filter)
            .filter(|(.., sql)| sql.contains("select") || sql.contains("SELECT"))
        {
            let sql = format!("select {sql} from {} as source", object.source);
            let known = |table: &TableName| {
                *table == object.source
                    || object.touched_by.iter().any(|touch| touch.table == *table)
            };
            let unwatched = read_tables(source, evaluator, &sql)
                .await?
                .into_iter()
                .filter(|table| !known(table));
            advice.extend(unwatched.map(|table| {
                let problem = format!(
                    "reads {}, whose changes reach no row of this object; add it to [[object.{}.touched_by]], or say \
                     compare = false",
                    table.plain(),
                    object.name
                );
                Finding::of(object, setting, problem).at(line)
            }));
        }
    }
    Ok(advice)
}

/// The tables that a query reads, from the plan that Postgres makes of it. Nothing where it makes none.
async fn read_tables(
    source: &Session,
    evaluator: &Evaluator,
    sql: &str,
) -> Result<BTreeSet<TableName>, Unplannable> {
    let explain = format!("explain (verbose, format json, costs off) {sql}");
    let plan: serde_json::Value = match evaluator.rows_and_roll_back(&explain).await {
        Ok(rows) => rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or_default(),
        Err(error) if error.as_db_error().is_some() => return Ok(BTreeSet::new()),
        Err(error) => return Err(error.into()),
    };
    let (mut tables, mut nodes) = (BTreeSet::new(), vec![&plan]);
    while let Some(node) = nodes.pop() {
        match node {
            serde_json::Value::Array(parts) => nodes.extend(parts),
            serde_json::Value::Object(parts) => {
                if let (Some(schema), Some(table)) =
                    (parts.get("Schema"), parts.get("Relation Name"))
                    && let (Some(schema), Some(table)) = (schema.as_str(), table.as_str())
                {
                    tables.insert(TableName { schema: schema.into(), table: table.into() });
                }
                nodes.extend(parts.values());
            }
            _ => {}
        }
    }
    roots(source, &tables).await
}

/// The same with partitioned tables in the place of their partitions, which a plan names.
async fn roots(
    source: &Session,
    tables: &BTreeSet<TableName>,
) -> Result<BTreeSet<TableName>, Unplannable> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.table.as_str()).collect();
    let rows = source.rows(ROOTS, &[&schemas, &names]).await?;
    let name = |row: &tokio_postgres::Row| TableName {
        schema: row.get("schema"),
        table: row.get("table"),
    };
    Ok(rows.iter().map(name).collect())
}
