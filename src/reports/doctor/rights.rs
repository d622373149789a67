//! Checks of the rights that the service needs; docs/roles-and-grants.md lists them.
//!
//! Rights on the columns that are read or written are enough; where all of a table are missing, the whole table is
//! granted.

use std::collections::BTreeSet;

use super::mapping_fit::Fit;
use super::report::Diagnosis;
use super::side::{Hindrance, Side};
use super::table;
use crate::mapping::{Field, Object, OnDelete};
use crate::plan::Route;
use crate::postgres::db::{Evaluator, Session};
use crate::postgres::name::{TableName, ident};
use crate::project::{self, BATCH_BYTES, Wanted};

const RIGHTS: &str = include_str!("../../../sql/doctor_rights.sql");
const SEQUENCES: &str = include_str!("../../../sql/doctor_sequences.sql");

/// The statements that grant them name the others.
const NAMED: usize = 3;
/// What the service does with the tables of schema `schoolbell`.
const OWN_TABLES: [(&str, &[&str]); 8] = [
    ("refinery_schema_history", &["select"]),
    ("installation", &["select"]),
    ("change", &["select", "delete"]),
    ("parked", &["select", "insert", "update", "delete"]),
    ("resync", &["select", "insert", "update"]),
    ("verified", &["select", "insert", "update"]),
    ("pairing", &["select", "insert", "update"]),
    ("shape", &["select", "insert", "update"]),
];
/// Only where a mapping says `on_delete = "delete"`.
const BRAKE_TABLE: (&str, &[&str]) = ("deletion", &["select", "insert", "update", "delete"]);

/// What `status` and `explain` read of Heroku Connect's own columns, and of its log: no row contents.
const TOLD_OF_ROWS: [&str; 3] = ["sfid", "_hc_lastop", "_hc_err"];
const TOLD_OF_LOG: [&str; 8] = [
    "id",
    "table_name",
    "record_id",
    "action",
    "state",
    "sf_message",
    "created_at",
    "processed_at",
];

/// A right that is needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    on: Thing,
    privilege: &'static str,
}

/// What a right is on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Schema(String),
    TableAccess(TableName),
    Column(TableName, String),
    Sequence(TableName),
}

impl Thing {
    fn kind(&self) -> &'static str {
        match self {
            Self::Schema(_) => "schema",
            Self::Sequence(_) => "sequence",
            Self::TableAccess(_) => "table",
            Self::Column(..) => "column",
        }
    }

    fn schema(&self) -> &str {
        match self {
            Self::Schema(schema) => schema,
            Self::Sequence(name) | Self::TableAccess(name) | Self::Column(name, _) => &name.schema,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Schema(_) => "",
            Self::Sequence(name) | Self::TableAccess(name) | Self::Column(name, _) => &name.table,
        }
    }

    fn column(&self) -> &str {
        match self {
            Self::Column(_, column) => column,
            _ => "",
        }
    }
}

/// The needed rights, each once, in the order in which they must be granted.
#[derive(Default)]
struct Needs(BTreeSet<Right>);

impl Needs {
    fn schema(&mut self, schema: &str) {
        self.add(Thing::Schema(schema.into()), "usage");
    }

    fn columns<'a>(
        &mut self,
        table: &TableName,
        privilege: &'static str,
        columns: impl IntoIterator<Item = &'a str>,
    ) {
        for column in columns {
            self.add(Thing::Column(table.clone(), column.into()), privilege);
        }
    }

    fn add(&mut self, on: Thing, privilege: &'static str) {
        self.0.insert(Right { on, privilege });
    }
}

