//! Other tables whose changes touch an object's rows: the query that finds those rows, and what may be wrong with it.

use tokio_postgres::error::SqlState;

use super::captured::words;
use super::expression::{About, expression};
use super::{Unplannable, lacks};
use crate::mapping::{Finding, Object, Touch};
use crate::postgres::catalogue::Table;
use crate::postgres::db::{Evaluator, Session};
use crate::postgres::name::{ident, literal};

/// How a query for touched keys ends.
const KEYS_ALIAS: &str = " as t (key)";
const COMPARABLE: &str = include_str!("../../sql/comparable.sql");

/// Reports what is wrong with a touching table: its columns, and the query for the keys that it touches. The tables are
/// the object's own and the touching one.
pub(super) async fn check_touch(
    (source, evaluator): (&Session, &Evaluator),
    object: &Object,
    touch: &Touch,
    (own, table): (&Table, &Table),
    findings: &mut Vec<Finding>,
    advice: &mut Vec<Finding>,
) -> Result<(), Unplannable> {
    let found = findings.len();
    check_touch_columns(object, touch, table, findings);
    if findings.len() > found {
        return Ok(());
    }
    let keys = touched_keys(touch, table, "null::pg_catalog.jsonb[]");
    let about = About { object, table, place: ("touched_by", touch.lines.keys) };
    let Some(type_oid) = expression(evaluator, about, &keys, findings).await? else {
        return Ok(());
    };
    let finding = |problem: String| Finding::of(object, "touched_by", problem).at(touch.lines.keys);
    if returns_more(evaluator, touch, table).await? {
        let problem = "keys must return one column, the key of this object's rows";
        findings.push(finding(problem.into()));
    } else if let Some(key) = own.column(&object.key) {
        let row = source.row(COMPARABLE, &[&type_oid, &key.type_oid]).await?;
        let returned: String = row.get("type_name");
        let key = format!("{} of {} is {}", object.key, own.name.plain(), key.type_name);
        // Each value is cast, and a text column may well hold values of the right type.
        if !row.get::<_, bool>("comparable") {
            let problem = format!("keys returns {returned}, but the key of this object, {key}");
            advice.push(finding(problem));
        }
    }
    Ok(())
}

/// Whether the query for the touched keys has a second column.
async fn returns_more(
    evaluator: &Evaluator,
    touch: &Touch,
    table: &Table,
) -> Result<bool, tokio_postgres::Error> {
    let keys = touched_keys(touch, table, "null::pg_catalog.jsonb[]");
    let query = keys.strip_suffix(KEYS_ALIAS).unwrap_or(&keys);
    // Postgres refuses a list of names that is too long.
    let two = format!("select exists ({query} as t (key, second)\nlimit 0)");
    match evaluator.rows_and_roll_back(&two).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::INVALID_COLUMN_REFERENCE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reports the columns that a touching table lacks.
fn check_touch_columns(object: &Object, touch: &Touch, table: &Table, findings: &mut Vec<Finding>) {
    for column in touch.columns.iter().filter(|column| table.column(column).is_none()) {
        findings.push(lacks(object, "touched_by", table, column).at(touch.lines.columns));
    }
    if !table.columns.iter().any(|column| changed_mentions(&touch.keys, &column.name)) {
        let problem = format!(
            "keys of {} must use a column of the changed row, as changed.COLUMN",
            touch.table.plain()
        );
        findings.push(Finding::of(object, "touched_by", problem).at(touch.lines.keys));
    }
}

/// A query for the keys that changed rows of another table touch; `changes` are those rows' recorded keys.
pub(super) fn touched_keys(touch: &Touch, table: &Table, changes: &str) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .filter(|column| changed_mentions(&touch.keys, &column.name))
        .map(|column| {
            let name = ident(&column.name);
            let recorded = format!("c.keys operator(pg_catalog.->>) {}", literal(&column.name));
            format!("({recorded})::{} as {name}", column.sql_type)
        })
        .collect();
    format!(
        "select t.key from (with changed as (select {} from pg_catalog.unnest({changes}) as c (keys)) {}){KEYS_ALIAS}",
        columns.join(", "),
        touch.keys
    )
}

pub(super) fn changed_mentions(sql: &str, column: &str) -> bool {
    words(sql, "changed").any(|rest| {
        let rest = rest.trim_start().strip_prefix('.').unwrap_or_default().trim_start();
        rest.starts_with(&ident(column))
            || words(rest, column).any(|after| after.len() + column.len() == rest.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_the_changed_row_are_found() {
        let sql = "select r.id from roles r join changed on r.school_id = changed.id";
        assert!(changed_mentions(sql, "id"));
        assert!(!changed_mentions(sql, "school_id"));
        assert!(changed_mentions("select changed.\"Odd name\" from changed", "Odd name"));
        assert!(!changed_mentions("select changed.identity from changed", "id"));
    }
}
