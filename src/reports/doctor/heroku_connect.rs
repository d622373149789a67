//! Checks of what makes a write in the target reach Salesforce: settings of the session, and the triggers.

use std::collections::BTreeSet;

use super::mapping_fit::Fit;
use super::report::Diagnosis;
use super::side::{Hindrance, Side};
use crate::mapping::Object;
use crate::postgres::name::{TableName, ident};

const SETTING: &str = include_str!("../../../sql/doctor_setting.sql");
const FUNCTIONS: &str = include_str!("../../../sql/doctor_functions.sql");
const TRIGGERS: &str = include_str!("../../../sql/doctor_heroku_triggers.sql");

/// Its triggers call functions without naming their schema.
pub(super) async fn search_path(target: &Side) -> Result<Diagnosis, Hindrance> {
    let found = target.evaluate(async |target| target.row(FUNCTIONS, &[]).await).await?;
    let row = target.evaluate(async |target| target.row(SETTING, &[&"search_path"]).await).await?;
    let (path, origin): (&str, &str) = (row.get("setting"), row.get("source"));
    let functions: Option<Vec<String>> = found.get("get_xmlbinary_in");
    let hstore: Option<String> = found.get("hstore_in");
    let (Some(functions), Some(hstore)) = (functions, hstore) else {
        return Ok(Diagnosis::failed("there is no function get_xmlbinary, or no extension hstore")
            .say("is this Heroku Connect's database? Look at SALESFORCE_CONNECT_URL, or reinstall Heroku Connect's \
                  schema"));
    };
    let unseen: Vec<&str> =
        [("finds_get_xmlbinary", "get_xmlbinary()"), ("finds_hstore", "hstore()")]
            .into_iter()
            .filter(|(column, _)| !found.get::<_, bool>(column))
            .map(|(_, name)| name)
            .collect();
    if unseen.is_empty() {
        return Ok(Diagnosis::ok(format!("get_xmlbinary() and hstore() are found through {path}")));
    }
    let mut needed = vec!["\"$user\"".to_string(), "public".into()];
    let places = functions.iter().take(1).chain([&hstore]);
    for schema in places.filter(|schema| *schema != "public").map(|schema| ident(schema)) {
        if !needed.contains(&schema) {
            needed.push(schema);
        }
    }
    let path = if path.is_empty() { "an empty search path" } else { path };
    let names = unseen.join(" and ");
    let found = format!("{names} not found through {path}: every write will fail");
    set(Diagnosis::failed(found), target, origin, "search_path", &needed.join(", "))
}

/// Adds the remedy that gives our sessions another setting.
fn set(
    diagnosis: Diagnosis,
    target: &Side,
    origin: &str,
    name: &str,
    value: &str,
) -> Result<Diagnosis, Hindrance> {
    let facts = target.facts()?;
    let (role, database) = (ident(&facts.role), ident(&facts.database));
    Ok(match origin {
        "client" | "session" => {
            diagnosis.say(format!("take {name} out of the options of {}", target.setting()))
        }
        // For a role in a database: this one wins over all others.
        _ => diagnosis.sql(
            target.place,
            [format!("alter role {role} in database {database} set {name} = {value};")],
        ),
    })
}

/// One of Heroku Connect's triggers.
pub(super) struct HerokuTrigger {
    pub table: TableName,
    /// None: the table has none.
    pub name: Option<String>,
    /// As the catalogue has it: O, A, R or D.
    enabled: String,
    /// It writes the log from which Salesforce is fed.
    pub logs: bool,
    /// It marks a row that a user has written.
    marks: bool,
    /// It does so with its owner's rights, not with those of the writer.
    pub runs_as_owner: bool,
    /// There is a log.
    has_log: bool,
}

