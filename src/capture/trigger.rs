//! Renders the trigger functions and the triggers of captured tables, from the templates in `triggers/`.

use std::collections::BTreeMap;

use super::{NotifyMode, schema};
use crate::bell::notice;
use crate::bell::{BELL_LOCK, CHANNEL};
use crate::config::QUEUE_LIMIT;
use crate::plan::Capture;
use crate::postgres::db;
use crate::postgres::name::{TableName, fingerprint, ident, literal};
use crate::postgres::template::fill;
use crate::visible;

const FUNCTION: &str = include_str!("../../triggers/capture.sql");
const FOR_ONE: &str = include_str!("../../triggers/capture_for_one.sql");
const RING_DOORBELL: &str = include_str!("../../triggers/ring_doorbell.sql");
const RING_ALWAYS: &str = include_str!("../../triggers/ring_always.sql");

/// Postgres cuts longer names.
const MAX_NAME_BYTES: usize = 63;

/// Settings of a function whose keys would otherwise be written as the writer's session writes them: dates, floating
/// point, intervals, money, names of relations. Needed for few types, and each costs writers some per cent.
const STEADY: [&str; 7] = [
    "datestyle",
    "intervalstyle",
    "timezone",
    "extra_float_digits",
    "bytea_output",
    "lc_monetary",
    "quote_all_identifiers",
];

/// What is captured, and whether for each row or each statement.
const EVENTS: [(&str, &str); 4] =
    [("insert", "row"), ("update", "row"), ("delete", "row"), ("truncate", "statement")];

/// What one table should carry.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The table.
    pub table: TableName,
    /// One per capture.
    pub functions: Vec<Function>,
    /// By name.
    pub triggers: Vec<Trigger>,
}

/// One trigger as it should be.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// `schoolbell_…`.
    pub name: String,
    /// `create or replace trigger`.
    pub sql: String,
    /// Changes whenever the trigger or its function is rendered differently; kept in the trigger's comment.
    pub fingerprint: String,
    /// Its table is a child by inheritance. There the function does nothing unless it belongs to the table's owner.
    pub is_of_child: bool,
}

/// The function that the triggers of a capture call.
#[derive(Debug, Clone)]
pub struct Function {
    /// In schema `schoolbell`.
    pub name: String,
    /// The captured table, whose owner is to own the function. It may be called from parts of the table, too.
    pub table: TableName,
    /// `create or replace function`.
    pub sql: String,
}

/// Renders the triggers of every captured table.
pub fn render(captures: &[Capture], mode: NotifyMode) -> Vec<Rendered> {
    let mut tables: BTreeMap<&TableName, Rendered> = BTreeMap::new();
    for capture in captures {
        let function = function(capture, mode);
        let parts = capture.parts.iter().filter(|part| part.unseen.is_none());
        let parts = parts.map(|part| (&part.table, Some(part)));
        for (table, part) in std::iter::once((&capture.table, None)).chain(parts) {
            let rendered = tables.entry(table).or_insert_with(|| Rendered {
                table: table.clone(),
                functions: Vec::new(),
                triggers: Vec::new(),
            });
            // Postgres itself gives a partition what is to be done for each row.
            let is_partition = part.is_some_and(|part| part.is_partition);
            let events = EVENTS.iter().filter(|(_, level)| !is_partition || *level == "statement");
            let is_of_child = part.is_some() && !is_partition;
            let triggers =
                events.map(|event| trigger(capture, (table, is_of_child), *event, &function));
            rendered.triggers.extend(triggers);
            rendered.functions.push(function.clone());
        }
    }
    tables.into_values().collect()
}

fn function(capture: &Capture, mode: NotifyMode) -> Function {
    let name = function_name(capture);
    let sql = function_sql(capture, mode, &name).trim_end().to_string();
    Function { name, table: capture.table.clone(), sql }
}

fn function_sql(capture: &Capture, mode: NotifyMode, name: &str) -> String {
    let ring = match mode {
        NotifyMode::Always => RING_ALWAYS,
        NotifyMode::Doorbell => RING_DOORBELL,
        NotifyMode::Never => "",
    };
    let table = literal(&capture.table.plain());
    let bell = BELL_LOCK.to_string();
    let payload = notice::payload_sql(&capture.table);
    let queue_limit = QUEUE_LIMIT.to_string();
    let ring = fill(
        ring,
        &[
            ("{bell}", &bell),
            ("{channel}", CHANNEL),
            ("{payload}", &payload),
            ("{queue_limit}", &queue_limit),
            ("{table_literal}", &table),
        ],
    );
    let flags: Vec<String> = (0..capture.narrow.len()).map(|n| format!("for_{n}")).collect();
    let declared = flags.iter().map(|flag| format!("    {flag} boolean := false;\n"));
    let shared = match shared(capture) {
        columns if columns.is_empty() => String::new(),
        columns => format!(" or {}", differ(columns, 4)),
    };
    let new_keys = recorded(capture, "new");
    let for_one = flags.iter().zip(&capture.narrow).map(|(flag, (object, _))| {
        let object = literal(object);
        let values = [
            ("{flag}", flag.as_str()),
            ("{table_literal}", &table),
            ("{object}", &object),
            ("{new_keys}", &new_keys),
        ];
        fill(FOR_ONE, &values)
    });
    fill(
        FUNCTION,
        &[
            ("{ring}", &ring),
            ("{function}", &ident(name)),
            ("{table_literal}", &table),
            ("{schema}", &literal(&capture.table.schema)),
            ("{name}", &literal(&capture.table.table)),
            ("{concerns}", &capture.concerns.as_deref().map_or("null".into(), literal)),
            ("{declared}", &declared.collect::<String>()),
            ("{moved}", &differ(capture.keys.iter(), 4)),
            ("{settings}", &settings(capture)),
            ("{shared}", &shared),
            ("{narrowed}", &narrowed(capture, &flags)),
            ("{for_one}", &for_one.collect::<String>()),
            ("{old_keys}", &recorded(capture, "old")),
            ("{new_keys}", &new_keys),
            ("{table}", &visible::line(&capture.table.plain())),
        ],
    )
}

