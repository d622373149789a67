//! Asks again, in a simpler way, for a few rows that were found to be right.
//!
//! Promise: it shares nothing with the code that writes rows except the expressions of the mapping:
//! one row at a time, without lateral joins, hashes and common table expressions, and brought into
//! Salesforce's form here. A mistake in the statements of [`project`] would be written *and*
//! compared wrongly; this finds it.

use std::time::Duration;

use tokio_postgres::Row;

use super::judge::{Judge, limit_of};
use super::{ColumnDifference, What, statements};
use crate::plan::{Form, Route, RouteColumn};
use crate::postgres::failure::{self, Failure};
use crate::postgres::name::ident;
use crate::project;

/// This many rows: some milliseconds.
const ROWS: usize = 20;
/// A row may be changed between two looks.
const LOOKS: u32 = 3;
/// Between two looks at a row that differs.
const PAUSE: Duration = Duration::from_millis(300);
/// What Salesforce trims.
const WHITE_SPACE: [char; 6] = [' ', '\t', '\n', '\r', '\x0c', '\x0b'];

/// Looks at some rows at random. `total`: how many the source publishes, about.
pub(super) async fn look(judge: &mut Judge<'_>, route: &Route, total: u64) -> Result<(), Failure> {
    let sql = format!("{}\nlimit {ROWS}", statements::sample(route, ROWS as u64, total));
    let keys: Vec<String> =
        judge.source.rows(&sql, &[]).await?.iter().map(|row| row.get("key")).collect();
    let (source_sql, target_sql) = (source_sql(route), target_sql(route));
    for key in keys {
        let mut found = Vec::new();
        for look in 1..=LOOKS {
            if look > 1 {
                tokio::time::sleep(PAUSE).await;
            }
            let read = judge
                .source
                .rows_within_briefly(limit_of(1), usize::MAX, &source_sql, &[&key])
                .await;
            let rows = match read.map_err(Failure::from) {
                Ok(rows) => rows.unwrap_or_default(),
                Err(failure @ Failure::Reconnect(_)) => return Err(failure),
                // A row that is refused is reported by the comparison itself.
                Err(refused) => {
                    tracing::debug!(
                        sqlstate = refused.sqlstate(),
                        "a row cannot be asked for again"
                    );
                    break;
                }
            };
            let others = failure::none_if_unfit(judge.target.rows(&target_sql, &[&key]).await)?;
            found = differences(route, rows.first(), &others);
            if found.is_empty() || !judge.is_settled(&key).await? {
                found.clear();
                break;
            }
        }
        if !found.is_empty() {
            tracing::warn!(
                object = route.object.name,
                key,
                "a row that was found equal differs from what the mapping says: please report this"
            );
            judge.contradict(key, What::Differing { columns: found }).await;
        }
    }
    Ok(())
}

/// The compared values of the row with a key, as text. `$1`: the key.
fn source_sql(route: &Route) -> String {
    let object = &route.object;
    let values = statements::compared(route).map(|(_, column)| {
        let value = column.field.value.sql();
        match column.form {
            Form::Text(_) => format!("({value})::pg_catalog.text"),
            Form::Time | Form::Plain => format!("({value})::{}::pg_catalog.text", column.sql_type),
        }
    });
    let key = format!("source.{}", ident(&object.key));
    let is_key = route.key_type.same_key(&key, &format!("$1::pg_catalog.text::{}", route.key_type));
    let filter = project::filter_where(route, &is_key);
    let order = object.winner.as_ref().map_or(String::new(), |winner| {
        let prefer = winner.prefer.as_deref().unwrap_or("true");
        format!("\norder by ({prefer}) is true desc, {}\nlimit 1", winner.order)
    });
    format!(
        "select array[{}]::pg_catalog.text[]\nfrom {} as source\nwhere {is_key}{filter}{order}",
        values.collect::<Vec<_>>().join(", "),
        object.source
    )
}

fn target_sql(route: &Route) -> String {
    let object = &route.object;
    let values = statements::compared(route)
        .map(|(_, column)| format!("t.{}::pg_catalog.text", ident(&column.field.column)));
    let id = format!("t.{}", ident(&object.external_id));
    let id_type = &route.external_id_type;
    format!(
        "select array[{}]::pg_catalog.text[]\nfrom {} as t\nwhere {}",
        values.collect::<Vec<_>>().join(", "),
        object.target,
        id_type.equal(&id, &format!("$1::pg_catalog.text::{id_type}"))
    )
}

/// In which columns the rows differ. A row that is on one side only is reported by the comparison
/// itself.
fn differences(route: &Route, row: Option<&Row>, others: &[Row]) -> Vec<ColumnDifference> {
    let Some(values) = row.map(|row| row.get::<_, Vec<Option<String>>>(0)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for other in others {
        let theirs: Vec<Option<String>> = other.get(0);
        let columns = statements::compared(route).zip(values.iter().zip(&theirs));
        for ((_, column), (value, their)) in columns {
            let wanted = formed(route, column, value.as_deref(), true);
            let has = formed(route, column, their.as_deref(), false);
            if wanted != has && !project::is_masked(column, has.as_deref()) {
                let name = column.field.column.clone();
                found.push(ColumnDifference { column: name, source: wanted, target: has });
            }
        }
    }
    found
}

/// A value as Salesforce has it. `cut`: it is to be written, and may be too long.
fn formed(route: &Route, column: &RouteColumn, value: Option<&str>, cut: bool) -> Option<String> {
    let value = value?;
    match column.form {
        Form::Plain => Some(value.to_string()),
        Form::Time => Some(without_fraction(value)),
        Form::Text(most) => {
            let trimmed = value.trim_matches(WHITE_SPACE);
            let most = most.filter(|_| cut).and_then(|most| usize::try_from(most).ok());
            let text = match most {
                Some(most) if trimmed.chars().count() > most => {
                    let end: String = route.ellipsis().chars().take(most).collect();
                    let kept = most - end.chars().count();
                    trimmed.chars().take(kept).chain(end.chars()).collect()
                }
                _ => trimmed.to_string(),
            };
            let text = text.trim_matches(WHITE_SPACE).to_string();
            (!text.is_empty()).then_some(text)
        }
    }
}

/// `2026-01-02 03:04:05.678+00` is `2026-01-02 03:04:05+00`.
fn without_fraction(time: &str) -> String {
    match time.split_once('.') {
        None => time.to_string(),
        Some((whole, rest)) => {
            let zone = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
            format!("{whole}{zone}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_loses_its_fraction_and_nothing_else() {
        assert_eq!(without_fraction("2026-01-02 03:04:05.678+00"), "2026-01-02 03:04:05+00");
        assert_eq!(without_fraction("2026-01-02 03:04:05.6 BC"), "2026-01-02 03:04:05 BC");
        assert_eq!(without_fraction("infinity"), "infinity");
    }
}