/// The triggers of the mapped tables that are there.
pub(super) async fn installed(
    target: &Side,
    objects: &[Object],
) -> Result<Vec<HerokuTrigger>, Hindrance> {
    let schemas: Vec<&str> = objects.iter().map(|object| object.target.schema.as_str()).collect();
    let names: Vec<&str> = objects.iter().map(|object| object.target.table.as_str()).collect();
    let rows = target.ask(async |target| target.rows(TRIGGERS, &[&schemas, &names]).await).await?;
    Ok(rows
        .iter()
        .map(|row| HerokuTrigger {
            table: TableName { schema: row.get("schema"), table: row.get("name") },
            name: row.get("trigger"),
            enabled: row.get::<_, Option<String>>("enabled").unwrap_or_default(),
            logs: row.get("logs"),
            marks: row.get("marks"),
            runs_as_owner: row.get("runs_as_owner"),
            has_log: row.get("has_log"),
        })
        .collect())
}

/// Whether what is written in the mapped tables is logged, and so sent.
pub(super) async fn triggers(target: &Side, fit: &Fit<'_>) -> Result<Diagnosis, Hindrance> {
    let name = "session_replication_role";
    let row = target.ask(async |target| target.row(SETTING, &[&name]).await).await?;
    if row.get::<_, &str>("setting") == "replica" {
        let found =
            format!("{name} is replica: no trigger fires, and nothing is sent to Salesforce");
        return set(Diagnosis::failed(found), target, row.get("source"), name, "origin");
    }
    let triggers = installed(target, &fit.mapping.objects).await?;
    let tables: BTreeSet<&TableName> = triggers.iter().map(|trigger| &trigger.table).collect();
    let mapped = fit.mapping.objects.iter().map(|object| &object.target);
    let gone: BTreeSet<String> =
        mapped.filter(|table| !tables.contains(table)).map(TableName::plain).collect();
    if !gone.is_empty() {
        let gone = gone.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Hindrance::new(format!("{gone} is not there")));
    }
    let absent: Vec<String> = tables.iter().flat_map(|table| absent(table, &triggers)).collect();
    let disabled = triggers.iter().filter_map(|trigger| {
        let off = !matches!(trigger.enabled.as_str(), "O" | "A");
        Some((&trigger.table, trigger.name.as_ref().filter(|_| off)?))
    });
    let disabled: Vec<(&TableName, &String)> = disabled.collect();
    let mut found = absent.clone();
    found.extend(
        disabled
            .iter()
            .map(|(table, name)| format!("trigger {name} on {} is disabled", table.plain())),
    );
    let Some(first) = found.first() else {
        let tables = tables.len();
        return Ok(Diagnosis::ok(format!("writes in {tables} tables are logged for Salesforce")));
    };
    let mut diagnosis =
        Diagnosis::failed(format!("{first}: what we write is not sent to Salesforce"));
    if found.len() > 1 {
        diagnosis = diagnosis.detail(found);
    }
    diagnosis = diagnosis.sql(
        target.place,
        disabled
            .iter()
            .map(|(table, name)| format!("alter table {table} enable trigger {};", ident(name))),
    );
    if !absent.is_empty() {
        diagnosis = diagnosis.say(
            "in Heroku Connect: let the mapping write to Salesforce too (\"read-write\"), or create it again",
        );
    }
    Ok(diagnosis)
}

/// What a mapped table lacks of what a write needs to be sent.
fn absent(table: &TableName, triggers: &[HerokuTrigger]) -> Vec<String> {
    let of_table: Vec<&HerokuTrigger> =
        triggers.iter().filter(|trigger| trigger.table == *table).collect();
    let plain = table.plain();
    let lacks = |trigger: &str| format!("{plain} has no trigger hc_…_{trigger}");
    let mut absent = Vec::new();
    if !of_table.iter().any(|trigger| trigger.logs) {
        absent.push(lacks("logtrigger"));
    }
    if !of_table.iter().any(|trigger| trigger.marks) {
        absent.push(lacks("status_trigger"));
    }
    if !of_table.iter().all(|trigger| trigger.has_log) {
        absent.push(format!("{plain} has no _trigger_log beside it"));
    }
    absent
}
