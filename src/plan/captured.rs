//! Which changes of which columns are recorded for a mapping.

use std::collections::BTreeMap;

use super::touch::changed_mentions;
use crate::mapping::{Mapping, Object, Value};
use crate::postgres::catalogue::{Column, Part, Table};
use crate::postgres::name::TableName;

/// One set of triggers: which changes of a table are recorded, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The table that carries the triggers.
    pub table: TableName,
    /// Its partitions and children, whose changes count as its own.
    pub parts: Vec<Part>,
    /// The one object these changes are for; none: all objects that are read from the table.
    pub concerns: Option<String>,
    /// The columns that are recorded: by these the objects find their rows.
    pub keys: Vec<String>,
    /// The keys are written alike in every session, whatever its settings.
    pub keys_are_steady: bool,
    /// An update that leaves all of these alone is not recorded. Includes the keys.
    pub watched: Vec<String>,
    /// Objects for which alone some of the watched columns matter, with those columns: an update of
    /// nothing else is recorded for that object only. None where the capture is for a single
    /// object.
    pub narrow: Vec<(String, Vec<String>)>,
}

/// The triggers that a mapping needs: one capture per source table, and one per object and touching table.
pub(super) fn captures(
    mapping: &Mapping,
    tables: &BTreeMap<TableName, Table>,
    parts: &BTreeMap<TableName, Vec<Part>>,
) -> Vec<Capture> {
    let parts_of = |table: &TableName| parts.get(table).cloned().unwrap_or_default();
    let mut captures: Vec<Capture> = Vec::new();
    for (name, table) in tables {
        let readers: Vec<&Object> =
            mapping.objects.iter().filter(|object| object.source == *name).collect();
        if !readers.is_empty() {
            let keys = in_table(table, |column| readers.iter().any(|object| object.key == column));
            let watched =
                in_table(table, |column| readers.iter().any(|object| uses(object, column)));
            let narrow = narrow(&watched, &keys, &readers);
            captures.push(Capture {
                table: name.clone(),
                parts: parts_of(name),
                concerns: None,
                keys_are_steady: are_steady(&keys, table),
                keys,
                watched,
                narrow,
            });
        }
    }
    for object in &mapping.objects {
        for touch in &object.touched_by {
            let table = &tables[&touch.table];
            let keys = in_table(table, |column| changed_mentions(&touch.keys, column));
            let watched = in_table(table, |column| {
                changed_mentions(&touch.keys, column)
                    || touch.columns.iter().any(|name| name == column)
            });
            captures.push(Capture {
                table: touch.table.clone(),
                parts: parts_of(&touch.table),
                concerns: Some(object.name.clone()),
                keys_are_steady: are_steady(&keys, table),
                keys,
                watched,
                narrow: Vec::new(),
            });
        }
    }
    captures
}

/// The columns that matter to a single one of several objects, by object.
fn narrow(watched: &[String], keys: &[String], readers: &[&Object]) -> Vec<(String, Vec<String>)> {
    if readers.len() < 2 {
        return Vec::new();
    }
    let only_for = |reader: &Object| {
        let only = watched.iter().filter(|column| {
            let users = readers.iter().filter(|object| uses(object, column));
            !keys.contains(column) && users.map(|object| &object.name).eq([&reader.name])
        });
        (reader.name.clone(), only.cloned().collect::<Vec<_>>())
    };
    let narrow = readers.iter().map(|reader| only_for(reader));
    narrow.filter(|(_, columns)| !columns.is_empty()).collect()
}

/// The wanted columns. One that a trigger cannot see is replaced by those that it is computed from.
fn in_table(table: &Table, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let is_seen = |column: &Column| {
        let computes = |other: &&Column| {
            other.is_virtual && wanted(&other.name) && other.computed_from.contains(&column.name)
        };
        !column.is_virtual && (wanted(&column.name) || table.columns.iter().any(|c| computes(&c)))
    };
    table
        .columns
        .iter()
        .filter(|column| is_seen(column))
        .map(|column| column.name.clone())
        .collect()
}

fn are_steady(keys: &[String], table: &Table) -> bool {
    let columns = table.columns.iter().filter(|column| keys.contains(&column.name));
    columns.into_iter().all(|column| column.is_steady)
}

/// Whether a change of the column can change what is published for the object.
///
/// Expressions are searched for the column's name rather than parsed: a false match costs a look, a
/// missed one would lose changes.
fn uses(object: &Object, column: &str) -> bool {
    let value_uses = |value: &Value| match value {
        Value::Column(name) => name == column,
        Value::Sql(sql) => mentions(sql, column),
    };
    let winner =
        object.winner.iter().flat_map(|winner| winner.prefer.iter().chain([&winner.order]));
    object.key == column
        || object.fields.iter().any(|field| value_uses(&field.value))
        || object.parents.iter().any(|parent| value_uses(&parent.key))
        || object.filter.iter().chain(winner).any(|sql| mentions(sql, column))
}

/// Whether the expression contains the column as a word, or the whole row.
fn mentions(sql: &str, column: &str) -> bool {
    has_word(sql, column) || sql.contains(".*") || whole_row(sql)
}

/// `source` as a value of its own (`to_jsonb(source)`), which depends on every column.
fn whole_row(sql: &str) -> bool {
    words(sql, "source").any(|rest| !rest.trim_start().starts_with('.'))
}

fn has_word(sql: &str, word: &str) -> bool {
    words(sql, word).next().is_some()
}

/// What follows each place where the word is on its own, whatever its capitals.
pub(super) fn words<'a>(sql: &'a str, word: &str) -> impl Iterator<Item = &'a str> {
    let folded = sql.to_ascii_lowercase();
    let word = word.to_ascii_lowercase();
    let part_of_word = |character: Option<char>| {
        character.is_some_and(|character| {
            character.is_alphanumeric() || character == '_' || character == '$'
        })
    };
    let places: Vec<usize> = folded
        .match_indices(&word)
        .filter(|(start, _)| {
            !part_of_word(folded[..*start].chars().next_back())
                && !part_of_word(folded[start + word.len()..].chars().next())
        })
        .map(|(start, _)| start + word.len())
        .collect();
    places.into_iter().map(move |end| &sql[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_mentioned_as_a_word_whatever_its_capitals() {
        assert!(mentions("case User_Origin when 1 then 2 end", "user_origin"));
        assert!(mentions("source.role is distinct from 0", "role"));
        assert!(mentions("\"Role\" = 1", "Role"));
        assert!(!mentions("creator_role", "role"));
        assert!(!mentions("roles", "role"));
    }

    #[test]
    fn the_whole_row_mentions_every_column() {
        assert!(mentions("to_jsonb(source)", "anything"));
        assert!(mentions("(select x.* from x)", "anything"));
        assert!(!mentions("source.name", "anything"));
    }
}
