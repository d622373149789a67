//! Renders the capture triggers, compares them with what is installed, and installs what differs.
//!
//! Promise: a table whose triggers are right is not touched, and a busy table is never queued up behind
//! our DDL: each attempt gives way after `LOCK_TIMEOUT`.

pub mod publication;
pub mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::bell::notice;
use crate::bell::{BELL_LOCK, CHANNEL};
use crate::config::QUEUE_LIMIT;
use crate::plan::Capture;
use crate::postgres::db::{self, Direct, Session};
use crate::postgres::name::{TableName, fingerprint, ident, literal};
use crate::postgres::template::fill;
use crate::visible;

const FUNCTION: &str = include_str!("../../triggers/capture.sql");
const FOR_ONE: &str = include_str!("../../triggers/capture_for_one.sql");
const SECURE: &str = include_str!("../../triggers/secure.sql");
const SEAL: &str = include_str!("../../triggers/seal.sql");
const RING_DOORBELL: &str = include_str!("../../triggers/ring_doorbell.sql");
const RING_ALWAYS: &str = include_str!("../../triggers/ring_always.sql");
const INSTALLED: &str = include_str!("../../sql/installed_triggers.sql");
const BLOCKERS: &str = include_str!("../../sql/blockers.sql");

/// While DDL waits for its lock, every writer waits behind it: this is the longest that may last.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);
/// Between two attempts: long enough for the writers that queued up to pass.
const LOCK_PAUSE: Duration = Duration::from_millis(700);
/// After this many attempts (about a minute) a human should know who holds the table.
const LOCK_ATTEMPTS: u32 = 60;
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

/// When the triggers notify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NotifyMode {
    /// In every transaction.
    Always,
    /// Only when the service is asleep.
    Doorbell,
    /// Never: the service polls. For writers that use two-phase commit.
    Never,
}

impl fmt::Display for NotifyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Doorbell => "doorbell",
            Self::Never => "never",
        })
    }
}

impl NotifyMode {
    /// The mode that the installed triggers have, as `schoolbell.installation` has it.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Always, Self::Doorbell, Self::Never]
            .into_iter()
            .find(|mode| mode.to_string() == text)
    }
}

/// What one table should carry.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The table.
    pub table: TableName,
    /// One `create or replace function` per capture.
    pub functions: Vec<String>,
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
}

/// What is wrong with the triggers of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// The table.
    pub table: TableName,
    /// The trigger.
    pub trigger: String,
    /// `missing`, `outdated`, `altered`, `not enabled always`, `not needed`, [`OPEN`] or [`FOREIGN`].
    pub what: &'static str,
}

/// Somebody but its owner may attach or call the trigger's function, which runs with the owner's rights.
pub const OPEN: &str = "open to others";
/// The trigger's function runs with other rights than those of the table's owner.
pub const FOREIGN: &str = "not its table owner's";

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trigger {} on {} is {}", self.trigger, self.table.plain(), self.what)
    }
}

impl Deviation {
    /// Changes may have been missed. Not where only the text of a trigger is another one.
    pub fn loses_changes(&self) -> bool {
        !self.is_about_rights() && !["outdated", "not needed"].contains(&self.what)
    }

    /// Changes are captured all the same; somebody may get rights that are not meant for him.
    pub fn is_about_rights(&self) -> bool {
        [OPEN, FOREIGN].contains(&self.what)
    }

    /// What it means for a service with this mapping, and what helps.
    pub fn advice(&self) -> String {
        let means = match self.what {
            "outdated" => {
                "another mapping or release was migrated: reload the service with that one, or run `schoolbell migrate` \
                 with this one, else changes may be missed"
            }
            "not needed" => {
                "another mapping was migrated: reload the service with that one, or run `schoolbell migrate` with this one"
            }
            OPEN => {
                "others can run code with the rights of the table's owner; run `schoolbell migrate`"
            }
            FOREIGN => {
                "the table's owner can run code with the rights of another role; run `schoolbell migrate`"
            }
            _ => "changes may be missed; run `schoolbell migrate`",
        };
        format!("{self}: {means}")
    }
}

