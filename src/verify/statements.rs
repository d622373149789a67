//! Builds what only a comparison reads: prints of rows, and the values that are compared.
//!
//! Promise: equal rows have the same print on either side, in whatever form the target keeps them. Knows only the route.

use crate::plan::{Form, Route, RouteColumn};
use crate::postgres::name::ident;
use crate::postgres::qualified::{self, SqlType};
use crate::postgres::template::RenderedStatement;
use crate::project;

/// Rows of one stretch: some tens of milliseconds on either side. A number in the statement, so that the planner knows it.
pub const STRETCH: usize = 5_000;

/// This many times the rows of a sample are read, in whole blocks: about one of each block is taken then, so that rows
/// which were written together are not chosen together.
const SPREAD: f64 = 30.0;

/// A table of this many rows is read as a whole for a sample: it takes no time, and has few blocks to choose from. For one that
/// was never analysed the planner takes ten blocks for the least.
const SMALL: u64 = 100_000;

/// The statements of a comparison.
#[derive(Debug)]
pub struct ComparisonSql {
    /// All rows' prints: `key`, `id` (the external id as text), `print`. In the order of the bytes of the ids, which is the
    /// same in every database.
    pub prints: String,
    /// The same of the target's rows; their key is the external id.
    pub target_prints: String,
    /// The same of the rows with wanted keys, without an order. Parameters as those of [`project::statement`].
    pub prints_of: String,
    /// The same of the target's rows with these external ids. `$1`: external ids as text.
    pub target_prints_of: String,
    /// The prints of the first keys. `$1`: null.
    pub first_stretch: String,
    /// The prints of the next keys, in the order of the keys. `$1`: after this key.
    pub next_stretch: String,
    /// The keys alone, published or not: nothing that a mapping says is computed. `$1`: null.
    pub first_keys: String,
    /// The same after a key. `$1`: this key.
    pub next_keys: String,
    /// The target's external ids, in their order. `$1`: null.
    pub first_ids: String,
    /// The same after an external id. `$1`: this one.
    pub next_ids: String,
    /// Which of the wanted keys have a published row: `key`. Parameters as those of [`project::statement`].
    pub published: String,
    /// The values of wanted keys: `key`, `id`, `values` as text, `print`. Parameters as those of [`project::statement`].
    pub values: String,
    /// The same of the target's rows with these external ids. `$1`: external ids as text.
    pub target_values: String,
    /// See [`project::resolve_statement`].
    pub resolve: String,
    /// How many rows the source is expected to publish, in the first line of a plan.
    pub estimate: String,
    /// The same of the target's rows that have an external id.
    pub target_estimate: String,
}

impl ComparisonSql {
    /// Builds them for a route.
    pub fn new(route: &Route) -> Self {
        Self {
            prints: prints(route),
            target_prints: target_prints(route),
            prints_of: prints_of(route),
            target_prints_of: target_prints_of(route),
            first_stretch: stretch(route, FROM_THE_START),
            next_stretch: stretch(route, &after(route)),
            first_keys: stretch_keys(route, FROM_THE_START),
            next_keys: stretch_keys(route, &after(route)),
            first_ids: target_ids(route, FROM_THE_START),
            next_ids: target_ids(route, &after_id(route)),
            published: published(route),
            values: values(route),
            target_values: target_values(route),
            resolve: project::resolve_statement(route),
            estimate: estimate(route),
            target_estimate: format!(
                "explain select from {} as t where {}",
                route.object.target,
                has_id(route)
            ),
        }
    }