/// Whether the role may read what the mapping names, and work with schema `schoolbell`.
pub(super) async fn source(source: &Side, fit: &Fit<'_>) -> Result<Diagnosis, Hindrance> {
    let source_side = fit.source_side()?;
    let mut needs = Needs::default();
    needs.schema("schoolbell");
    let deletes = |object: &Object| object.on_delete == OnDelete::Delete;
    let brake = fit.mapping.objects.iter().any(deletes).then_some(BRAKE_TABLE);
    for (table, privileges) in OWN_TABLES.into_iter().chain(brake) {
        let table = TableName { schema: "schoolbell".into(), table: table.into() };
        privileges
            .iter()
            .for_each(|privilege| needs.add(Thing::TableAccess(table.clone()), privilege));
    }
    for capture in &source_side.captures {
        needs.schema(&capture.table.schema);
        let watched = capture.watched.iter().map(String::as_str);
        needs.columns(&capture.table, "select", watched);
    }
    for object in &fit.mapping.objects {
        needs.columns(&object.source, "select", object.since.as_deref());
    }
    for route in fit.routes().unwrap_or_default() {
        let key = route.primary_key.iter().map(|(column, _)| column.as_str());
        needs.columns(&route.object.source, "select", key);
    }
    let diagnosis = check(source, needs).await?;
    if !diagnosis.remedies.is_empty() {
        return Ok(diagnosis);
    }
    // Only the database knows which tables and columns an expression reads.
    for route in fit.routes()? {
        if let Some(denied) = source.evaluate(async |source| denied(source, route).await).await? {
            let found = format!("object {}: {denied}", route.object.name);
            let role = ident(&source.facts()?.role);
            return Ok(Diagnosis::failed(found).say(format!(
                "grant select on what its expressions read to {role}, and execute on what they call"
            )));
        }
    }
    Ok(diagnosis)
}

/// Projects an empty list of keys, which needs the same rights as any other list.
async fn denied(source: &Evaluator, route: &Route) -> Result<Option<String>, Hindrance> {
    let nothing = Wanted::none(route.touches.len());
    match project::project(source, BATCH_BYTES, &project::statement(route), &nothing).await {
        Err(failure) if failure.sqlstate() == Some("42501") => {
            Ok(Some(Hindrance::from(failure).reason))
        }
        projected => projected.map(|_| None).map_err(Into::into),
    }
}

/// Whether the role may compare and write the mapped tables, and whether their triggers may log that.
pub(super) async fn target(target: &Side, fit: &Fit<'_>) -> Result<Diagnosis, Hindrance> {
    let objects = &fit.mapping.objects;
    let mut needs = Needs::default();
    for object in objects {
        needs.schema(&object.target.schema);
        written(object, &mut needs);
        for parent in object.parents.iter().filter_map(|parent| fit.mapping.object(&parent.object))
        {
            let read = [parent.external_id.as_str(), "sfid"];
            needs.columns(&parent.target, "select", read);
        }
    }
    let inserted = objects.iter().filter(|object| !object.update_only);
    let mut tables: Vec<TableName> = inserted.map(|object| object.target.clone()).collect();
    for log in trigger_logs(target, objects).await? {
        needs.add(Thing::TableAccess(log.clone()), "insert");
        tables.push(log);
    }
    let sequences = target.ask(async |target| sequences(target, &tables).await).await?;
    sequences.into_iter().for_each(|name| needs.add(Thing::Sequence(name), "usage"));
    let diagnosis = check(target, needs).await?;
    match diagnosis.remedies.is_empty() {
        false => Ok(diagnosis),
        true => Ok(told(target, objects).await?.unwrap_or(diagnosis)),
    }
}

/// Rights that the service does not need, but `status` and `explain` do, to show what Salesforce
/// made of the rows.
async fn told(target: &Side, objects: &[Object]) -> Result<Option<Diagnosis>, Hindrance> {
    let mut needs = Needs::default();
    for object in objects {
        needs.columns(&object.target, "select", TOLD_OF_ROWS);
        let schema = object.target.schema.clone();
        needs.columns(&TableName { schema, table: "_trigger_log".into() }, "select", TOLD_OF_LOG);
    }
    let needed: Vec<Right> = needs.0.into_iter().collect();
    let held = target.ask(async |session| held(session, &needed).await).await?;
    let missing = needed.iter().zip(held).filter(|(_, held)| *held == Some(false));
    let missing: Vec<&Right> = missing.map(|(right, _)| right).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let role = &target.facts()?.role;
    let mut grants: Vec<Grant> = Vec::new();
    missing.iter().for_each(|right| add_column(&mut grants, right));
    let lacks: Vec<String> = grants.iter().map(|grant| plain(&grant.on)).collect();
    let found = format!(
        "{role} has what the service needs; status and explain cannot tell all that Salesforce made of it, without \
         select on {}",
        lacks.join(", ")
    );
    let sql = grants.iter().map(|grant| grant.sql(role));
    Ok(Some(Diagnosis::advice(found).sql(target.place, sql)))
}

