//! Reads the text of a mapping file into objects, key by key.
//!
//! Promise: whatever is wrong with syntax, keys and kinds of values is found in one go, each with its line. A key that
//! nothing here asks for is unknown: a misspelt setting must not be silently ignored.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fragment::{flaw, flaw_of_order};
use super::{
    Brake, Field, Finding, Object, OnDelete, Parent, ParentLines, Touch, TouchLines, Value, Winner,
};
use crate::postgres::name::{TableName, nearest};

/// The version of the format that is read.
const VERSION: i64 = 1;

/// The objects of a file as far as they can be read, and what is wrong with it.
pub(super) fn objects(text: &str) -> (Vec<Object>, Vec<Finding>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let file = File { text, findings: RefCell::default() };
    if !errors.is_empty() {
        // What is read from a broken file must not cause further findings.
        return (Vec::new(), file.syntax(&errors));
    }
    let mut top = TableReader {
        file: &file,
        object: None,
        path: String::new(),
        line: 1,
        table: document.get_ref(),
        asked: Vec::new(),
    };
    top.version();
    let schemas = Schemas {
        source: top.optional_text("source_schema").unwrap_or_else(|| "public".into()),
        target: top.optional_text("target_schema").unwrap_or_else(|| "salesforce".into()),
    };
    let objects = top.table("object").map(|objects| {
        objects.entries().filter_map(|object| Some(object.as_object()?.object(&schemas))).collect()
    });
    top.end("");
    (objects.unwrap_or_default(), file.findings.into_inner())
}

/// Where tables are that are named without a schema.
struct Schemas {
    source: String,
    target: String,
}

struct File<'t> {
    text: &'t str,
    findings: RefCell<Vec<Finding>>,
}

impl File<'_> {
    /// Counted from 1.
    fn line(&self, offset: usize) -> usize {
        self.before(offset).matches('\n').count() + 1
    }

    /// The text before the offset; a parser may point into the middle of a character.
    fn before(&self, offset: usize) -> &str {
        let offset = (0..=offset.min(self.text.len())).rev();
        let end = offset.into_iter().find(|end| self.text.is_char_boundary(*end));
        &self.text[..end.unwrap_or(0)]
    }

    /// One finding per line: what follows an error in its line is mostly its consequence.
    fn syntax(&self, errors: &[toml::de::Error]) -> Vec<Finding> {
        let mut by_line = BTreeMap::new();
        for error in errors {
            let offset = error.span().map_or(0, |span| span.start);
            let before = self.before(offset);
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let line = self.line(offset);
            let finding = Finding { column: Some(column), ..Finding::file(error.message()) };
            by_line.entry(line).or_insert(finding.at(line));
        }
        by_line.into_values().collect()
    }
}

/// Something with a name, in a table.
struct NamedValue<'t> {
    file: &'t File<'t>,
    object: Option<&'t str>,
    /// What findings call the table it is in, within its object: `winner.`, or nothing.
    path: String,
    name: &'t str,
    line: usize,
    value: &'t DeValue<'t>,
}

impl<'t> NamedValue<'t> {
    fn find(&self, problem: impl Into<String>, nearest: Option<&str>) {
        self.file.findings.borrow_mut().push(Finding {
            line: Some(self.line),
            object: self.object.map(str::to_string),
            field: Some(format!("{}{}", self.path, self.name)),
            ..Finding::file(problem).or(nearest)
        });
    }

    fn wrong_kind<T>(&self, expected: &str) -> Option<T> {
        self.find(format!("is {}, but must be {expected}", kind(self.value)), None);
        None
    }

    fn text(&self) -> Option<String> {
        match self.value {
            // Postgres has no such character, and ends a message with it.
            DeValue::String(text) if text.contains('\0') => {
                self.find("holds a NUL character", None);
                None
            }
            DeValue::String(text) => Some(text.to_string()),
            _ => self.wrong_kind("text"),
        }
    }

    /// A piece of SQL that stays in the place that it is put into.
    fn sql(&self, flaw: impl Fn(&str) -> Option<String>) -> Option<String> {
        let sql = self.text()?;
        match flaw(&sql) {
            Some(flaw) => {
                self.find(flaw, None);
                None
            }
            None => Some(sql),
        }
    }