/// The settings that the function needs. Its values are those of our own sessions, which read what it writes.
fn settings(capture: &Capture) -> String {
    if capture.keys_are_steady {
        return String::new();
    }
    let values = STEADY.map(|name| format!("\n    set {name} = '{}'", db::settled_value(name)));
    format!("\n    set {}, pg_temp{}\n   ", schema::OWN_PATH, values.concat())
}

/// The keys of a change, as SQL. JSON would look for a cast of a type that is not built in.
fn recorded(capture: &Capture, row: &str) -> String {
    let pairs = capture.keys.iter().map(|column| {
        let value = format!("{row}.{}", ident(column));
        let text =
            format!("case when {value} is not null then pg_catalog.format('%s', {value}) end");
        format!("{}, {text}", literal(column))
    });
    format!("pg_catalog.jsonb_build_object({})", pairs.collect::<Vec<_>>().join(", "))
}

/// The watched columns that are no keys and matter to more than one object.
fn shared(capture: &Capture) -> Vec<&String> {
    let is_narrow =
        |column: &String| capture.narrow.iter().any(|(_, columns)| columns.contains(column));
    let columns = capture.watched.iter();
    columns.filter(|column| !is_narrow(column) && !capture.keys.contains(column)).collect()
}

/// Leaves when nothing that matters has changed; before that, finds the objects that it matters to alone.
fn narrowed(capture: &Capture, flags: &[String]) -> String {
    const INDENT: &str = "            ";
    if flags.is_empty() {
        return format!("{INDENT}if not for_all then\n{INDENT}    return null;\n{INDENT}end if;\n");
    }
    let found: String = flags
        .iter()
        .zip(&capture.narrow)
        .map(|(flag, (_, columns))| format!("{INDENT}    {flag} := {};\n", differ(columns, 5)))
        .collect();
    format!(
        "{INDENT}if not for_all then\n{found}{INDENT}    if not ({}) then\n{INDENT}        return null;\n{INDENT}    \
         end if;\n{INDENT}end if;\n",
        flags.join(" or ")
    )
}

/// A condition: any of the columns differs between the old row and the new one, to the last bit.
fn differ<'c>(columns: impl IntoIterator<Item = &'c String>, depth: usize) -> String {
    let names: Vec<String> = columns.into_iter().map(|column| ident(column)).collect();
    let row = |row: &str| {
        let values =
            names.iter().map(|name| format!("{row}.{name}")).collect::<Vec<_>>().join(", ");
        format!("\n{}row({values})", "    ".repeat(depth))
    };
    format!("pg_catalog.record_image_ne({},{})", row("old"), row("new"))
}

fn function_name(capture: &Capture) -> String {
    let TableName { schema, table } = &capture.table;
    short(&format!("capture_{schema}_{table}{}", suffix(capture)))
}

/// What follows in the names of the function and its triggers: a table may be captured more than once.
fn suffix(capture: &Capture) -> String {
    capture.concerns.iter().map(|object| format!("_for_{object}")).collect()
}

/// A name that Postgres does not cut; a long one ends in a fingerprint, so that two long names stay
/// different.
fn short(name: &str) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return name.to_string();
    }
    let mark = fingerprint(name);
    let mut end = MAX_NAME_BYTES - mark.len() - 1;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{mark}", &name[..end])
}

fn trigger(
    capture: &Capture,
    (table, is_of_child): (&TableName, bool),
    (event, level): (&str, &str),
    function: &Function,
) -> Trigger {
    let of = match *table == capture.table {
        true => String::new(),
        false => format!("_of_{}", capture.table.table),
    };
    let name = short(&format!("schoolbell_{event}{}{of}", suffix(capture)));
    // Always true. It is there so that the database refuses to drop a column by which changes are recorded.
    let when = match event {
        "delete" => format!("\n    when ({} or true)", present(capture)),
        _ => String::new(),
    };
    let sql = format!(
        "create or replace trigger {}\n    after {event} on {}\n    for each {level}{when}\n    execute function \
         schoolbell.{}()",
        ident(&name),
        table,
        ident(&function.name)
    );
    let fingerprint = fingerprint(&format!("{}{sql}", function.sql));
    Trigger { name, sql, fingerprint, is_of_child }
}

/// Mentions every column by which changes are recorded.
fn present(capture: &Capture) -> String {
    let keys = capture.keys.iter().map(|column| format!("old.{} is not null", ident(column)));
    keys.collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_inside_a_name_is_an_ordinary_name() {
        assert_eq!(fill("{a}-{b}-{c}", &[("{a}", "{b}"), ("{b}", "x")]), "{b}-x-{c}");
    }

    #[test]
    fn long_names_stay_different_and_fit() {
        let long = |end| short(&format!("{}ü{end}", "x".repeat(70)));
        assert!(long("1").len() <= MAX_NAME_BYTES);
        assert_ne!(long("1"), long("2"));
    }
}
