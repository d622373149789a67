//! A mapping file, read and checked by itself. Knows no database: [`crate::plan`] holds it against both.
//!
//! Promise: what comes out of [`Mapping::parse`] is complete and consistent in itself, with the objects in
//! parent order, and what is wrong with a file is reported all at once, by object and field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::Deserialize;

use crate::name::TableName;

/// The mapping that is used when no file is named.
pub const BUILT_IN: &str = include_str!("../mappings/editor-api.toml");
/// The mappings that come with the program, by name: wherever a file may be named, one of these may.
pub const SHIPPED: [(&str, &str); 2] = [
    ("editor-api", BUILT_IN),
    ("editor-api-production", include_str!("../mappings/editor-api-production.toml")),
];
const BUILT_IN_NAME: &str = "built-in mapping";

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
    /// Every parent stands before its children.
    pub objects: Vec<Object>,
}

/// One kind of target row and where it comes from.
#[derive(Debug, Clone)]
pub struct Object {
    /// The word used in commands, logs and reports.
    pub name: String,
    /// The table whose rows are published.
    pub source: TableName,
    /// The source column whose value is the external id.
    pub key: String,
    /// An SQL condition over the source row; rows that do not meet it are not published.
    pub filter: Option<String>,
    /// Which row speaks when several have the same key.
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
}

/// One column of the target.
#[derive(Debug, Clone)]
pub struct Field {
    /// The target column.
    pub column: String,
    /// Where its value comes from.
    pub value: Value,
    /// Written when the row is inserted, and never again.
    pub insert_only: bool,
    /// Whether a difference in this column alone makes the row be written.
    pub compared: bool,
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
            Self::Column(column) => format!("source.{}", crate::name::ident(column)),
            Self::Sql(sql) => format!("({sql})"),
        }
    }
}

/// A row that Salesforce must know before this one is written.
#[derive(Debug, Clone)]
pub struct Parent {
    /// The object of the parent.
    pub object: String,
    /// The parent's key, as the child's source row has it. Null: no parent is needed.
    pub key: Value,
}

/// How one of several source rows of a key is chosen, whatever the order of the changes.
#[derive(Debug, Clone)]
pub struct Winner {
    /// A condition; a row that meets it wins over all that do not.
    pub prefer: Option<String>,
    /// `order by` terms; the first row wins.
    pub order: String,
}

/// Another table whose changes touch rows of an object.
#[derive(Debug, Clone)]
pub struct Touch {
    /// The other table.
    pub table: TableName,
    /// Its columns that matter: an update of others is not captured for this object.
    pub columns: Vec<String>,
    /// A query for the touched keys, over `changed`, the changed row's key columns (before and after).
    pub keys: String,
}

/// What becomes of a target row whose source row is gone or left out by the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// It stays, counted and reported.
    Keep,
    /// It is deleted, and so Salesforce deletes its record.
    Delete,
}

/// One thing that is wrong with a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The object, when it is about one.
    pub object: Option<String>,
    /// The field or setting, when it is about one.
    pub field: Option<String>,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Finding {
    /// A finding about a field or setting of an object.
    pub fn of(object: &str, field: &str, problem: impl Into<String>) -> Self {
        Self { object: Some(object.into()), field: Some(field.into()), problem: problem.into() }
    }

    /// A finding about an object as a whole.
    pub fn object(object: &str, problem: impl Into<String>) -> Self {
        Self { object: Some(object.into()), field: None, problem: problem.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "object {object}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.problem)
    }
}

/// A mapping that cannot be used, with everything that is wrong with it.
#[derive(Debug)]
pub struct Unusable {
    /// The file it came from.
    pub file: String,
    /// Never empty.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {finding}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Unusable {}

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
                    Err(unusable(&name, problem))
                }
            },
        }
    }

    /// Reads and checks the text of a mapping file; `file` is its name for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, Unusable> {
        let raw: raw::Mapping =
            toml::from_str(text).map_err(|error| unusable(file, error.to_string().trim_end()))?;
        let mut findings = Vec::new();
        if raw.version != 1 {
            findings.push(Finding {
                object: None,
                field: Some("version".into()),
                problem: format!("is {}, but this program reads version 1", raw.version),
            });
        }
        let objects: Vec<Object> =
            raw.object.iter().map(|(name, object)| object.checked(name, &raw)).collect();
        check(&objects, &mut findings);
        let objects = parents_first(objects, &mut findings);
        if findings.is_empty() {
            Ok(Self { file: file.into(), text: text.into(), objects })
        } else {
            Err(Unusable { file: file.into(), findings })
        }
    }

    /// The object of that name.
    pub fn object(&self, name: &str) -> Option<&Object> {
        self.objects.iter().find(|object| object.name == name)
    }
}

fn unusable(file: &str, problem: impl Into<String>) -> Unusable {
    Unusable {
        file: file.into(),
        findings: vec![Finding { object: None, field: None, problem: problem.into() }],
    }
}