    fn flag(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.wrong_kind("true or false"),
        }
    }

    fn count(&self) -> Option<u32> {
        let DeValue::Integer(number) = self.value else { return self.wrong_kind("a number") };
        let count = u32::from_str_radix(number.as_str(), number.radix()).ok();
        if count.is_none() {
            self.find(format!("is {number}, but must be 0 to {}", u32::MAX), None);
        }
        count
    }

    fn share(&self) -> Option<f64> {
        let share = match self.value {
            DeValue::Integer(number) => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => return self.wrong_kind("a number from 0 to 1"),
        };
        let share = share.filter(|share| (0.0..=1.0).contains(share));
        if share.is_none() {
            self.find("must be from 0 to 1", None);
        }
        share
    }

    fn duration(&self) -> Option<Duration> {
        let duration = duration(&self.text()?).filter(|duration| !duration.is_zero());
        if duration.is_none() {
            self.find("is no duration; use 30m, 1h or 1d", None);
        }
        duration
    }

    fn table(&self) -> Option<TableReader<'t>> {
        match self.value {
            DeValue::Table(table) => Some(TableReader {
                file: self.file,
                object: self.object,
                path: format!("{}{}.", self.path, self.name),
                line: self.line,
                table,
                asked: Vec::new(),
            }),
            _ => self.wrong_kind("a table"),
        }
    }

    /// The elements of a list, each as an entry of the list's name.
    fn elements(&self) -> Vec<Self> {
        let DeValue::Array(elements) = self.value else {
            return self.wrong_kind::<Vec<Self>>("a list").unwrap_or_default();
        };
        let entries = elements.iter().map(|element| NamedValue {
            path: self.path.clone(),
            line: self.file.line(element.span().start),
            value: element.get_ref(),
            ..*self
        });
        entries.collect()
    }

    /// The table of an object, for which it is the name that findings are reported by.
    fn as_object(&self) -> Option<TableReader<'t>> {
        let entry = NamedValue { object: Some(self.name), path: String::new(), ..*self };
        match self.value {
            DeValue::Table(_) => {
                entry.table().map(|table| TableReader { path: String::new(), ..table })
            }
            _ => self.wrong_kind("a table"),
        }
    }

    fn value(&self) -> Option<ReadValue> {
        let mut table = match self.value {
            DeValue::String(column) => return Some(ReadValue::plain(column)),
            DeValue::Table(_) => self.table()?,
            _ => return self.wrong_kind("a column name, { column = … } or { sql = … }"),
        };
        let column = table.optional_text("column");
        let sql = table.ask("sql").and_then(|sql| sql.sql(flaw));
        let compared = table.flag("compare", true);
        let encrypted = table.flag("encrypted", false);
        let misnamed = table.end("");
        match (column, sql) {
            (Some(column), None) => {
                Some(ReadValue { value: Value::Column(column), compared, encrypted })
            }
            (None, Some(sql)) => Some(ReadValue { value: Value::Sql(sql), compared, encrypted }),
            (Some(_), Some(_)) => {
                self.find("has both column and sql, but must have one of them", None);
                None
            }
            (None, None) => {
                // A key that is misspelt, or of the wrong kind, was reported already.
                if !misnamed && !table.has("column") && !table.has("sql") {
                    self.find("has neither column nor sql", None);
                }
                None
            }
        }
    }

    fn field(&self, insert_only: bool) -> Option<Field> {
        let field = NamedValue { path: String::new(), ..*self };
        let ReadValue { value, compared, encrypted } = field.value()?;
        Some(Field {
            column: self.name.into(),
            value,
            insert_only,
            // A field that is written once belongs to others afterwards, so it is never a
            // difference.
            compared: compared && !insert_only,
            encrypted,
            line: self.line,
        })
    }
}

/// A value with the findings about it.
struct ReadValue {
    value: Value,
    compared: bool,
    encrypted: bool,
}

