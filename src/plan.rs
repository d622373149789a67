//! The mapping held against both catalogues: every object with its types, lengths, keys and parents.
//!
//! Promise: what a plan names exists on both sides and fits; everything that does not is reported at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Oid;

use crate::catalogue::{self, Column, Table};
use crate::db::Session;
use crate::mapping::{Field, Finding, Mapping, Object, Parent, Touch, Unusable, Value};
use crate::name::{self, TableName, ident, literal};

const ASSIGNABLE: &str = include_str!("../sql/assignable.sql");
const COMPARABLE: &str = include_str!("../sql/comparable.sql");
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
            Self::Database(error) => f.write_str(&crate::failure::chain(error)),
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
    /// The type of the source's key column, as SQL.
    pub key_type: String,
    /// The source table's primary key, name and type: the order of a replay.
    pub primary_key: Vec<(String, String)>,
    /// The external id's type, as SQL.
    pub external_id_type: String,
    /// What is written, except the external id.
    pub columns: Vec<RouteColumn>,
    /// Whose `sfid` must be there first.
    pub parents: Vec<RouteParent>,
    /// Other tables whose changes touch this object's rows.
    pub touches: Vec<RouteTouch>,
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
    /// The target column's type, as SQL, without its length.
    pub type_name: String,
    /// How the value is brought into the form that Salesforce keeps.
    pub form: Form,
}

/// The form in which Salesforce keeps a value, and in which both sides are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Trimmed, empty is null, cut to this many characters (none: never cut).
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
    /// The type of the parent's external id, as SQL.
    pub type_name: String,
}

impl Route {
    /// What a key of this object's child waits for, in the words of `parked.awaits`.
    pub fn awaits_sfid(object: &str) -> String {
        format!("{object} sfid")
    }

    /// Whether the target's columns still have the types and lengths that were planned for.
    pub async fn is_current(&self, target: &Session) -> Result<bool, tokio_postgres::Error> {
        let Some(table) = Table::read(target, &self.object.target).await? else { return Ok(false) };
        Ok(self.columns.iter().all(|planned| {
            table.column(&planned.field.column).is_some_and(|column| {
                column.type_name == planned.type_name
                    && form(&self.object, &planned.field, column) == planned.form
            })
        }))
    }

    /// What a key of an update-only object waits for, in the words of `parked.awaits`.
    pub fn awaits_row(&self) -> String {
        format!("{} row", self.object.name)
    }
}

/// One set of triggers: which changes of a table are recorded, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The table that carries the triggers.
    pub table: TableName,
    /// The one object these changes are for; none: all objects that are read from the table.
    pub concerns: Option<String>,
    /// The columns that are recorded: by these the objects find their rows.
    pub keys: Vec<String>,
    /// An update that leaves all of these alone is not recorded. Includes the keys.
    pub watched: Vec<Watched>,
    /// Objects for which alone some of the watched columns matter, with those columns: an update of nothing else is
    /// recorded for that object only. None where a single object is meant anyhow.
    pub narrow: Vec<(String, Vec<Watched>)>,
}

/// A column whose changes are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Unquoted.
    pub name: String,
    /// Its values are equal only if they are the same to the last character.
    pub exact: bool,
}

/// What the source has, with the captures that follow from it.
pub struct SourceSide {
    tables: BTreeMap<TableName, Table>,
    /// The type of each field's value, by object and target column.
    value_types: BTreeMap<(String, String), Oid>,
    /// The triggers the mapping needs.
    pub captures: Vec<Capture>,
    /// What would be better; it works without.
    pub advice: Vec<Finding>,
}