/// Why the triggers could not be installed.
#[derive(Debug)]
pub enum NotInstalled {
    /// The table was never free for long enough. Names who was in the way.
    Busy {
        /// The table.
        table: TableName,
        /// Process ids and what they do.
        blockers: Vec<String>,
    },
    /// The database refused.
    Database(tokio_postgres::Error),
}

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { table, blockers } => {
                let holders = match blockers.is_empty() {
                    true => "many short transactions".to_string(),
                    false => blockers.join("; "),
                };
                write!(
                    f,
                    "{} was locked at each of {LOCK_ATTEMPTS} attempts ({holders}); end the long transaction and \
                     try again, nothing was queued up behind it",
                    table.plain()
                )
            }
            Self::Database(error) => f.write_str(&crate::postgres::failure::chain(error)),
        }
    }
}

impl std::error::Error for NotInstalled {}

impl From<tokio_postgres::Error> for NotInstalled {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

/// Renders the triggers of every captured table.
pub fn render(captures: &[Capture], mode: NotifyMode) -> Vec<Rendered> {
    let mut tables: BTreeMap<&TableName, Rendered> = BTreeMap::new();
    for capture in captures {
        let rendered = tables.entry(&capture.table).or_insert_with(|| Rendered {
            table: capture.table.clone(),
            functions: Vec::new(),
            triggers: Vec::new(),
        });
        let function = function(capture, mode);
        let own = EVENTS.map(|event| trigger(capture, &capture.table, event, &function));
        rendered.triggers.extend(own);
        rendered.functions.push(function.clone());
        for part in capture.parts.iter().filter(|part| part.unseen.is_none()) {
            let rendered = tables.entry(&part.table).or_insert_with(|| Rendered {
                table: part.table.clone(),
                functions: Vec::new(),
                triggers: Vec::new(),
            });
            // Postgres itself gives a partition what is to be done for each row.
            let events =
                EVENTS.into_iter().filter(|(_, level)| !part.is_partition || *level == "statement");
            rendered
                .triggers
                .extend(events.map(|event| trigger(capture, &part.table, event, &function)));
            rendered.functions.push(function.clone());
        }
    }
    tables.into_values().collect()
}

fn function(capture: &Capture, mode: NotifyMode) -> String {
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
            ("{function}", &ident(&function_name(capture))),
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

/// A name that Postgres keeps whole; a long one ends in a fingerprint, so that two stay two.
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
    table: &TableName,
    (event, level): (&str, &str),
    function: &str,
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
        ident(&function_name(capture))
    );
    let fingerprint = fingerprint(&format!("{function}{sql}"));
    Trigger { name, sql, fingerprint }
}

/// Mentions every column by which changes are recorded.
fn present(capture: &Capture) -> String {
    let keys = capture.keys.iter().map(|column| format!("old.{} is not null", ident(column)));
    keys.collect::<Vec<_>>().join(" or ")
}

/// A trigger as it is.
struct Installed {
    /// `A`: also for writes in replica role.
    enabled: String,
    comment: String,
    made: String,
    foreign_owner: bool,
    open_to_others: bool,
}

impl Installed {
    /// What is wrong with it, given what it should be rendered from. What loses changes comes first.
    fn deviation(&self, fingerprint: &str) -> Option<&'static str> {
        let (rendered, made_then) = self.comment.split_once(' ').unwrap_or_default();
        let deviations = [
            (rendered != fingerprint, "outdated"),
            (made_then != self.made, "altered"),
            (self.enabled != "A", "not enabled always"),
            (self.open_to_others, OPEN),
            (self.foreign_owner, FOREIGN),
        ];
        deviations.into_iter().find_map(|(found, what)| found.then_some(what))
    }
}