/// What is read and written of the object's own table.
fn written(object: &Object, needs: &mut Needs) {
    let table = &object.target;
    let columns = |of: fn(&Field) -> bool| {
        let fields = object.fields.iter().filter(move |field| of(field));
        fields.map(|field| field.column.as_str())
    };
    needs.columns(table, "select", [object.external_id.as_str()]);
    needs.columns(table, "select", columns(|field| field.compared));
    needs.columns(table, "update", columns(|field| !field.insert_only));
    if !object.update_only {
        needs.columns(table, "insert", [object.external_id.as_str()]);
        needs.columns(table, "insert", columns(|_| true));
    }
    if object.on_delete == OnDelete::Delete {
        needs.add(Thing::TableAccess(table.clone()), "delete");
    }
}

/// The logs that Heroku Connect's triggers write with the rights of the writer.
async fn trigger_logs(target: &Side, objects: &[Object]) -> Result<Vec<TableName>, Hindrance> {
    let triggers = super::heroku_connect::installed(target, objects).await?;
    let with_our_rights = triggers.iter().filter(|trigger| trigger.logs && !trigger.runs_as_owner);
    let schemas: BTreeSet<&str> =
        with_our_rights.map(|trigger| trigger.table.schema.as_str()).collect();
    let log = |schema: &str| TableName { schema: schema.into(), table: "_trigger_log".into() };
    Ok(schemas.into_iter().map(log).collect())
}

async fn sequences(
    session: &Session,
    tables: &[TableName],
) -> Result<Vec<TableName>, tokio_postgres::Error> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.table.as_str()).collect();
    let rows = session.rows(SEQUENCES, &[&schemas, &names]).await?;
    Ok(rows
        .iter()
        .map(|row| TableName { schema: row.get("schema"), table: row.get("name") })
        .collect())
}

async fn check(side: &Side, needs: Needs) -> Result<Diagnosis, Hindrance> {
    let role = &side.facts()?.role;
    let needed: Vec<Right> = needs.0.into_iter().collect();
    let held = side.ask(async |session| held(session, &needed).await).await?;
    let of = |wanted: Option<bool>| {
        let found = needed.iter().zip(&held).filter(move |(_, held)| **held == wanted);
        found.map(|(right, _)| right).collect::<Vec<_>>()
    };
    let (missing, absent) = (of(Some(false)), of(None));
    if missing.is_empty() {
        return match absent.first() {
            None => hidden_rows(side, &needed).await,
            Some(right) => Err(Hindrance::new(format!(
                "{} is not there yet; nothing else is missing",
                absent_name(&right.on)
            ))),
        };
    }
    let grants = grants(&missing, &needed);
    let mut lacks: Vec<String> = grants.iter().take(NAMED).map(Grant::plain).collect();
    if grants.len() > NAMED {
        lacks.push(format!("and {} more", grants.len() - NAMED));
    }
    let found = format!("{role} lacks {}", lacks.join("; "));
    Ok(Diagnosis::failed(found).sql(side.place, grants.iter().map(|grant| grant.sql(role))))
}

/// Even with every grant, a role does not read the rows that a policy hides from it.
async fn hidden_rows(side: &Side, needed: &[Right]) -> Result<Diagnosis, Hindrance> {
    let role = &side.facts()?.role;
    let names: BTreeSet<&TableName> = needed
        .iter()
        .filter_map(|right| match &right.on {
            Thing::TableAccess(name) | Thing::Column(name, _) => Some(name),
            Thing::Schema(_) | Thing::Sequence(_) => None,
        })
        .collect();
    let names: Vec<&TableName> = names.into_iter().collect();
    let tables = table::read(side, &names).await?;
    let hiding = tables.iter().filter(|table| table.hides_rows);
    let hiding: Vec<String> = hiding.map(|table| table.name.plain()).collect();
    if hiding.is_empty() {
        return Ok(Diagnosis::ok(format!("{role} has what the service needs")));
    }
    let found = format!(
        "row security may hide rows of {} from {role}, so they are not read",
        hiding.join(", ")
    );
    Ok(Diagnosis::failed(found).sql(side.place, [format!("alter role {} bypassrls;", ident(role))]))
}

