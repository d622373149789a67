//! A draft as the text of a mapping file.

use super::{Draft, SCHEMAS, Unmatched};
use crate::postgres::catalogue::{Column, Table};
use crate::postgres::name::TableName;
use crate::visible;

/// The whole file; `refused` are pairs of which no object could be made, with the reason.
pub(super) fn file(drafts: &[Draft], refused: &[String]) -> String {
    let mut lines = vec![
        "# A first mapping, drafted from both catalogues. Look at every line: names that are alike may mean".to_string(),
        "# different things. What is commented out found no partner; the format is in docs/mapping.md.".to_string(),
        String::new(),
        "version = 1".to_string(),
    ];
    for why in refused {
        lines.extend([String::new(), format!("# No object could be made of {why}.")]);
    }
    for draft in drafts {
        lines.push(String::new());
        object(draft, &mut lines);
    }
    lines.push(String::new());
    lines.join("\n")
}

fn object(draft: &Draft, lines: &mut Vec<String>) {
    let (source, target) = (&draft.tables.source, &draft.tables.target);
    let name = key(&draft.name);
    lines.push(format!("[object.{name}]"));
    lines.push(format!("source = {}", table(&source.name, SCHEMAS[0])));
    let said = |table: &Table, column: &str| {
        let column = table.column(column);
        let unique = if column.is_some_and(|column| column.unique) { ", unique" } else { "" };
        format!("{}{unique}", column.map(type_of).unwrap_or_default())
    };
    lines.push(format!("key = {}  # {}", quoted(&draft.key), said(source, &draft.key)));
    if let Some(since) = &draft.since {
        lines.push(format!("since = {}", quoted(since)));
    }
    lines.push(format!("target = {}", table(&target.name, SCHEMAS[1])));
    let id = &draft.external_id;
    lines.push(format!("external_id = {}  # {}", quoted(id), said(target, id)));
    fields(draft, lines);
    for parent in &draft.parents {
        lines.extend([
            String::new(),
            format!("[[object.{name}.parents]]"),
            format!("object = {}", quoted(&parent.object)),
            format!("key = {}", quoted(&parent.column)),
        ]);
    }
}

fn fields(draft: &Draft, lines: &mut Vec<String>) {
    let (source, target) = (&draft.tables.source, &draft.tables.target);
    lines.extend([String::new(), format!("[object.{}.fields]", key(&draft.name))]);
    for (to, from) in &draft.fields {
        let columns = (source.column(from), target.column(to));
        let (Some(from), Some(to)) = columns else { continue };
        let is_parent = draft.parents.iter().any(|parent| parent.column == from.name);
        lines.push(field(from, to, is_parent));
    }
    if !draft.unmatched.is_empty() {
        lines.extend([String::new(), "# Columns of the target without a partner:".to_string()]);
        lines.extend(draft.unmatched.iter().flat_map(|unmatched| without(draft, unmatched)));
    }
    let used = |column: &&Column| {
        column.name == draft.key || draft.fields.iter().any(|(_, from)| *from == column.name)
    };
    let left: Vec<&Column> = source.columns.iter().filter(|column| !used(column)).collect();
    if !left.is_empty() {
        let heading =
            format!("# Columns of {} that are not published:", comment(&source.name.plain()));
        lines.extend([String::new(), heading]);
        lines.extend(left.iter().map(|column| {
            let near = near(draft, column);
            format!("#   {} {}{near}", comment(&column.name), type_of(column))
        }));
    }
}

/// The target columns that have this one for a candidate.
fn near(draft: &Draft, column: &Column) -> String {
    let near =
        draft.unmatched.iter().filter(|unmatched| unmatched.candidates.contains(&column.name));
    let near: Vec<String> = near.map(|unmatched| comment(&unmatched.column)).collect();
    match near.is_empty() {
        true => String::new(),
        false => format!(": for {}?", near.join(" or ")),
    }
}

fn field(from: &Column, to: &Column, is_key: bool) -> String {
    format!("{} = {}{}", key(&to.name), quoted(&from.name), remark(from, to, is_key))
}

/// How the value is changed on its way, if it is.
fn remark(from: &Column, to: &Column, is_key: bool) -> String {
    let longer = |max: i32| from.max_chars.is_none_or(|length| length > max);
    match (from.category == 'S', to.category == 'S', to.max_chars) {
        (true, true, Some(max)) if longer(max) && !is_key => format!("  # will be cut at {max}"),
        (true, _, _) | (false, false, _) => String::new(),
        // Keys, numbers and times have one form as text; for any other type a comment says that it
        // is written as text.
        (false, true, _) if from.type_name == "uuid" => String::new(),
        (false, true, _) => format!("  # {}, written as text", type_of(from)),
    }
}

/// Lines to uncomment, or why there are none.
fn without(draft: &Draft, unmatched: &Unmatched) -> Vec<String> {
    let (source, target) = (&draft.tables.source, &draft.tables.target);
    let Some(to) = target.column(&unmatched.column) else { return Vec::new() };
    let why = match unmatched.why.is_empty() {
        true => String::new(),
        false => format!("; {}", comment(&unmatched.why)),
    };
    let candidates = unmatched.candidates.iter().filter_map(|name| source.column(name));
    let mut lines: Vec<String> = candidates
        .map(|from| {
            let remark = remark(from, to, false).replace("  # ", ", ");
            format!(
                "# {} = {}  # perhaps: {} from {}{remark}{why}",
                comment(&key(&to.name)),
                comment(&quoted(&from.name)),
                type_of(to),
                type_of(from)
            )
        })
        .collect();
    if lines.is_empty() {
        lines.push(format!("#   {} {}{why}", comment(&to.name), type_of(to)));
    }
    lines
}

fn type_of(column: &Column) -> String {
    let length = column.max_chars.map(|length| format!("({length})")).unwrap_or_default();
    let name = match column.type_name.as_str() {
        "character varying" => "varchar",
        "timestamp without time zone" => "timestamp",
        "timestamp with time zone" => "timestamptz",
        other => other,
    };
    comment(&format!("{name}{length}"))
}

/// A table as a mapping names it.
fn table(name: &TableName, default_schema: &str) -> String {
    match name.schema == default_schema && !name.table.contains('.') {
        true => quoted(&name.table),
        false => quoted(&name.plain()),
    }
}

/// On one line, as a key must be; `toml` writes text with a newline on several. JSON's escapes are TOML's.
fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    visible::unicode(&json).into_owned()
}

fn key(name: &str) -> String {
    let is_bare = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    match !name.is_empty() && name.chars().all(is_bare) {
        true => name.into(),
        false => quoted(name),
    }
}

/// On one line, as a comment must be.
fn comment(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}
