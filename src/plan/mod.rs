//! The mapping checked against both catalogues: every object with its types, lengths, keys and
//! parents.
//!
//! Promise: what a plan names exists on both sides and fits; everything that does not is reported at once.

pub mod draft;

use std::collections::BTreeMap;
use std::fmt;

use tokio_postgres::types::Oid;

use crate::mapping::{Field, Finding, Mapping, Object, Unusable, Value};
use crate::postgres::catalogue::{self, Column, Table};
use crate::postgres::db::{Evaluator, Session};
use crate::postgres::name::{self, TableName, ident};
use crate::postgres::qualified::SqlType;

mod captured;
mod expression;
mod parts;
mod touch;

pub use captured::Capture;
use captured::captures;
use expression::{About, expression, other_expressions, unwatched};
use parts::check_parts;
use touch::{check_touch, touched_keys};

const ASSIGNABLE: &str = include_str!("../../sql/assignable.sql");
/// Types with a number below this one are built in, and the same in every Postgres.
const FIRST_USER_OID: Oid = 16_384;

/// Why there is no plan.
#[derive(Debug)]
pub enum Unplannable {
    /// The mapping and a database do not fit.
    Mapping(Unusable),
    /// A catalogue could not be read.
    Database(tokio_postgres::Error),
}

impl fmt::Display for Unplannable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapping(unusable) => unusable.fmt(f),
            Self::Database(error) => f.write_str(&crate::postgres::failure::chain(error)),
        }
    }
}

impl std::error::Error for Unplannable {}

impl From<tokio_postgres::Error> for Unplannable {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

/// Everything the steps need to know about one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The object as the mapping has it.
    pub object: Object,
    /// The type of the source's key column.
    pub key_type: SqlType,
    /// The key has an index of some rows, and none of all.
    pub key_is_partly_indexed: bool,
    /// The source table's primary key, name and type: the order of a resync.
    pub primary_key: Vec<(String, SqlType)>,
    /// The external id's type.
    pub external_id_type: SqlType,
    /// An index finds every row of the target by its external id.
    pub external_id_is_indexed: bool,
    /// What is written, except the external id.
    pub columns: Vec<RouteColumn>,
    /// Whose `sfid` must be there first.
    pub parents: Vec<RouteParent>,
    /// Other tables whose changes touch this object's rows.
    pub touches: Vec<RouteTouch>,
    /// Both databases take every character, and keep it in the same bytes.
    pub both_unicode: bool,
}

/// How the rows that a change of another table touches are found.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteTouch {
    /// The other table, plain.
    pub table: String,
    /// A query for the touched keys. Its parameter, counted from `$2`, is the recorded keys of the changes.
    pub keys: String,
}

/// One written column.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteColumn {
    /// The field as the mapping has it.
    pub field: Field,
    /// The target column's type for people, without its length.
    pub type_name: String,
    /// The same for statements.
    pub sql_type: SqlType,
    /// How the value is brought into the form that Salesforce keeps.
    pub form: Form,
}

/// The form in which Salesforce keeps a value, and in which both sides are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text: trimmed; an empty text becomes null; cut to this many characters, if any.
    Text(Option<i32>),
    /// Whole seconds.
    Time,
    /// As it is.
    Plain,
}

/// A parent of an object, found in the target.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteParent {
    /// The parent's object.
    pub object: String,
    /// The child's value for it.
    pub key: Value,
    /// The parent's mapped table.
    pub table: TableName,
    /// The parent's external id.
    pub external_id: String,
    /// The type of the parent's external id.
    pub sql_type: SqlType,
    /// An index finds every row of the parent's table by it.
    pub is_indexed: bool,
}

