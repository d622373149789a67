//! A mapping file, read and checked by itself. Knows no database: [`crate::plan`] checks it against
//! both.
//!
//! Promise: what comes out of [`Mapping::parse`] is complete and consistent in itself, with the objects in
//! parent order, and what is wrong with a file is reported all at once, by line, object and field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::postgres::name::{self, TableName};

pub mod difference;
mod finding;
mod fragment;
mod read;

pub use finding::{Finding, Unusable};
pub use read::duration;

/// The mapping that is used when no file is named.
pub const BUILT_IN: &str = include_str!("../../mappings/editor-api.toml");
/// The mappings that come with the program, by name: wherever a file may be named, one of these may.
pub const SHIPPED: [(&str, &str); 2] = [
    ("editor-api", BUILT_IN),
    ("editor-api-production", include_str!("../../mappings/editor-api-production.toml")),
];
const BUILT_IN_NAME: &str = "built-in mapping";
/// The JSON schema of the format, for editors. A test compares it with what is read here.
pub const SCHEMA: &str = include_str!("../../mappings/schema.json");

/// Columns of a mapped table that belong to Heroku Connect and Salesforce. They are never written.
pub const HEROKU_CONNECT_COLUMNS: [&str; 7] =
    ["id", "sfid", "_hc_lastop", "_hc_err", "systemmodstamp", "isdeleted", "createddate"];

/// A checked mapping.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Where it came from, for messages.
    pub file: String,
    /// The text as it was read.
    pub text: String,
    /// Every parent comes before its children.
    pub objects: Vec<Object>,
}

/// One kind of target row and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The word used in commands, logs and reports.
    pub name: String,
    /// The table whose rows are published.
    pub source: TableName,
    /// The source column whose value is the external id.
    pub key: String,
    /// An SQL condition over the source row; rows that do not meet it are not published.
    pub filter: Option<String>,
    /// Which row is used when several have the same key.
    pub winner: Option<Winner>,
    /// The source column that `resync --since` compares.
    pub since: Option<String>,
    /// The mapped table.
    pub target: TableName,
    /// The column of the target that holds the key.
    pub external_id: String,
    /// What is written, except the external id.
    pub fields: Vec<Field>,
    /// Rows that must be known to Salesforce first.
    pub parents: Vec<Parent>,
    /// Other tables whose changes touch this object's rows.
    pub touched_by: Vec<Touch>,
    /// Salesforce creates these rows: a missing one is waited for.
    pub update_only: bool,
    /// What happens to the target row when the source row leaves the publication.
    pub on_delete: OnDelete,
    /// How many target rows may be deleted before a human must decide.
    pub brake: Brake,
    /// The line of its header.
    pub line: usize,
    /// The lines of its settings, by name; those within `winner` as `winner.order`.
    pub lines: BTreeMap<&'static str, usize>,
}

impl Object {
    /// Where a setting is, or else the object.
    pub fn line_of(&self, setting: &str) -> usize {
        self.lines.get(setting).copied().unwrap_or(self.line)
    }
}

/// One column of the target.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The target column.
    pub column: String,
    /// Where its value comes from.
    pub value: Value,
    /// Written when the row is inserted, and never again.
    pub insert_only: bool,
    /// Whether a difference in this column alone makes the row be written.
    pub compared: bool,
    /// Salesforce masks it: once it has, a value of nothing but asterisks is what is expected there.
    pub encrypted: bool,
    /// Its line in the file.
    pub line: usize,
}

/// A value of the source row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A column.
    Column(String),
    /// An SQL expression over the row, which is called `source` where it must be named.
    Sql(String),
}

impl Value {
    /// The value as an SQL expression in a query whose source row is called `source`.
    pub fn sql(&self) -> String {
        match self {
            Self::Column(column) => format!("source.{}", name::ident(column)),
            Self::Sql(sql) => format!("({sql})"),
        }
    }
}

/// A row that Salesforce must know before this one is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Parent {
    /// The object of the parent.
    pub object: String,
    /// The parent's key, as the child's source row has it. Null: no parent is needed.
    pub key: Value,
    /// The lines of both settings.
    pub lines: ParentLines,
}

