//! The check for text that is longer than its column: it will be cut, or refused where it is a key.

use super::Limits;
use super::mapping_fit::Fit;
use super::report::{Diagnosis, Place};
use super::side::{Hindrance, Side};
use crate::plan::{Form, Route};
use crate::postgres::catalogue::Table;
use crate::postgres::name::ident;
use crate::project;

/// A value and the column that it goes into.
struct Fitting {
    /// The target column.
    column: String,
    /// The value as text, over the source row.
    value: String,
    /// The column's length.
    max: i32,
    /// Keys are never cut.
    is_key: bool,
}

/// Counts the values that are too long, among this many rows of each object.
pub(super) async fn check(
    source: &Side,
    target: &Side,
    fit: &Fit<'_>,
    limits: &Limits,
) -> Result<Diagnosis, Hindrance> {
    let (mut cut, mut refused, mut remedies) = (Vec::new(), Vec::new(), Vec::new());
    let (mut partly, mut unseen) = (Vec::new(), Vec::new());
    for route in fit.routes()? {
        let table =
            target.ask(async |target| Table::read(target, &route.object.target).await).await?;
        let fittings = fittings(route, table.as_ref());
        if fittings.is_empty() {
            continue;
        }
        let sql = count(route, &fittings, limits.rows);
        let row = match source.evaluate(async |source| source.row(&sql, &[]).await).await {
            Ok(row) => row,
            Err(Hindrance { reason, .. }) => {
                unseen
                    .push(format!("object {} could not be looked at: {reason}", route.object.name));
                continue;
            }
        };
        if row.get::<_, i64>(0) == limits.rows {
            partly.push(route.object.name.as_str());
        }
        for (place, fitting) in (1..).zip(&fittings) {
            let rows: i64 = row.get(place);
            if rows == 0 {
                continue;
            }
            let Fitting { column, max, .. } = fitting;
            let object = &route.object.name;
            let what = format!("object {object}: {column}: {rows} values exceed {max} characters");
            if fitting.is_key { &mut refused } else { &mut cut }.push(what);
            remedies.push(find(route, fitting));
        }
    }
    let looked_at = match partly.is_empty() {
        true => String::new(),
        false => format!(" among the first {} rows of {}", limits.rows, partly.join(", ")),
    };
    let diagnosis = match (refused.is_empty(), cut.is_empty()) {
        (true, true) if !unseen.is_empty() => return Err(Hindrance::new(unseen.join("; "))),
        (true, true) => return Ok(Diagnosis::ok(format!("nothing is too long{looked_at}"))),
        (false, _) => Diagnosis::failed(format!("keys do not fit, and are never cut{looked_at}")),
        (true, false) => Diagnosis::advice(format!("text will be cut, with a final …{looked_at}")),
    };
    Ok(diagnosis
        .detail(refused.into_iter().chain(cut).chain(unseen))
        .say("lengthen the field in Salesforce, or shorten the rows:")
        .sql(Place::Source, remedies))
}

fn fittings(route: &Route, table: Option<&Table>) -> Vec<Fitting> {
    let length = |column: &str| table?.column(column)?.max_chars;
    let object = &route.object;
    let key = length(&object.external_id).map(|max| Fitting {
        column: object.external_id.clone(),
        value: format!("source.{}::pg_catalog.text", ident(&object.key)),
        max,
        is_key: true,
    });
    let texts = route.columns.iter().filter_map(|column| {
        let Form::Text(cut_at) = column.form else { return None };
        Some(Fitting {
            column: column.field.column.clone(),
            value: project::trimmed(&column.field.value.sql()),
            max: length(&column.field.column)?,
            is_key: cut_at.is_none(),
        })
    });
    key.into_iter().chain(texts).collect()
}

/// How many rows were looked at, then how many values are too long, column by column.
fn count(route: &Route, fittings: &[Fitting], rows: i64) -> String {
    let lengths = fittings
        .iter()
        .enumerate()
        .map(|(index, fitting)| format!("{} as f{index}", is_too_long(fitting)));
    let counts =
        (0..fittings.len()).map(|index| format!("pg_catalog.count(*) filter (where r.f{index})"));
    format!(
        "select pg_catalog.count(*), {}\nfrom (\nselect {}\nfrom {} as source\nwhere true{}\nlimit {rows}\n) as r",
        counts.collect::<Vec<_>>().join(", "),
        lengths.collect::<Vec<_>>().join(", "),
        route.object.source,
        filter(route)
    )
}

/// The statement that finds the rows of one column, for a human.
fn find(route: &Route, fitting: &Fitting) -> String {
    format!(
        "select source.{} from {} as source where {}{};",
        ident(&route.object.key),
        route.object.source,
        is_too_long(fitting),
        filter(route)
    )
}

fn is_too_long(Fitting { value, max, .. }: &Fitting) -> String {
    format!("pg_catalog.char_length({value}) operator(pg_catalog.>) {max}")
}

fn filter(route: &Route) -> String {
    route.object.filter.iter().map(|filter| format!(" and ({filter})")).collect()
}