impl ReadValue {
    fn plain(column: &str) -> Self {
        Self { value: Value::Column(column.into()), compared: true, encrypted: false }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A table of the file that is being read. The keys that it is asked for are the keys that it may
/// have.
struct TableReader<'t> {
    file: &'t File<'t>,
    object: Option<&'t str>,
    /// What findings call it within its object, with a dot: `winner.`, or nothing.
    path: String,
    line: usize,
    table: &'t DeTable<'t>,
    asked: Vec<&'static str>,
}

impl<'t> TableReader<'t> {
    fn entries(&self) -> impl Iterator<Item = NamedValue<'t>> {
        self.table.iter().map(|(name, value)| self.entry(name, value))
    }

    fn entry(
        &self,
        name: &'t Spanned<std::borrow::Cow<'t, str>>,
        value: &'t Spanned<DeValue<'t>>,
    ) -> NamedValue<'t> {
        NamedValue {
            file: self.file,
            object: self.object,
            path: self.path.clone(),
            name: name.get_ref(),
            line: self.file.line(name.span().start),
            value: value.get_ref(),
        }
    }

    fn has(&self, key: &str) -> bool {
        self.entries().any(|entry| entry.name == key)
    }

    /// Where the key is, or else the table.
    fn line_of(&self, key: &str) -> usize {
        self.entries().find(|entry| entry.name == key).map_or(self.line, |entry| entry.line)
    }

    fn ask(&mut self, key: &'static str) -> Option<NamedValue<'t>> {
        self.asked.push(key);
        self.entries().find(|entry| entry.name == key)
    }

    fn optional_text(&mut self, key: &'static str) -> Option<String> {
        self.ask(key)?.text()
    }

    /// Empty where it is missing, which is reported.
    fn text(&mut self, key: &'static str) -> String {
        self.required(key, NamedValue::text)
    }

    /// The same of a piece of SQL.
    fn sql(&mut self, key: &'static str, flaw: impl Fn(&str) -> Option<String>) -> String {
        self.required(key, |entry| entry.sql(flaw))
    }

    fn required(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&NamedValue<'t>) -> Option<String>,
    ) -> String {
        match self.ask(key) {
            Some(entry) => read(&entry).unwrap_or_default(),
            None => {
                self.missing(key);
                String::new()
            }
        }
    }

    fn missing(&self, key: &str) {
        self.file.findings.borrow_mut().push(Finding {
            line: Some(self.line),
            object: self.object.map(str::to_string),
            field: Some(format!("{}{key}", self.path)),
            ..Finding::file("is missing")
        });
    }

    fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.ask(key).and_then(|entry| entry.flag()).unwrap_or(default)
    }

    fn table(&mut self, key: &'static str) -> Option<Self> {
        self.ask(key)?.table()
    }

    fn list(&mut self, key: &'static str) -> Vec<NamedValue<'t>> {
        self.ask(key).map(|list| list.elements()).unwrap_or_default()
    }

    fn fields(&mut self, key: &'static str, insert_only: bool) -> Vec<Field> {
        let fields = self
            .table(key)
            .map(|fields| fields.entries().filter_map(|field| field.field(insert_only)).collect());
        fields.unwrap_or_default()
    }

    /// Reports the keys that nothing asked for; returns whether there were any.
    fn end(&self, advice: &str) -> bool {
        let unknown: Vec<NamedValue<'t>> =
            self.entries().filter(|entry| !self.asked.contains(&entry.name)).collect();
        for entry in &unknown {
            match nearest(entry.name, self.asked.iter().copied()) {
                Some(nearest) => entry.find("unknown key", Some(nearest)),
                None => entry
                    .find(format!("unknown key; it may be {}{advice}", one_of(&self.asked)), None),
            }
        }
        !unknown.is_empty()
    }

    fn version(&mut self) {
        let Some(version) = self.ask("version") else { return self.missing("version") };
        let DeValue::Integer(number) = version.value else {
            version.wrong_kind::<()>("a number");
            return;
        };
        let read = i64::from_str_radix(number.as_str(), number.radix());
        if read != Ok(VERSION) {
            version.find(format!("is {number}, but this program reads version {VERSION}"), None);
        }
    }

    fn object(mut self, schemas: &Schemas) -> Object {
        let source = self.text("source");
        let key = self.text("key");
        let target = self.text("target");
        let external_id = self.text("external_id");
        let filter = self.ask("filter").and_then(|filter| filter.sql(flaw));
        let since = self.optional_text("since");
        let winner = self.table("winner");
        let winner_lines = winner.as_ref().map(|winner| {
            [("winner.order", winner.line_of("order")), ("winner.prefer", winner.line_of("prefer"))]
        });
        let winner = winner.map(TableReader::winner);
        let update_only = self.flag("update_only", false);
        let on_delete = self.on_delete();
        let brake = self.table("brake").map(TableReader::brake).unwrap_or_default();
        let mut fields = self.fields("fields", false);
        fields.extend(self.fields("insert_only", true));
        let parents =
            self.list("parents").into_iter().filter_map(|parent| parent.table()?.parent());
        let parents = parents.collect();
        let touches = self.list("touched_by").into_iter();
        let touched_by = touches.filter_map(|touch| Some(touch.table()?.touch(schemas))).collect();
        let name = self.object.unwrap_or_default();
        self.end(&format!("; a target column goes under [object.{name}.fields]"));
        let lines = self.asked.iter().filter(|key| self.has(key));
        let lines = lines.map(|key| (*key, self.line_of(key)));
        Object {
            name: name.into(),
            source: TableName::parse(&source, &schemas.source),
            key,
            filter,
            winner,
            since,
            target: TableName::parse(&target, &schemas.target),
            external_id,
            fields,
            parents,
            touched_by,
            update_only,
            on_delete,
            brake,
            line: self.line,
            lines: lines.chain(winner_lines.into_iter().flatten()).collect(),
        }
    }

    fn winner(mut self) -> Winner {
        let prefer = self.ask("prefer").and_then(|prefer| prefer.sql(flaw));
        let winner = Winner { prefer, order: self.sql("order", flaw_of_order) };
        self.end("");
        winner
    }

    fn on_delete(&mut self) -> OnDelete {
        let Some(entry) = self.ask("on_delete") else { return OnDelete::Keep };
        match entry.text().as_deref() {
            Some("delete") => return OnDelete::Delete,
            Some("keep") | None => {}
            Some(other) => {
                let problem = format!("is {other:?}, but must be \"keep\" or \"delete\"");
                entry.find(problem, nearest(other, ["keep", "delete"]));
            }
        }
        OnDelete::Keep
    }

    fn brake(mut self) -> Brake {
        let default = Brake::default();
        let brake = Brake {
            rows: self.ask("rows").and_then(|rows| rows.count()).unwrap_or(default.rows),
            share: self.ask("share").and_then(|share| share.share()).unwrap_or(default.share),
            within: self
                .ask("within")
                .and_then(|within| within.duration())
                .unwrap_or(default.within),
        };
        self.end("");
        brake
    }

    fn parent(mut self) -> Option<Parent> {
        let object = self.text("object");
        let key = match self.ask("key") {
            Some(key) => key.value().map(|read| read.value),
            None => {
                self.missing("key");
                None
            }
        };
        self.end("");
        let lines = ParentLines { object: self.line_of("object"), key: self.line_of("key") };
        Some(Parent { object, key: key?, lines })
    }

    fn touch(mut self, schemas: &Schemas) -> Touch {
        let table = self.text("table");
        let columns = self.list("columns").iter().filter_map(NamedValue::text).collect();
        let keys = self.sql("keys", flaw);
        self.end("");
        let line = self.line_of("table");
        let columns_line = if self.has("columns") { self.line_of("columns") } else { line };
        let lines = TouchLines { table: line, columns: columns_line, keys: self.line_of("keys") };
        Touch { table: TableName::parse(&table, &schemas.source), columns, keys, lines }
    }
}

/// A span of time such as `30m`, in which a day has 24 hours.
pub fn duration(text: &str) -> Option<Duration> {
    let span = text.parse::<jiff::Span>().ok()?;
    span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()
}

fn one_of(names: &[&str]) -> String {
    match names {
        [names @ .., last] if !names.is_empty() => format!("{} or {last}", names.join(", ")),
        names => names.concat(),
    }
}