/// Holds the mapping against the source's catalogue. Enough for `migrate`.
pub async fn source_side(source: &Session, mapping: &Mapping) -> Result<SourceSide, Unplannable> {
    let mut findings = Vec::new();
    let tables = source_tables(source, mapping, &mut findings).await?;
    let mut value_types = BTreeMap::new();
    for object in &mapping.objects {
        let Some(table) = tables.get(&object.source) else { continue };
        check_columns(object, table, &mut findings);
        // What is a column by itself was looked for already; Postgres would repeat it in its own words.
        let there = |value: &Value| !matches!(value, Value::Column(column) if table.column(column).is_none());
        for field in object.fields.iter().filter(|field| there(&field.value)) {
            let sql = format!("select {} from {} as source", field.value.sql(), object.source);
            let place = (field.column.as_str(), field.line);
            let about = About { object, table, place };
            if let Some(oid) = expression(source, about, &sql, &mut findings).await? {
                value_types.insert((object.name.clone(), field.column.clone()), oid);
            }
        }
        for (place, sql) in other_expressions(object) {
            let sql = format!("select 1 from {} as source {sql}", object.source);
            expression(source, About { object, table, place }, &sql, &mut findings).await?;
        }
        for touch in &object.touched_by {
            let Some(touching) = tables.get(&touch.table) else { continue };
            check_touch(source, object, touch, (table, touching), &mut findings).await?;
        }
    }
    if !findings.is_empty() {
        return Err(Unplannable::Mapping(Unusable::new(&mapping.file, findings)));
    }
    let captures = captures(mapping, &tables);
    let advice = unwatched(source, mapping).await?;
    Ok(SourceSide { tables, value_types, captures, advice })
}

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
    /// Not one of the mapped tables is there: this is no database of Heroku Connect's.
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
                "{} has no primary key, which a replay needs for its order",
                table.name.plain()
            ),
        ));
    }
}

/// Reports what is wrong with a touching table: its columns, and the query for the keys that it touches. The tables are
/// the object's own and the touching one.
async fn check_touch(
    source: &Session,
    object: &Object,
    touch: &Touch,
    (own, table): (&Table, &Table),
    findings: &mut Vec<Finding>,
) -> Result<(), Unplannable> {
    let found = findings.len();
    check_touch_columns(object, touch, table, findings);
    if findings.len() > found {
        return Ok(());
    }
    let keys = touched_keys(touch, table, "null::jsonb[]");
    let about = About { object, table, place: ("touched_by", touch.lines.keys) };
    let Some(type_oid) = expression(source, about, &keys, findings).await? else { return Ok(()) };
    let problem = match own.column(&object.key) {
        _ if returns_more(source, touch, table).await? => {
            Some("keys must return one column, the key of this object's rows".to_string())
        }
        Some(key) => {
            let (ok, is): (bool, String) = {
                let row = source.row(COMPARABLE, &[&type_oid, &key.type_oid]).await?;
                (row.get("comparable"), row.get("type_name"))
            };
            let key = format!("{} of {} is {}", object.key, own.name.plain(), key.type_name);
            (!ok).then(|| format!("keys returns {is}, but the key of this object, {key}"))
        }
        None => None,
    };
    let place = Finding::of(object, "touched_by", problem.clone().unwrap_or_default());
    findings.extend(problem.map(|_| place.at(touch.lines.keys)));
    Ok(())
}

