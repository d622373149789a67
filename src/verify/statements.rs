//! Builds what only a comparison reads: prints of rows, and the values that are compared.
//!
//! Promise: equal rows have the same print on either side, in whatever form the target keeps them. Knows only the route.

use crate::name::ident;
use crate::plan::{Form, Route, RouteColumn};
use crate::project;

/// All published rows of a route with their keys, without an order.
fn all(route: &Route) -> String {
    let key = format!("source.{}", ident(&route.object.key));
    let (one_each, order) = match &route.object.winner {
        None => (String::new(), String::new()),
        Some(winner) => {
            let prefer = winner.prefer.as_deref().unwrap_or("true");
            let order = format!("\norder by {key}, ({prefer}) is true desc, {}", winner.order);
            (format!("distinct on ({key}) "), order)
        }
    };
    format!(
        "select {one_each}{key} as key,\n{}\nfrom {} as source\nwhere {key} is not null{}{order}",
        project::inner(route),
        route.object.source,
        project::filter(route)
    )
}

/// The statement for the print of every published row: its key, its external id as text, and a number that is the same
/// where the compared columns are. In the order of the external ids' bytes, which is the same in every database.
pub fn prints(route: &Route) -> String {
    let values = compared(route).map(|(index, column)| as_compared(column, &format!("o.f{index}")));
    format!(
        "select o.key, o.external_id::text as id, {} as print\nfrom (\nselect {}\nfrom (\n{}\n) as r\n) as o\n\
         order by o.external_id::text collate \"C\"",
        print(values),
        project::outer(route, "r.key"),
        all(route)
    )
}

/// The same of the target's rows; their key is the external id.
pub fn target_prints(route: &Route) -> String {
    let id = format!("t.{}", ident(&route.object.external_id));
    let values = compared(route).map(|(_, column)| {
        let value = format!("t.{}", ident(&column.field.column));
        as_compared(column, &project::comparable(column, &value))
    });
    format!(
        "select {id}::text as key, {id}::text as id, {} as print\nfrom {} as t\nwhere {id} is not null\n\
         order by {id}::text collate \"C\"",
        print(values),
        route.object.target
    )
}

/// The statement for the compared values of the wanted keys' rows as text: key, external id, values. Parameters as those
/// of [`project::statement`].
pub fn values(route: &Route) -> String {
    let values = compared(route).map(|(index, _)| format!("o.f{index}::text"));
    format!(
        "select o.key, o.external_id::text as id, array[{}]::text[] as values\nfrom (\n{}\n) as o\nwhere o.present",
        values.collect::<Vec<_>>().join(", "),
        project::statement(route)
    )
}

/// The same of the target's rows with these external ids. `$1`: external ids as text.
pub fn target_values(route: &Route) -> String {
    let id = format!("t.{}", ident(&route.object.external_id));
    let values = compared(route).map(|(_, column)| {
        let value = format!("t.{}", ident(&column.field.column));
        format!("({})::text", project::comparable(column, &value))
    });
    format!(
        "select {id}::text as key, {id}::text as id, array[{}]::text[] as values\nfrom {} as t\nwhere {id} = any \
         ($1::text[]::{}[])",
        values.collect::<Vec<_>>().join(", "),
        route.object.target,
        route.external_id_type
    )
}

/// The columns in which a difference counts, with their places in the route.
pub fn compared(route: &Route) -> impl Iterator<Item = (usize, &RouteColumn)> {
    route.columns.iter().enumerate().filter(|(_, column)| column.field.compared)
}

/// Text of either side as the same type, whose values have the same print.
fn as_compared(column: &RouteColumn, value: &str) -> String {
    match column.form {
        Form::Text(_) => format!("({value})::text"),
        Form::Time | Form::Plain => value.to_string(),
    }
}

fn print(values: impl Iterator<Item = String>) -> String {
    let values: Vec<String> = values.collect();
    match values.is_empty() {
        true => "0::int8".to_string(),
        false => format!("pg_catalog.hash_record_extended(row({}), 0)", values.join(", ")),
    }
}