    /// All of them, to be read by people.
    pub fn shown(&self) -> Vec<RenderedStatement> {
        const WANTED: &str = "Parameters as those of project.";
        [
            (
                "verify",
                "Source: all rows as hashes, in the order of the external ids.".to_string(),
                &self.prints,
            ),
            ("verify_target", "Target: the same.".to_string(), &self.target_prints),
            ("verify_some", format!("Source: the hashes of some rows. {WANTED}"), &self.prints_of),
            (
                "verify_some_target",
                "Target: the same. $1: external ids.".to_string(),
                &self.target_prints_of,
            ),
            (
                "verify_stretch",
                "Source: the next hashes, in the background. $1: after this key.".to_string(),
                &self.next_stretch,
            ),
            (
                "verify_keys",
                "Source: the next keys. $1: after this key.".to_string(),
                &self.next_keys,
            ),
            (
                "verify_ids",
                "Target: the next external ids. $1: after this one.".to_string(),
                &self.next_ids,
            ),
            (
                "verify_published",
                format!("Source: which keys have a published row. {WANTED}"),
                &self.published,
            ),
            (
                "verify_values",
                format!("Source: the values of rows that differ. {WANTED}"),
                &self.values,
            ),
            (
                "verify_values_target",
                "Target: the same. $1: external ids.".to_string(),
                &self.target_values,
            ),
        ]
        .map(|(name, purpose, sql)| RenderedStatement::new(name, purpose, sql.as_str()))
        .into()
    }
}

/// Types whose values have a hash of their own, as `format_type` names them. The others are hashed as text.
const HASHED: &[&str] = &[
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "real",
    "double precision",
    "date",
    "time without time zone",
    "interval",
    "uuid",
    "bytea",
];

/// The parameter must be there in either statement.
const FROM_THE_START: &str = "$1::pg_catalog.text is null";

fn after(route: &Route) -> String {
    comes_after(&route.key_type, source_key(route))
}

fn after_id(route: &Route) -> String {
    comes_after(&route.external_id_type, target_id(route))
}

fn comes_after(sql_type: &SqlType, value: String) -> String {
    qualified::after(&[sql_type], &[value], &[format!("$1::pg_catalog.text::{sql_type}")])
}

fn source_key(route: &Route) -> String {
    format!("source.{}", ident(&route.object.key))
}

fn target_id(route: &Route) -> String {
    format!("t.{}", ident(&route.object.external_id))
}

fn has_id(route: &Route) -> String {
    format!("{} is not null", target_id(route))
}

/// The published rows that meet a condition, with their keys; in the order of these where an object has a winner.
fn rows(route: &Route, condition: &str) -> String {
    let key = source_key(route);
    let (one_each, order) = match &route.object.winner {
        None => (String::new(), String::new()),
        Some(winner) => {
            let prefer = winner.prefer.as_deref().unwrap_or("true");
            let order = format!("\norder by {key}, ({prefer}) is true desc, {}", winner.order);
            (format!("distinct on ({key}) "), order)
        }
    };
    format!(
        "select {one_each}{key} as schoolbell__key,\n{}\nfrom {} as source\nwhere {key} is not null and \
         {condition}{}{order}",
        project::inner(route),
        route.object.source,
        project::filter(&route.object)
    )
}

fn prints(route: &Route) -> String {
    format!(
        "{}\norder by {}",
        printed(route, &rows(route, "true")),
        by_bytes(route, "o.external_id")
    )
}

/// The prints of the rows of a query for keys and values.
fn printed(route: &Route, rows: &str) -> String {
    let outer = project::outer(route, "r.schoolbell__key");
    printed_outer(route, &format!("select {outer}\nfrom (\n{rows}\n) as r"))
}

fn printed_outer(route: &Route, rows: &str) -> String {
    format!(
        "select o.key, o.external_id::pg_catalog.text as id, {}\nfrom (\n{rows}\n) as o",
        source_print(route)
    )
}

/// Two columns: a number that is the same where the compared values are, and one for each encrypted value.
fn source_print(route: &Route) -> String {
    let value = |(index, column)| as_compared(route, column, &format!("o.f{index}"));
    let encrypted = encrypted(route).map(|column| print(std::iter::once(value(column))));
    prints_in_columns(&print(plain(route).map(value)), encrypted)
}

fn prints_of(route: &Route) -> String {
    format!("{}\nwhere o.present", printed_outer(route, &project::statement(route)))
}