/// Where a parent's settings are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParentLines {
    /// `object`.
    pub object: usize,
    /// `key`.
    pub key: usize,
}

/// How one of several source rows of a key is chosen, whatever the order of the changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Winner {
    /// A condition; a row that meets it wins over all that do not.
    pub prefer: Option<String>,
    /// `order by` terms; the first row wins.
    pub order: String,
}

/// Another table whose changes touch rows of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Touch {
    /// The other table.
    pub table: TableName,
    /// Its columns that matter: an update of others is not captured for this object.
    pub columns: Vec<String>,
    /// A query for the touched keys, over `changed`, the changed row's key columns (before and after).
    pub keys: String,
    /// The lines of its settings.
    pub lines: TouchLines,
}

/// Where a touching table's settings are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TouchLines {
    /// `table`.
    pub table: usize,
    /// `columns`, or else `table`.
    pub columns: usize,
    /// `keys`.
    pub keys: usize,
}

/// What becomes of a target row whose source row is gone or left out by the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// It stays, counted and reported.
    Keep,
    /// It is deleted, and so Salesforce deletes its record.
    Delete,
}

/// How many rows of an object may be deleted within a while; further deletions are held until a
/// human decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brake {
    /// This many rows.
    pub rows: u32,
    /// This share of the target's rows, 0 to 1, but always one row.
    pub share: f64,
    /// The while.
    pub within: Duration,
}

impl Brake {
    /// From this many rows on the share does not limit any more, because the number of rows is the
    /// lower limit.
    pub fn enough_rows(&self) -> i64 {
        match self.share > 0.0 {
            true => (f64::from(self.rows) / self.share).ceil() as i64,
            false => 0,
        }
    }
}

impl Default for Brake {
    fn default() -> Self {
        Self { rows: 100, share: 0.1, within: Duration::from_hours(1) }
    }
}

impl fmt::Display for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = jiff::fmt::friendly::SpanPrinter::new();
        let within = within.unsigned_duration_to_string(&self.within);
        let percent = (self.share * 1e5).round() / 1e3;
        write!(f, "{} rows and {percent} % of all within {within}", self.rows)
    }
}

impl Mapping {
    /// The mapping in `file` or shipped under that name, or the built-in one.
    pub fn load(file: Option<&Path>) -> Result<Self, Unusable> {
        let Some(path) = file else {
            return Self::parse(BUILT_IN_NAME, BUILT_IN);
        };
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text),
            Err(error) => match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
                Some((name, text)) => Self::parse(name, text),
                None => {
                    let shipped = SHIPPED.map(|(name, _)| name).join(", ");
                    let problem = format!(
                        "cannot read the file: {error}; without a file there are {shipped}"
                    );
                    Err(Unusable::new(&name, vec![Finding::file(problem)]))
                }
            },
        }
    }

    /// Reads and checks the text of a mapping file; `file` is its name for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, Unusable> {
        let (objects, mut findings) = read::objects(text);
        if findings.is_empty() && objects.is_empty() {
            findings.push(Finding::file("names no object; begin one with [object.NAME]"));
        }
        check(&objects, &mut findings);
        let objects = parents_first(objects, &mut findings);
        if findings.is_empty() {
            Ok(Self { file: file.into(), text: text.into(), objects })
        } else {
            Err(Unusable::new(file, findings))
        }
    }

    /// The same with only an object and all its parents, at every level.
    #[must_use]
    pub fn reduced_to(&self, name: &str) -> Self {
        let mut family = BTreeSet::from([name]);
        // Every parent comes before its children.
        for object in self.objects.iter().rev() {
            if family.contains(&*object.name) {
                family.extend(object.parents.iter().map(|parent| parent.object.as_str()));
            }
        }
        let objects = self.objects.iter().filter(|object| family.contains(&*object.name));
        Self { objects: objects.cloned().collect(), ..self.clone() }
    }

    /// The object of that name.
    pub fn object(&self, name: &str) -> Option<&Object> {
        self.objects.iter().find(|object| object.name == name)
    }
}