impl Route {
    /// How text ends that was cut: in characters that both databases take.
    pub fn ellipsis(&self) -> &'static str {
        if self.both_unicode { "\u{2026}" } else { "..." }
    }

    /// What a key of this object's child waits for, in the words of `parked.awaits`.
    pub fn awaits_sfid(object: &str) -> String {
        format!("{object} sfid")
    }

    /// Whether the target's columns still have the types and lengths that were planned for.
    pub async fn is_current(&self, target: &Session) -> Result<bool, tokio_postgres::Error> {
        let Some(table) = Table::read(target, &self.object.target).await? else { return Ok(false) };
        Ok(self.columns.iter().all(|planned| {
            table.column(&planned.field.column).is_some_and(|column| {
                column.sql_type == planned.sql_type
                    && form(&self.object, &planned.field, column) == planned.form
            })
        }))
    }

    /// Whether rows of the target, and of the parents' tables, are found through an index or without one as was planned.
    pub async fn is_indexed_as_planned(
        &self,
        target: &Session,
    ) -> Result<bool, tokio_postgres::Error> {
        let own = (&self.object.target, &self.object.external_id, self.external_id_is_indexed);
        let parents =
            self.parents.iter().map(|RouteParent { table, external_id, is_indexed, .. }| {
                (table, external_id, *is_indexed)
            });
        for (table, external_id, is_indexed) in std::iter::once(own).chain(parents) {
            let table = Table::read(target, table).await?;
            let column = table.as_ref().and_then(|table| table.column(external_id));
            if column.is_some_and(|column| column.indexed != is_indexed) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a key of an update-only object waits for, in the words of `parked.awaits`.
    pub fn awaits_row(&self) -> String {
        format!("{} row", self.object.name)
    }
}

/// What the source has, with the captures that follow from it.
pub struct SourceSide {
    tables: BTreeMap<TableName, Table>,
    /// The type of each field's value, by object and target column.
    value_types: BTreeMap<(String, String), Oid>,
    /// The triggers the mapping needs.
    pub captures: Vec<Capture>,
    /// Partitions and children of captured tables whose changes no trigger of ours sees, each in a sentence.
    pub unseen: Vec<String>,
    /// Captured tables that a crash of their server empties, each in a sentence.
    pub unlogged: Vec<String>,
    /// What would be better; it works without.
    pub advice: Vec<Finding>,
}

/// Holds the mapping against the source's catalogue, and lets the source itself look at its expressions. Enough for
/// `migrate`.
pub async fn source_side(
    source: &Session,
    evaluator: &Evaluator,
    mapping: &Mapping,
) -> Result<SourceSide, Unplannable> {
    let (mut findings, mut advice) = (Vec::new(), Vec::new());
    let tables = source_tables(source, mapping, &mut findings).await?;
    let mut value_types = BTreeMap::new();
    for object in &mapping.objects {
        let Some(table) = tables.get(&object.source) else { continue };
        check_columns(object, table, &mut findings);
        advise_on_key(object, table, &mut advice);
        for field in &object.fields {
            let oid = match &field.value {
                // A missing column is reported already.
                Value::Column(column) => table.column(column).map(|column| column.type_oid),
                Value::Sql(_) => {
                    let sql =
                        format!("select {} from {} as source", field.value.sql(), object.source);
                    let place = (field.column.as_str(), field.line);
                    let about = About { object, table, place };
                    expression(evaluator, about, &sql, &mut findings).await?
                }
            };
            if let Some(oid) = oid {
                value_types.insert((object.name.clone(), field.column.clone()), oid);
            }
        }
        for (place, sql) in other_expressions(object) {
            let sql = format!("select 1 from {} as source {sql}", object.source);
            expression(evaluator, About { object, table, place }, &sql, &mut findings).await?;
        }
        for touch in &object.touched_by {
            let Some(touching) = tables.get(&touch.table) else { continue };
            let tables = (table, touching);
            let ask = (source, evaluator);
            check_touch(ask, object, touch, tables, &mut findings, &mut advice).await?;
        }
    }
    let mut parts = BTreeMap::new();
    for name in tables.keys() {
        parts.insert(name.clone(), catalogue::parts(source, name).await?);
    }
    let said = check_parts(mapping, &tables, &parts);
    findings.extend(said.findings);
    if !findings.is_empty() {
        return Err(Unplannable::Mapping(Unusable::new(&mapping.file, findings)));
    }
    let captures = captures(mapping, &tables, &parts);
    advice.extend(said.advice);
    advice.extend(unwatched(source, evaluator, mapping).await?);
    let (unseen, unlogged) = (said.unseen, said.unlogged);
    Ok(SourceSide { tables, value_types, captures, unseen, unlogged, advice })
}

impl SourceSide {
    /// The captured tables, each with the columns that matter.
    pub fn captured(&self) -> Captured {
        let mut captured = Captured::new();
        for capture in &self.captures {
            captured.entry(capture.table.clone()).or_default().extend(capture.watched.clone());
        }
        captured
    }
}

/// The captured tables, each with the columns that matter.
pub type Captured = BTreeMap<TableName, Vec<String>>;

/// What the target has.
#[derive(Debug, Default)]
pub struct TargetSide {
    tables: BTreeMap<String, Table>,
    /// What does not fit.
    pub findings: Vec<Finding>,
    /// What would be better; it works without.
    pub advice: Vec<Finding>,
}

impl TargetSide {
    /// None of the mapped tables exists: this is not Heroku Connect's database.
    pub fn is_elsewhere(&self) -> bool {
        self.tables.is_empty()
    }
}

/// Holds the mapping against the target's catalogue alone: names, and what every mapped table must have.
pub async fn target_side(target: &Session, mapping: &Mapping) -> Result<TargetSide, Unplannable> {
    let mut side = TargetSide::default();
    for object in &mapping.objects {
        match Table::read(target, &object.target).await? {
            Some(table) => {
                check_target(object, &table, &mut side.findings, &mut side.advice);
                side.tables.insert(object.name.clone(), table);
            }
            None => {
                let nearest = nearest_table(target, &object.target).await?;
                let problem = format!(
                    "the target database has no table {}; map it in Heroku Connect, or check \
                     SALESFORCE_CONNECT_URL and the role's rights",
                    object.target.plain()
                );
                let finding = Finding::of(object, "target", problem);
                side.findings.push(finding.or(nearest.as_deref()));
            }
        }
    }
    Ok(side)
}

async fn nearest_table(
    session: &Session,
    wanted: &TableName,
) -> Result<Option<String>, tokio_postgres::Error> {
    Ok(catalogue::nearest_table(session, wanted).await?.map(|table| table.plain()))
}

/// Holds the mapping against both catalogues. The findings are advice: the plan works without it.
pub async fn routes(
    source_side: &SourceSide,
    source: &Session,
    target: &Session,
    mapping: &Mapping,
) -> Result<(Vec<Route>, Vec<Finding>), Unplannable> {
    let TargetSide { tables: targets, mut findings, advice } = target_side(target, mapping).await?;
    let advice = source_side.advice.iter().cloned().chain(advice).collect();
    let mut routes = Vec::new();
    for object in &mapping.objects {
        let Some(table) = targets.get(&object.name) else { continue };
        let clashes = clashes(object, table, source_side, source).await?;
        findings.extend(clashes);
        routes.extend(route(object, table, mapping, &targets, source_side));
    }
    match findings.is_empty() {
        true => Ok((routes, advice)),
        false => Err(Unplannable::Mapping(Unusable::new(&mapping.file, findings))),
    }
}

async fn source_tables(
    source: &Session,
    mapping: &Mapping,
    findings: &mut Vec<Finding>,
) -> Result<BTreeMap<TableName, Table>, Unplannable> {
    let mut tables = BTreeMap::new();
    for object in &mapping.objects {
        let own = ("source", object.line_of("source"), &object.source);
        let touches = object.touched_by.iter();
        let touching = touches.map(|touch| ("touched_by", touch.lines.table, &touch.table));
        for (setting, line, name) in std::iter::once(own).chain(touching) {
            match Table::read(source, name).await? {
                Some(table) => _ = tables.insert(name.clone(), table),
                None => {
                    let problem = format!("the source database has no table {}", name.plain());
                    let nearest = nearest_table(source, name).await?;
                    let finding = Finding::of(object, setting, problem).at(line);
                    findings.push(finding.or(nearest.as_deref()));
                }
            }
        }
    }
    Ok(tables)
}

/// Reports the columns that a mapping names and the source table lacks.
fn check_columns(object: &Object, table: &Table, findings: &mut Vec<Finding>) {
    let setting = |name: &'static str, column| (name, object.line_of(name), column);
    let since = object.since.iter().map(|column| setting("since", column));
    let fields = object.fields.iter().filter_map(|field| match &field.value {
        Value::Column(column) => Some((field.column.as_str(), field.line, column)),
        Value::Sql(_) => None,
    });
    let parents = object.parents.iter().filter_map(|parent| match &parent.key {
        Value::Column(column) => Some(("parents", parent.lines.key, column)),
        Value::Sql(_) => None,
    });
    let key = std::iter::once(setting("key", &object.key));
    for (setting, line, column) in key.chain(since).chain(fields).chain(parents) {
        if table.column(column).is_none() {
            findings.push(lacks(object, setting, table, column).at(line));
        }
    }
    if let Some(column) = table.column(&object.key).filter(|column| column.is_virtual) {
        let problem = format!(
            "{} is computed when it is read, so no trigger can record it; take a column that is stored",
            column.name
        );
        findings.push(Finding::of(object, "key", problem));
    }
    let composite = table.column(&object.key).filter(|column| column.category == 'C');
    if let Some(column) = composite {
        let problem = format!(
            "{} is a row of type {}, which is no key; take one of its columns, or another column",
            object.key, column.type_name
        );
        findings.push(Finding::of(object, "key", problem));
    }
    // 'A' and 'a' would be one key with the texts of two rows, and no winner for both.
    let folding = table.column(&object.key).filter(|column| column.sql_type.folds());
    if let Some(column) = folding.filter(|_| object.winner.is_some()) {
        let problem = format!(
            "{} is {}, which takes texts for equal that differ, so one of several rows cannot speak for a key; take a \
             column with one way of writing it, for example: add column {}_folded text generated always as \
             (lower({}::text)) stored",
            column.name,
            type_or_collation(column),
            column.name,
            ident(&column.name)
        );
        findings.push(Finding::of(object, "key", problem).at(object.line_of("key")));
    }
    let since = object.since.as_ref().and_then(|column| table.column(column));
    if let Some(column) = since.filter(|column| !column.is_moment) {
        let problem = format!(
            "{} is {}; it must tell when a row was changed, as timestamp, timestamp with time zone or date",
            column.name, column.type_name
        );
        findings.push(Finding::of(object, "since", problem).at(object.line_of("since")));
    }
    // With a winner several rows may have one key; without, the last one read would win by chance.
    if object.winner.is_none() && table.column(&object.key).is_some_and(|column| !column.unique) {
        findings.push(Finding::of(
            object,
            "key",
            format!(
                "{} has no unique index on {}, so several rows may have one key; add the index, or say in \
                 [object.{}.winner] which row speaks",
                table.name.plain(),
                object.key,
                object.name
            ),
        ));
    }
    if table.primary_key().is_empty() {
        findings.push(Finding::of(
            object,
            "source",
            format!(
                "{} has no primary key, which a resync needs for its order",
                table.name.plain()
            ),
        ));
    }
}

/// The type or the collation by which texts that differ are equal.
fn type_or_collation(column: &Column) -> String {
    match column.type_oid < FIRST_USER_OID {
        true => format!("{} with a nondeterministic collation", column.type_name),
        false => column.type_name.clone(),
    }
}

/// What would be better about a key: Salesforce knows a record by its text.
fn advise_on_key(object: &Object, table: &Table, advice: &mut Vec<Finding>) {
    let Some(column) = table.column(&object.key) else { return };
    let name = &column.name;
    let problem = if column.sql_type.folds() {
        format!(
            "{name} is {}: a key whose letters change is another record in the target, and the former one is treated as \
             deleted; children must write it as its own row does",
            type_or_collation(column)
        )
    } else if column.is_written_in_several_ways {
        format!(
            "{name} is {}, in which equal values may be written in several ways, such as 1.0 and 1.00: a key that is rewritten \
             is another record in the target, and the former one is treated as deleted; a whole number, a uuid or a text would be \
             safer",
            column.type_name
        )
    } else {
        return;
    };
    advice.push(Finding::of(object, "key", problem).at(object.line_of("key")));
}

fn lacks(object: &Object, setting: &str, table: &Table, column: &str) -> Finding {
    Finding::of(object, setting, format!("{} has no column {column}", table.name.plain()))
        .or(table.nearest(column))
}

fn check_target(
    object: &Object,
    table: &Table,
    findings: &mut Vec<Finding>,
    advice: &mut Vec<Finding>,
) {
    let fields =
        object.fields.iter().map(|field| (field.column.as_str(), field.line, &field.column));
    let external_id = ("external_id", object.line_of("external_id"), &object.external_id);
    for (setting, line, column) in std::iter::once(external_id).chain(fields) {
        match table.column(column) {
            None => {
                // Columns that are written already are not suggested.
                let mapped = |name: &&str| object.fields.iter().any(|field| field.column == **name);
                let free = table.columns.iter().map(|column| column.name.as_str());
                let nearest = name::nearest(column, free.filter(|name| !mapped(name)));
                findings.push(
                    Finding { nearest: None, ..lacks(object, setting, table, column) }
                        .or(nearest)
                        .at(line),
                );
            }
            Some(found) if found.type_oid >= FIRST_USER_OID => {
                let problem =
                    format!("{column} has type {}, which is not a built-in one", found.type_name);
                findings.push(Finding::of(object, setting, problem).at(line));
            }
            Some(found) if found.category == 'A' => {
                let problem = format!(
                    "{column} has type {}: Salesforce has no lists, so Heroku Connect makes no such column",
                    found.type_name
                );
                findings.push(Finding::of(object, setting, problem).at(line));
            }
            Some(_) => {}
        }
    }
    if table.column("sfid").is_none() {
        let problem = format!(
            "{} has no column sfid: it is not a table that Heroku Connect maps",
            table.name.plain()
        );
        findings.push(Finding::of(object, "target", problem));
    }
    if let Some(external_id) = table.column(&object.external_id)
        && !external_id.unique
    {
        let slow = if external_id.indexed { "" } else { " and every batch reads the whole table" };
        advice.push(Finding::of(
            object,
            "external_id",
            format!(
                "{} has no unique index on {}: two rows may get the same key{slow}. Flag the field as unique \
                 external id in Salesforce and make it the mapping's identifier, or: create unique index \
                 concurrently on {} ({})",
                table.name.plain(),
                object.external_id,
                object.target,
                ident(&object.external_id)
            ),
        ));
    }
}

/// The fields whose values the target's column would not take by assignment.
async fn clashes(
    object: &Object,
    table: &Table,
    source_side: &SourceSide,
    source: &Session,
) -> Result<Vec<Finding>, Unplannable> {
    let mut pairs = Vec::new();
    for field in &object.fields {
        let value = source_side.value_types.get(&(object.name.clone(), field.column.clone()));
        if let (Some(&from), Some(to)) = (value, table.column(&field.column))
            // Everything can be written as text.
            && to.category != 'S'
        {
            pairs.push((field, from, to));
        }
    }
    let types: Vec<(Oid, Oid)> = pairs.iter().map(|(_, from, to)| (*from, to.type_oid)).collect();
    let mut findings = Vec::new();
    for place in not_assignable(source, &types).await? {
        let (field, from, to) = &pairs[place];
        let from = source
            .row("select pg_catalog.format_type($1, null)", &[from])
            .await?
            .get::<_, String>(0);
        let problem = format!(
            "the value is {from}, the column is {}; convert it with {{ sql = … }}",
            to.type_name
        );
        findings.push(Finding::field(object, field, problem));
    }
    Ok(findings)
}

/// The places of the pairs of which the second type would not take a value of the first by assignment.
pub async fn not_assignable(
    session: &Session,
    types: &[(Oid, Oid)],
) -> Result<Vec<usize>, tokio_postgres::Error> {
    let (from, to): (Vec<Oid>, Vec<Oid>) = types.iter().copied().unzip();
    let refused = session.rows(ASSIGNABLE, &[&from, &to]).await?;
    Ok(refused.iter().map(|row| row.get::<_, i32>("place") as usize - 1).collect())
}

fn form(object: &Object, field: &Field, column: &Column) -> Form {
    // A reference is a key, and a key is never cut: a shortened one would point elsewhere.
    let is_key = object.parents.iter().any(|parent| parent.key == field.value);
    match (column.category, column.type_name.as_str()) {
        ('S', _) => Form::Text(column.max_chars.filter(|_| !is_key)),
        ('D', name) if name.starts_with("timestamp") => Form::Time,
        _ => Form::Plain,
    }
}

/// The route of an object all of whose names were found; `None` where findings were reported.
fn route(
    object: &Object,
    table: &Table,
    mapping: &Mapping,
    targets: &BTreeMap<String, Table>,
    source_side: &SourceSide,
) -> Option<Route> {
    let source = source_side.tables.get(&object.source)?;
    let columns = object.fields.iter().map(|field| {
        let column = table.column(&field.column)?;
        let (type_name, sql_type) = (column.type_name.clone(), column.sql_type.clone());
        let form = form(object, field, column);
        Some(RouteColumn { field: field.clone(), type_name, sql_type, form })
    });
    let parents = object.parents.iter().map(|parent| {
        let table = targets.get(&parent.object)?;
        let external_id = &mapping.object(&parent.object)?.external_id;
        Some(RouteParent {
            object: parent.object.clone(),
            key: parent.key.clone(),
            table: table.name.clone(),
            external_id: external_id.clone(),
            sql_type: table.column(external_id)?.sql_type.clone(),
            is_indexed: table.column(external_id)?.indexed,
        })
    });
    let touches = object.touched_by.iter().enumerate().map(|(index, touch)| {
        let changed = source_side.tables.get(&touch.table)?;
        let parameter = format!("${}::pg_catalog.text[]::pg_catalog.jsonb[]", index + 2);
        Some(RouteTouch {
            table: touch.table.plain(),
            keys: touched_keys(touch, changed, &parameter),
        })
    });
    let key = source.column(&object.key)?;
    let external_id = table.column(&object.external_id)?;
    let external_id_type = external_id.sql_type.clone();
    let key_type = key.sql_type.clone();
    // 1.0 and 1.00 are two texts, and so two records, but one number.
    let as_text = key.is_written_in_several_ways && external_id_type.is_text();
    let key_type = match as_text && object.winner.is_none() {
        true => key_type.as_written(),
        false => key_type,
    };
    Some(Route {
        object: object.clone(),
        key_type,
        key_is_partly_indexed: key.partly_indexed && !key.indexed,
        primary_key: source
            .primary_key()
            .iter()
            .map(|column| (column.name.clone(), column.sql_type.clone()))
            .collect(),
        external_id_type,
        external_id_is_indexed: external_id.indexed,
        columns: columns.collect::<Option<_>>()?,
        parents: parents.collect::<Option<_>>()?,
        touches: touches.collect::<Option<_>>()?,
        both_unicode: source.is_unicode && table.is_unicode,
    })
}