/// Whether each right is held; none where there is nothing of that name.
async fn held(
    session: &Session,
    rights: &[Right],
) -> Result<Vec<Option<bool>>, tokio_postgres::Error> {
    let texts = |text: fn(&Right) -> &str| rights.iter().map(text).collect::<Vec<&str>>();
    let kinds = texts(|right| right.on.kind());
    let schemas = texts(|right| right.on.schema());
    let names = texts(|right| right.on.name());
    let columns = texts(|right| right.on.column());
    let privileges = texts(|right| right.privilege);
    let rows = session.rows(RIGHTS, &[&kinds, &schemas, &names, &columns, &privileges]).await?;
    Ok(rows.iter().map(|row| row.get("held")).collect())
}

/// Privileges on one thing, that one statement gives.
struct Grant {
    on: Thing,
    privileges: Vec<&'static str>,
    /// None: all.
    columns: Vec<String>,
}

impl Grant {
    fn plain(&self) -> String {
        let columns = match self.columns.is_empty() {
            true => String::new(),
            false => format!(" ({})", self.columns.join(", ")),
        };
        format!("{}{columns} on {}", self.privileges.join(", "), plain(&self.on))
    }

    fn sql(&self, role: &str) -> String {
        let columns = match self.columns.is_empty() {
            true => String::new(),
            false => {
                let columns: Vec<String> =
                    self.columns.iter().map(|column| ident(column)).collect();
                format!(" ({})", columns.join(", "))
            }
        };
        let on = match &self.on {
            Thing::Schema(schema) => format!("schema {}", ident(schema)),
            Thing::Sequence(name) => format!("sequence {name}"),
            Thing::TableAccess(name) | Thing::Column(name, _) => name.to_string(),
        };
        format!("grant {}{columns} on {on} to {};", self.privileges.join(", "), ident(role))
    }
}

fn plain(on: &Thing) -> String {
    match on {
        Thing::Schema(schema) => format!("schema {schema}"),
        Thing::Sequence(name) => format!("sequence {}", name.plain()),
        Thing::TableAccess(name) | Thing::Column(name, _) => name.plain(),
    }
}

/// What is missing, by its own name.
fn absent_name(on: &Thing) -> String {
    match on {
        Thing::Column(table, column) => format!("column {column} of {}", table.plain()),
        on => plain(on),
    }
}

/// As few statements as possible: a whole table where every column is missing, several privileges at once.
fn grants(missing: &[&Right], needed: &[Right]) -> Vec<Grant> {
    let mut grants: Vec<Grant> = Vec::new();
    for right in missing {
        let Thing::Column(table, _) = &right.on else {
            add(&mut grants, right.on.clone(), right.privilege);
            continue;
        };
        let same = |other: &Right| {
            matches!(&other.on, Thing::Column(name, _) if name == table)
                && other.privilege == right.privilege
        };
        let of_table = |rights: usize| rights == needed.iter().filter(|other| same(other)).count();
        if of_table(missing.iter().filter(|other| same(other)).count()) {
            add(&mut grants, Thing::TableAccess(table.clone()), right.privilege);
            continue;
        }
        add_column(&mut grants, right);
    }
    grants
}

/// Together with the other columns of the same table and privilege.
fn add_column(grants: &mut Vec<Grant>, right: &Right) {
    let Thing::Column(table, column) = &right.on else { return };
    let known = grants.iter_mut().find(|grant| {
        matches!(&grant.on, Thing::Column(name, _) if name == table)
            && grant.privileges == [right.privilege]
    });
    match known {
        Some(grant) => grant.columns.push(column.clone()),
        None => grants.push(Grant {
            on: right.on.clone(),
            privileges: vec![right.privilege],
            columns: vec![column.clone()],
        }),
    }
}

fn add(grants: &mut Vec<Grant>, on: Thing, privilege: &'static str) {
    match grants.iter_mut().find(|grant| grant.on == on) {
        Some(grant) if grant.privileges.contains(&privilege) => {}
        Some(grant) => grant.privileges.push(privilege),
        None => grants.push(Grant { on, privileges: vec![privilege], columns: Vec::new() }),
    }
}