/// Whether the query for the touched keys has a second column.
async fn returns_more(
    source: &Session,
    touch: &Touch,
    table: &Table,
) -> Result<bool, tokio_postgres::Error> {
    let keys = touched_keys(touch, table, "null::jsonb[]");
    // A list of names that is too long is refused.
    let two = keys.replacen("as t (key)", "as t (key, second)", 1);
    match source
        .row_once(&format!(
            "select 1 from ({two}\nlimit 0) as two right join (select 1) as one on true"
        ))
        .await
    {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::INVALID_COLUMN_REFERENCE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Expressions read tables of which this object's rows follow no change.
async fn unwatched(source: &Session, mapping: &Mapping) -> Result<Vec<Finding>, Unplannable> {
    let mut advice = Vec::new();
    for object in &mapping.objects {
        let compared = object.fields.iter().filter(|field| field.compared);
        let fields = compared.map(|field| (field.column.as_str(), field.line, field.value.sql()));
        let filter =
            object.filter.iter().map(|sql| ("filter", object.line_of("filter"), sql.clone()));
        for (setting, line, sql) in fields
            .chain(filter)
            .filter(|(.., sql)| sql.contains("select") || sql.contains("SELECT"))
        {
            let sql = format!("select {sql} from {} as source", object.source);
            let known = |table: &TableName| {
                *table == object.source
                    || object.touched_by.iter().any(|touch| touch.table == *table)
            };
            let unwatched =
                read_tables(source, &sql).await?.into_iter().filter(|table| !known(table));
            advice.extend(unwatched.map(|table| {
                let problem = format!(
                    "reads {}, whose changes reach no row of this object; add it to [[object.{}.touched_by]], or say \
                     compare = false",
                    table.plain(),
                    object.name
                );
                Finding::of(object, setting, problem).at(line)
            }));
        }
    }
    Ok(advice)
}

/// The tables that a query reads, from the plan that Postgres makes of it. Nothing where it makes none.
async fn read_tables(source: &Session, sql: &str) -> Result<BTreeSet<TableName>, Unplannable> {
    let planned =
        source.row_once(&format!("explain (verbose, format json, costs off) {sql}")).await;
    let plan: serde_json::Value = match planned {
        Ok(row) => row.get(0),
        Err(error) if error.as_db_error().is_some() => return Ok(BTreeSet::new()),
        Err(error) => return Err(error.into()),
    };
    let (mut tables, mut nodes) = (BTreeSet::new(), vec![&plan]);
    while let Some(node) = nodes.pop() {
        match node {
            serde_json::Value::Array(parts) => nodes.extend(parts),
            serde_json::Value::Object(parts) => {
                if let (Some(schema), Some(table)) =
                    (parts.get("Schema"), parts.get("Relation Name"))
                    && let (Some(schema), Some(table)) = (schema.as_str(), table.as_str())
                {
                    tables.insert(TableName { schema: schema.into(), table: table.into() });
                }
                nodes.extend(parts.values());
            }
            _ => {}
        }
    }
    Ok(tables)
}

/// Reports the columns that a touching table lacks.
fn check_touch_columns(object: &Object, touch: &Touch, table: &Table, findings: &mut Vec<Finding>) {
    for column in touch.columns.iter().filter(|column| table.column(column).is_none()) {
        findings.push(lacks(object, "touched_by", table, column).at(touch.lines.columns));
    }
    if !table.columns.iter().any(|column| changed_mentions(&touch.keys, &column.name)) {
        let problem = format!(
            "keys of {} must use a column of the changed row, as changed.COLUMN",
            touch.table.plain()
        );
        findings.push(Finding::of(object, "touched_by", problem).at(touch.lines.keys));
    }
}

fn lacks(object: &Object, setting: &str, table: &Table, column: &str) -> Finding {
    Finding::of(object, setting, format!("{} has no column {column}", table.name.plain()))
        .or(table.nearest(column))
}

/// What findings call something, and its line.
type Place<'a> = (&'a str, usize);

/// The expressions of an object that are no fields, each as the end of a query on the source table.
fn other_expressions(object: &Object) -> Vec<(Place<'static>, String)> {
    let place = |setting: &'static str| (setting, object.line_of(setting));
    let mut expressions = Vec::new();
    if let Some(filter) = &object.filter {
        expressions.push((place("filter"), format!("where ({filter})")));
    }
    if let Some(winner) = &object.winner {
        expressions.push((place("winner.order"), format!("order by {}", winner.order)));
        if let Some(prefer) = &winner.prefer {
            expressions.push((place("winner.prefer"), format!("where ({prefer})")));
        }
    }
    let computed = |parent: &&Parent| matches!(parent.key, Value::Sql(_));
    for parent in object.parents.iter().filter(computed) {
        let place = ("parents", parent.lines.key);
        expressions.push((place, format!("where ({}) is null", parent.key.sql())));
    }
    expressions
}

/// What an expression belongs to.
#[derive(Clone, Copy)]
struct About<'a> {
    object: &'a Object,
    /// The table whose columns it may name.
    table: &'a Table,
    place: Place<'a>,
}