fn stretch(route: &Route, condition: &str) -> String {
    let order = match &route.object.winner {
        None => format!("\norder by {}", source_key(route)),
        Some(_) => String::new(),
    };
    printed(route, &format!("{}{order}\nlimit {STRETCH}", rows(route, condition)))
}

fn stretch_keys(route: &Route, condition: &str) -> String {
    let key = source_key(route);
    format!(
        "select {key}::pg_catalog.text as key\nfrom {} as source\nwhere {key} is not null and {condition}\ngroup by {key}\n\
         order by {key}\nlimit {STRETCH}",
        route.object.source
    )
}

fn target_ids(route: &Route, condition: &str) -> String {
    let id = target_id(route);
    format!(
        "select {id}::pg_catalog.text as id\nfrom {} as t\nwhere {id} is not null and {condition}\norder by \
         {id}\nlimit {STRETCH}",
        route.object.target
    )
}

fn published(route: &Route) -> String {
    let is_wanted = route.key_type.same_key(&source_key(route), "wanted.key");
    format!(
        "select wanted.key::pg_catalog.text as key\nfrom (\n{}\n) as wanted (key)\nwhere exists (\n\
         select from {} as source\nwhere {is_wanted}{}\n)",
        project::wanted(route, None),
        route.object.source,
        project::filter_where(route, &is_wanted)
    )
}

fn target_prints(route: &Route) -> String {
    let id = target_id(route);
    format!(
        "select {id}::pg_catalog.text as key, {id}::pg_catalog.text as id, {}\nfrom {} as t\n\
         where {id} is not null\norder by {}",
        target_print(route),
        route.object.target,
        by_bytes(route, &id)
    )
}

/// The same of a target row. There is no number for a value that Salesforce has masked.
fn target_print(route: &Route) -> String {
    let raw = |column: &RouteColumn| format!("t.{}", ident(&column.field.column));
    // Of text the white space is enough: where nothing is left it counts as nothing.
    let value = |column: &RouteColumn| match column.form {
        Form::Text(_) => as_compared(route, column, &project::trimmed(&raw(column))),
        Form::Time | Form::Plain => {
            as_compared(route, column, &project::comparable(column, &raw(column)))
        }
    };
    let encrypted = encrypted(route).filter_map(|(_, column)| {
        let clear = project::is_clear(column, &raw(column))?;
        Some(format!("case when {clear} then {} end", print(std::iter::once(value(column)))))
    });
    prints_in_columns(&print(plain(route).map(|(_, column)| value(column))), encrypted)
}

fn prints_in_columns(plain: &str, encrypted: impl Iterator<Item = String>) -> String {
    let encrypted: Vec<String> = encrypted.collect();
    format!("{plain} as print, array[{}]::pg_catalog.int8[] as encrypted", encrypted.join(", "))
}

fn target_prints_of(route: &Route) -> String {
    let id = target_id(route);
    let (print, rows) = (target_print(route), target_rows(route));
    format!(
        "select {id}::pg_catalog.text as key, {id}::pg_catalog.text as id, {print}\nfrom {rows}"
    )
}

/// A join, not `= any`, which without an index would compare each row with each of thousands of ids.
fn target_rows(route: &Route) -> String {
    let wanted = format!("wanted.id::{}", route.external_id_type);
    format!(
        "pg_catalog.unnest($1::pg_catalog.text[]) as wanted (id)\njoin {} as t on {}",
        route.object.target,
        route.external_id_type.equal(&target_id(route), &wanted)
    )
}

fn values(route: &Route) -> String {
    let values = compared(route).map(|(index, _)| format!("o.f{index}::pg_catalog.text"));
    format!(
        "select o.key, o.external_id::pg_catalog.text as id, array[{}]::pg_catalog.text[] as values, {}\nfrom (\n{}\n) as o\n\
         where o.present",
        values.collect::<Vec<_>>().join(", "),
        source_print(route),
        project::statement(route)
    )
}