/// What a mapping file must fulfil beyond its syntax.
fn check(objects: &[Object], findings: &mut Vec<Finding>) {
    if objects.is_empty() {
        findings.push(Finding {
            object: None,
            field: None,
            problem: "names no object; begin one with [object.NAME]".into(),
        });
    }
    for object in objects {
        let name = &object.name;
        let mut seen = BTreeSet::from([object.external_id.as_str()]);
        for field in &object.fields {
            let column = field.column.as_str();
            if HEROKU_CONNECT_COLUMNS.contains(&column) {
                findings.push(Finding::of(
                    name,
                    column,
                    "belongs to Heroku Connect and is never written",
                ));
            }
            if !seen.insert(column) {
                findings.push(Finding::of(name, column, "is set twice"));
            }
        }
        if object.update_only && object.on_delete == OnDelete::Delete {
            findings.push(Finding::of(
                name,
                "on_delete",
                "an update-only object does not create its rows, so it must not delete them",
            ));
        }
        if object.update_only && object.fields.iter().any(|field| field.insert_only) {
            findings.push(Finding::of(
                name,
                "insert_only",
                "an update-only object inserts no rows",
            ));
        }
        for parent in &object.parents {
            if !objects.iter().any(|other| other.name == parent.object) {
                findings.push(Finding::of(
                    name,
                    "parents",
                    format!("there is no object {}", parent.object),
                ));
            }
        }
    }
}

/// Sorts the objects so that parents come before their children, or reports the circle.
fn parents_first(objects: Vec<Object>, findings: &mut Vec<Finding>) -> Vec<Object> {
    let mut waiting = objects;
    let mut sorted: Vec<Object> = Vec::new();
    while !waiting.is_empty() {
        let unplaced: BTreeSet<String> = waiting.iter().map(|object| object.name.clone()).collect();
        let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|object| {
            object.parents.iter().all(|parent| !unplaced.contains(&parent.object))
        });
        if ready.is_empty() {
            for object in &rest {
                findings.push(Finding::of(&object.name, "parents", "is its own ancestor"));
            }
            return sorted;
        }
        sorted.extend(ready);
        waiting = rest;
    }
    sorted
}

/// The file as it is written. Unknown keys are errors: a misspelt setting must not be silently ignored.
mod raw {
    use super::{BTreeMap, Deserialize, OnDelete, TableName};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Mapping {
        pub version: u32,
        #[serde(default = "public")]
        pub source_schema: String,
        #[serde(default = "salesforce")]
        pub target_schema: String,
        #[serde(default)]
        pub object: BTreeMap<String, Object>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Object {
        source: String,
        key: String,
        filter: Option<String>,
        winner: Option<Winner>,
        since: Option<String>,
        target: String,
        external_id: String,
        #[serde(default)]
        fields: BTreeMap<String, Value>,
        #[serde(default)]
        insert_only: BTreeMap<String, Value>,
        #[serde(default)]
        parents: Vec<Parent>,
        #[serde(default)]
        touched_by: Vec<Touch>,
        #[serde(default)]
        update_only: bool,
        #[serde(default = "keep")]
        on_delete: OnDelete,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Winner {
        prefer: Option<String>,
        order: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Parent {
        object: String,
        key: Value,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Touch {
        table: String,
        #[serde(default)]
        columns: Vec<String>,
        keys: String,
    }

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a column name, { column = … } or { sql = … }")]
    enum Value {
        Name(String),
        Column(ColumnValue),
        Sql(SqlValue),
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ColumnValue {
        column: String,
        #[serde(default = "yes")]
        compare: bool,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SqlValue {
        sql: String,
        #[serde(default = "yes")]
        compare: bool,
    }

    fn public() -> String {
        "public".into()
    }

    fn salesforce() -> String {
        "salesforce".into()
    }

    fn keep() -> OnDelete {
        OnDelete::Keep
    }

    fn yes() -> bool {
        true
    }

    impl Value {
        fn checked(&self) -> (super::Value, bool) {
            match self {
                Self::Name(column) => (super::Value::Column(column.clone()), true),
                Self::Column(value) => (super::Value::Column(value.column.clone()), value.compare),
                Self::Sql(value) => (super::Value::Sql(value.sql.clone()), value.compare),
            }
        }

        fn field(&self, column: &str, insert_only: bool) -> super::Field {
            let (value, compared) = self.checked();
            // What is written once is not ours afterwards, so it is never a difference.
            let compared = compared && !insert_only;
            super::Field { column: column.into(), value, insert_only, compared }
        }
    }

    impl Object {
        pub fn checked(&self, name: &str, mapping: &Mapping) -> super::Object {
            let fields = self.fields.iter().map(|(column, value)| value.field(column, false));
            let once = self.insert_only.iter().map(|(column, value)| value.field(column, true));
            super::Object {
                name: name.into(),
                source: TableName::parse(&self.source, &mapping.source_schema),
                key: self.key.clone(),
                filter: self.filter.clone(),
                winner: self.winner.as_ref().map(|winner| super::Winner {
                    prefer: winner.prefer.clone(),
                    order: winner.order.clone(),
                }),
                since: self.since.clone(),
                target: TableName::parse(&self.target, &mapping.target_schema),
                external_id: self.external_id.clone(),
                fields: fields.chain(once).collect(),
                parents: self
                    .parents
                    .iter()
                    .map(|parent| super::Parent {
                        object: parent.object.clone(),
                        key: parent.key.checked().0,
                    })
                    .collect(),
                touched_by: self
                    .touched_by
                    .iter()
                    .map(|touch| super::Touch {
                        table: TableName::parse(&touch.table, &mapping.source_schema),
                        columns: touch.columns.clone(),
                        keys: touch.keys.clone(),
                    })
                    .collect(),
                update_only: self.update_only,
                on_delete: self.on_delete,
            }
        }
    }
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
        assert!(message.contains("m.toml"), "{message}");
        assert!(message.contains("line 4"), "{message}");
        assert!(message.contains("kee"), "{message}");
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