/// Lets the source parse a query of one column and returns its type, or reports what Postgres says. No row is read.
///
/// Asked for in SQL: the driver would look up a type that is not built in by statements with a name, which no
/// pooler keeps for us.
async fn expression(
    source: &Session,
    about: About<'_>,
    sql: &str,
    findings: &mut Vec<Finding>,
) -> Result<Option<Oid>, Unplannable> {
    let sql = format!("select pg_catalog.pg_typeof(({sql}\nlimit 0))::oid");
    match source.row_once(&sql).await {
        Ok(row) => Ok(Some(row.get(0))),
        Err(error) => match error.as_db_error() {
            // The rights are not the mapping's fault: what lacks one waits for it, row by row.
            Some(db) if *db.code() == SqlState::INSUFFICIENT_PRIVILEGE => Ok(None),
            // Nor is it when somebody holds the table locked, or the server has no time for it.
            Some(db) if passes(db.code()) => Err(error.into()),
            Some(db) => {
                let (setting, line) = about.place;
                let unknown = (*db.code() == SqlState::UNDEFINED_COLUMN)
                    .then(|| named_column(db.message()))
                    .flatten();
                findings.push(
                    Finding::of(about.object, setting, db.message())
                        .at(line)
                        .or(unknown.and_then(|column| about.table.nearest(column))),
                );
                Ok(None)
            }
            None => Err(error.into()),
        },
    }
}

/// The column of the source row that Postgres misses, from its message: `column "kee" does not exist`. None where it
/// speaks another language, or of another table.
fn named_column(message: &str) -> Option<&str> {
    let named = message.strip_prefix("column ")?.strip_suffix(" does not exist")?;
    let named = named.strip_prefix("source.").unwrap_or(named);
    let plain = named.strip_prefix('"').and_then(|named| named.strip_suffix('"')).unwrap_or(named);
    (!plain.contains(['"', '.'])).then_some(plain)
}

/// The same question may be answered in a moment.
fn passes(state: &SqlState) -> bool {
    matches!(&state.code()[..2], "40" | "53" | "55" | "57" | "58")
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
                // A column that has its value already was not meant.
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
        let (form, type_name) = (form(object, field, column), column.type_name.clone());
        Some(RouteColumn { field: field.clone(), type_name, form })
    });
    let parents = object.parents.iter().map(|parent| {
        let table = targets.get(&parent.object)?;
        let external_id = &mapping.object(&parent.object)?.external_id;
        Some(RouteParent {
            object: parent.object.clone(),
            key: parent.key.clone(),
            table: table.name.clone(),
            external_id: external_id.clone(),
            type_name: table.column(external_id)?.type_name.clone(),
        })
    });
    let touches = object.touched_by.iter().enumerate().map(|(index, touch)| {
        let changed = source_side.tables.get(&touch.table)?;
        let parameter = format!("${}::text[]::jsonb[]", index + 2);
        Some(RouteTouch {
            table: touch.table.plain(),
            keys: touched_keys(touch, changed, &parameter),
        })
    });
    Some(Route {
        object: object.clone(),
        key_type: source.column(&object.key)?.type_name.clone(),
        primary_key: source
            .primary_key()
            .iter()
            .map(|column| (column.name.clone(), column.type_name.clone()))
            .collect(),
        external_id_type: table.column(&object.external_id)?.type_name.clone(),
        columns: columns.collect::<Option<_>>()?,
        parents: parents.collect::<Option<_>>()?,
        touches: touches.collect::<Option<_>>()?,
    })
}