fn target_values(route: &Route) -> String {
    let id = target_id(route);
    let values = compared(route).map(|(_, column)| {
        let value = format!("t.{}", ident(&column.field.column));
        format!("({})::pg_catalog.text", project::comparable(column, &value))
    });
    format!(
        "select {id}::pg_catalog.text as key, {id}::pg_catalog.text as id, array[{}]::pg_catalog.text[] as values, {}\n\
         from {}",
        values.collect::<Vec<_>>().join(", "),
        target_print(route),
        target_rows(route)
    )
}

fn estimate(route: &Route) -> String {
    let key = source_key(route);
    let one_each = route.object.winner.as_ref().map_or("all", |_| "distinct");
    format!(
        "explain select {one_each} {key} from {} as source where {key} is not null{}",
        route.object.source,
        project::filter(&route.object)
    )
}

/// Keys in random order, many more than `rows`, published or not. `total`: how many are published, about.
pub fn sample(route: &Route, rows: u64, total: u64) -> String {
    let key = source_key(route);
    format!(
        "select {key}::pg_catalog.text as key\nfrom {} as source {}\nwhere {key} is not null\norder by pg_catalog.random()",
        route.object.source,
        tablesample(rows, total)
    )
}

/// The same of the target's external ids. `total`: how many it has, about.
pub fn target_sample(route: &Route, rows: u64, total: u64) -> String {
    let id = target_id(route);
    format!(
        "select {id}::pg_catalog.text as key\nfrom {} as t {}\nwhere {id} is not null\norder by pg_catalog.random()",
        route.object.target,
        tablesample(rows, total)
    )
}

/// Whole blocks, which is cheap however large the table is. Measured with 1,000 of 3,000,000 rows: 5 ms with a spread of
/// ten, against 17 ms for that many random places in an index and 0.7 s for a hash of the key, which reads everything.
fn tablesample(rows: u64, total: u64) -> String {
    let percent = match total <= SMALL {
        true => 100.0,
        false => (rows as f64 * SPREAD * 100.0 / total as f64).min(100.0),
    };
    format!("tablesample pg_catalog.system ({percent})")
}

/// The columns in which a difference counts, with their places in the route.
pub fn compared(route: &Route) -> impl Iterator<Item = (usize, &RouteColumn)> {
    route.columns.iter().enumerate().filter(|(_, column)| column.field.compared)
}

/// Those that are read as they were written.
fn plain(route: &Route) -> impl Iterator<Item = (usize, &RouteColumn)> {
    compared(route).filter(|(_, column)| !column.field.encrypted)
}

/// Those that Salesforce masks.
fn encrypted(route: &Route) -> impl Iterator<Item = (usize, &RouteColumn)> {
    compared(route).filter(|(_, column)| column.field.encrypted)
}

/// Text of either side as the same type, in the same bytes and with the same collation, so that it has the same print:
/// where a collation ignores the case, so does its hash.
fn as_compared(route: &Route, column: &RouteColumn, value: &str) -> String {
    match column.form {
        Form::Text(_) if route.both_unicode => {
            format!("coalesce(({value})::pg_catalog.text, '') collate pg_catalog.\"C\"")
        }
        Form::Text(_) => {
            format!("pg_catalog.convert_to(coalesce(({value})::pg_catalog.text, ''), 'UTF8')")
        }
        Form::Plain if !HASHED.contains(&column.type_name.as_str()) => {
            format!("({value})::pg_catalog.text")
        }
        Form::Time | Form::Plain => value.to_string(),
    }
}

/// An order that is the same on both sides.
fn by_bytes(route: &Route, id: &str) -> String {
    match route.both_unicode {
        true => format!("{id}::pg_catalog.text collate pg_catalog.\"C\""),
        false => format!("pg_catalog.convert_to({id}::pg_catalog.text, 'UTF8')"),
    }
}

fn print(values: impl Iterator<Item = String>) -> String {
    let values: Vec<String> = values.collect();
    match values.is_empty() {
        true => "0::pg_catalog.int8".to_string(),
        false => format!("pg_catalog.hash_record_extended(row({}), 0)", values.join(", ")),
    }
}