/// The rules for a mapping file beyond its syntax.
fn check(objects: &[Object], findings: &mut Vec<Finding>) {
    for object in objects {
        let mut seen = BTreeSet::from([object.external_id.as_str()]);
        for field in &object.fields {
            let column = field.column.as_str();
            if HEROKU_CONNECT_COLUMNS.contains(&column) {
                findings.push(Finding::field(
                    object,
                    field,
                    "belongs to Heroku Connect and is never written",
                ));
            }
            if !seen.insert(column) {
                findings.push(Finding::field(object, field, "is set twice"));
            }
        }
        if object.update_only && object.on_delete == OnDelete::Delete {
            findings.push(Finding::of(
                object,
                "on_delete",
                "an update-only object does not create its rows, so it must not delete them",
            ));
        }
        let is_misspelt = |finding: &Finding| {
            finding.object.as_ref() == Some(&object.name)
                && finding.field.as_deref() == Some("on_delete")
        };
        if object.on_delete == OnDelete::Keep
            && object.lines.contains_key("brake")
            && !findings.iter().any(is_misspelt)
        {
            findings.push(Finding::of(
                object,
                "brake",
                "has no meaning without on_delete = \"delete\"",
            ));
        }
        if object.update_only && object.fields.iter().any(|field| field.insert_only) {
            findings.push(Finding::of(
                object,
                "insert_only",
                "an update-only object inserts no rows",
            ));
        }
        for parent in &object.parents {
            if !objects.iter().any(|other| other.name == parent.object) {
                let names = objects.iter().map(|other| other.name.as_str());
                findings.push(
                    Finding::of(object, "parents", format!("there is no object {}", parent.object))
                        .at(parent.lines.object)
                        .or(name::nearest(&parent.object, names)),
                );
            }
        }
    }
}

/// Sorts the objects so that parents come before their children, or reports the circle. An object may be its own parent:
/// then each row waits for another one.
fn parents_first(objects: Vec<Object>, findings: &mut Vec<Finding>) -> Vec<Object> {
    let mut waiting = objects;
    let mut sorted: Vec<Object> = Vec::new();
    while !waiting.is_empty() {
        let unplaced: BTreeSet<String> = waiting.iter().map(|object| object.name.clone()).collect();
        let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|object| {
            let mut others = object.parents.iter().filter(|parent| parent.object != object.name);
            others.all(|parent| !unplaced.contains(&parent.object))
        });
        if ready.is_empty() {
            for object in &rest {
                findings.push(Finding::of(object, "parents", "is its own ancestor"));
            }
            return sorted;
        }
        sorted.extend(ready);
        waiting = rest;
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> String {
        Mapping::parse("m.toml", text).expect_err("the mapping should be refused").to_string()
    }

    #[test]
    fn the_built_in_mapping_is_sound_and_puts_parents_first() {
        let mapping = Mapping::load(None).expect("the built-in mapping parses");
        let names: Vec<_> = mapping.objects.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(names, ["contact", "school", "role"]);
    }

    #[test]
    fn an_unknown_key_is_reported_with_its_line() {
        let message = findings("version = 1\n[object.a]\nsource = \"t\"\nkee = \"id\"\n");
        assert!(
            message.contains("m.toml:4: object a: kee: unknown key; did you mean key?"),
            "{message}"
        );
    }

    #[test]
    fn everything_that_is_wrong_is_reported_at_once() {
        let message = findings(
            "version = 2\n[object.a]\nsource='t'\nkey='id'\ntarget='x'\nexternal_id='e'\nupdate_only=true\n\
             on_delete='delete'\n[object.a.fields]\nsfid='b'\n[[object.a.parents]]\nobject='b'\nkey='c'\n",
        );
        for part in
            ["version 1", "sfid: belongs to Heroku Connect", "must not delete", "no object b"]
        {
            assert!(message.contains(part), "{part} is not in {message}");
        }
    }

    #[test]
    fn a_circle_of_parents_is_refused() {
        let object = |name: &str, parent: &str| {
            format!(
                "[object.{name}]\nsource='t'\nkey='id'\ntarget='{name}'\nexternal_id='e'\n\
                 [[object.{name}.parents]]\nobject='{parent}'\nkey='p'\n"
            )
        };
        let message = findings(&format!("version=1\n{}{}", object("a", "b"), object("b", "a")));
        assert!(message.contains("its own ancestor"), "{message}");
    }
}