/// The triggers that a mapping needs: one capture per source table, and one per object and touching table.
fn captures(mapping: &Mapping, tables: &BTreeMap<TableName, Table>) -> Vec<Capture> {
    let mut captures: Vec<Capture> = Vec::new();
    for (name, table) in tables {
        let readers: Vec<&Object> =
            mapping.objects.iter().filter(|object| object.source == *name).collect();
        if !readers.is_empty() {
            let keys = in_table(table, |column| readers.iter().any(|object| object.key == column));
            let watched =
                watched_in(table, |column| readers.iter().any(|object| uses(object, column)));
            let narrow = narrow(&watched, &keys, &readers);
            captures.push(Capture { table: name.clone(), concerns: None, keys, watched, narrow });
        }
    }
    for object in &mapping.objects {
        for touch in &object.touched_by {
            let table = &tables[&touch.table];
            let keys = in_table(table, |column| changed_mentions(&touch.keys, column));
            let watched = watched_in(table, |column| {
                changed_mentions(&touch.keys, column)
                    || touch.columns.iter().any(|name| name == column)
            });
            let concerns = Some(object.name.clone());
            let (table, narrow) = (touch.table.clone(), Vec::new());
            captures.push(Capture { table, concerns, keys, watched, narrow });
        }
    }
    captures
}

/// The columns that matter to a single one of several objects, by object.
fn narrow(
    watched: &[Watched],
    keys: &[String],
    readers: &[&Object],
) -> Vec<(String, Vec<Watched>)> {
    if readers.len() < 2 {
        return Vec::new();
    }
    let only_for = |reader: &Object| {
        let only = watched.iter().filter(|column| {
            let users = readers.iter().filter(|object| uses(object, &column.name));
            !keys.contains(&column.name) && users.map(|object| &object.name).eq([&reader.name])
        });
        (reader.name.clone(), only.cloned().collect::<Vec<_>>())
    };
    let narrow = readers.iter().map(|reader| only_for(reader));
    narrow.filter(|(_, columns)| !columns.is_empty()).collect()
}

fn in_table(table: &Table, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    watched_in(table, wanted).into_iter().map(|column| column.name).collect()
}

fn watched_in(table: &Table, wanted: impl Fn(&str) -> bool) -> Vec<Watched> {
    let columns = table.columns.iter().filter(|column| wanted(&column.name));
    columns.map(|column| Watched { name: column.name.clone(), exact: column.exact }).collect()
}

/// Whether a change of the column can change what is published for the object.
///
/// Expressions are searched for the column's name rather than parsed: a name too many costs a look,
/// a name too few would lose changes.
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

fn changed_mentions(sql: &str, column: &str) -> bool {
    words(sql, "changed").any(|rest| {
        let rest = rest.trim_start().strip_prefix('.').unwrap_or_default().trim_start();
        rest.starts_with(&ident(column))
            || words(rest, column).any(|after| after.len() + column.len() == rest.len())
    })
}

fn has_word(sql: &str, word: &str) -> bool {
    words(sql, word).next().is_some()
}

/// What follows each place where the word stands on its own, whatever its capitals.
fn words<'a>(sql: &'a str, word: &str) -> impl Iterator<Item = &'a str> {
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

/// A query for the keys that changed rows of another table touch; `changes` are those rows' recorded keys.
fn touched_keys(touch: &Touch, table: &Table, changes: &str) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .filter(|column| changed_mentions(&touch.keys, &column.name))
        .map(|column| {
            let name = ident(&column.name);
            format!("(c.keys ->> {})::{} as {name}", literal(&column.name), column.type_name)
        })
        .collect();
    format!(
        "select t.key from (with changed as (select {} from pg_catalog.unnest({changes}) as c (keys)) {}) as t (key)",
        columns.join(", "),
        touch.keys
    )
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

    #[test]
    fn the_columns_of_the_changed_row_are_found() {
        let sql = "select r.id from roles r join changed on r.school_id = changed.id";
        assert!(changed_mentions(sql, "id"));
        assert!(!changed_mentions(sql, "school_id"));
        assert!(changed_mentions("select changed.\"Odd name\" from changed", "Odd name"));
        assert!(!changed_mentions("select changed.identity from changed", "id"));
    }
}