/// Compares what is installed with what should be.
pub async fn deviations(
    source: &Session,
    wanted: &[Rendered],
) -> Result<Vec<Deviation>, tokio_postgres::Error> {
    let mut installed = BTreeMap::new();
    for row in source.rows(INSTALLED, &[]).await? {
        let table = TableName { schema: row.get("schema"), table: row.get("table") };
        let comment: Option<String> = row.get("comment");
        let state = Installed {
            enabled: row.get("enabled"),
            comment: comment.unwrap_or_default(),
            made: row.get("made"),
            foreign_owner: row.get("foreign_owner"),
            open_to_others: row.get("open_to_others"),
        };
        installed.insert((table, row.get::<_, String>("trigger")), state);
    }
    let mut deviations = Vec::new();
    let mut note = |table: &TableName, trigger: &str, what| {
        deviations.push(Deviation { table: table.clone(), trigger: trigger.into(), what });
    };
    for rendered in wanted {
        let table = &rendered.table;
        for trigger in &rendered.triggers {
            match installed.remove(&(table.clone(), trigger.name.clone())) {
                None => note(table, &trigger.name, "missing"),
                Some(found) => {
                    if let Some(what) = found.deviation(&trigger.fingerprint) {
                        note(table, &trigger.name, what);
                    }
                }
            }
        }
    }
    for (table, trigger) in installed.keys() {
        note(table, trigger, "not needed");
    }
    Ok(deviations)
}

/// The SQL that fixes the deviations, one transaction per table.
pub fn mend(wanted: &[Rendered], deviations: &[Deviation]) -> Vec<(TableName, String)> {
    let tables: BTreeSet<&TableName> =
        deviations.iter().map(|deviation| &deviation.table).collect();
    tables
        .into_iter()
        .map(|table| {
            let mut sql = vec![format!("set local {}", schema::OWN_PATH)];
            let not_needed = deviations
                .iter()
                .filter(|deviation| deviation.table == *table && deviation.what == "not needed");
            sql.extend(not_needed.map(|deviation| {
                format!("drop trigger if exists {} on {table}", ident(&deviation.trigger))
            }));
            if let Some(rendered) = wanted.iter().find(|rendered| rendered.table == *table) {
                sql.extend(
                    rendered.functions.iter().map(|function| function.trim_end().to_string()),
                );
                for trigger in &rendered.triggers {
                    let name = ident(&trigger.name);
                    sql.push(trigger.sql.clone());
                    sql.push(format!("alter table {table} enable always trigger {name}"));
                }
                sql.push(seal(rendered));
            }
            sql.push(
                fill(SECURE, &[("{table}", &literal(&table.regclass()))]).trim_end().to_string(),
            );
            (table.clone(), sql.iter().map(|statement| format!("{statement};\n")).collect())
        })
        .collect()
}

/// The statement that notes in the triggers' comments how they were made.
fn seal(rendered: &Rendered) -> String {
    let fingerprints = rendered
        .triggers
        .iter()
        .map(|trigger| format!("({}, {})", literal(&trigger.name), literal(&trigger.fingerprint)));
    let fingerprints = fingerprints.collect::<Vec<_>>().join(", ");
    let table = literal(&rendered.table.regclass());
    fill(SEAL, &[("{fingerprints}", &fingerprints), ("{table}", &table)]).trim_end().to_string()
}

/// Runs DDL on a table in one transaction, giving way to its writers until it gets through.
pub async fn run_ddl(source: &Direct, table: &TableName, sql: &str) -> Result<(), NotInstalled> {
    let millis = LOCK_TIMEOUT.as_millis();
    let transaction = format!("begin; set local lock_timeout = '{millis}ms'; {sql} commit");
    let mut blockers = Vec::new();
    for attempt in 1..=LOCK_ATTEMPTS {
        match source.client().batch_execute(&transaction).await {
            Ok(()) => return Ok(()),
            Err(error) if given_way(&error) => {
                source.client().batch_execute("rollback").await?;
                blockers = blockers_of(source, table).await?;
                tracing::info!(table = %table.plain(), attempt, ?blockers, "the table is busy, giving way");
                tokio::time::sleep(LOCK_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
            }
            Err(error) => {
                source.client().batch_execute("rollback").await?;
                return Err(error.into());
            }
        }
    }
    Err(NotInstalled::Busy { table: table.clone(), blockers })
}

fn given_way(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED))
}

async fn blockers_of(
    source: &Session,
    table: &TableName,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let rows = source.rows(BLOCKERS, &[&table.regclass()]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
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
