//! Writes projected rows into the mapped tables: update what differs, insert what is missing.
//!
//! Promise: the same rows applied twice leave the same target and cause no second write. A row that is
//! right is not touched, a row whose parent Salesforce does not know is not written, and a row that
//! exists is never upserted (each attempt would burn a value of the target's int4 id sequence). A row that
//! somebody else has locked is not waited for while others are held: who does that is half of a deadlock.
//!
//! Few rows go as the parameters of one statement, which takes one round trip. Many go by COPY into a temporary
//! table first, because unpacking twenty arrays costs the server twice as much for each row.

pub mod writer;

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use deadpool_postgres::ClientWrapper;
use futures_util::SinkExt;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

use crate::mapping::{Object, OnDelete};
use crate::outbox::outcome::Outcome;
use crate::plan::{Form, Route};
use crate::postgres::apart::{Apart, Parts};
use crate::postgres::db::Direct;
use crate::postgres::failure::{Failure, Refusal};
use crate::postgres::name::{TableName, ident};
use crate::postgres::qualified::{SqlType, differ, equal};
use crate::project::{self, Projected};

/// From so many rows on, COPY is cheaper than parameters.
const MANY_ROWS: usize = 500;
/// COPY is sent in parts of about this size.
const COPY_BYTES: usize = 64 * 1024;

/// The statements of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statements {
    write: Write,
    copied: Copied,
    compare: String,
    lacking: String,
    leave: Option<String>,
    there: String,
    standing: String,
    arrived: Vec<(String, String)>,
}

/// What writes rows by way of a temporary table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Copied {
    create: String,
    copy: String,
    write: Write,
}

/// The same in two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    /// Rows that somebody has locked are waited for.
    waiting: String,
    /// They are passed over, which costs each row a lock of its own.
    passing: String,
}

impl Write {
    fn new(route: &Route, from: &From) -> Self {
        Self {
            waiting: write(route, from, Locked::Wait),
            passing: write(route, from, Locked::PassOver),
        }
    }

    fn form(&self, locked: Locked) -> &str {
        match locked {
            Locked::Wait => &self.waiting,
            Locked::PassOver => &self.passing,
        }
    }
}

/// What is done about rows that somebody else has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// They are waited for. Only for a single row: who waits while he holds others is half of a deadlock.
    Wait,
    /// They are not written.
    PassOver,
}

impl Statements {
    /// Builds them.
    pub fn new(route: &Route) -> Self {
        Self {
            write: Write::new(route, &From::Parameters),
            copied: Copied::new(route),
            compare: compare(route),
            lacking: lacking(route),
            leave: leave(route),
            there: there(route),
            standing: format!(
                "select pg_catalog.count(*) from (select from {} limit $1) as standing",
                route.object.target
            ),
            arrived: arrived(route),
        }
    }
}

/// Whether this role may have temporary tables.
pub async fn may_copy(target: &Direct) -> Result<bool, Failure> {
    let sql =
        "select pg_catalog.has_database_privilege(pg_catalog.current_database(), 'temporary')";
    Ok(target.row_once(sql).await?.get(0))
}

/// Some keys of one object: rows to write, or keys whose row is gone.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// Projected rows.
    Rows(&'a [Row]),
    /// Keys.
    Absent(&'a [String]),
}

impl<'a> Part<'a> {
    /// How many keys it has.
    pub fn len(self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Absent(keys) => keys.len(),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Its keys.
    pub fn keys(self) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Self::Rows(rows) => Box::new(rows.iter().map(project::key)),
            Self::Absent(keys) => Box::new(keys.iter().map(String::as_str)),
        }
    }
}

impl Parts for Part<'_> {
    fn count(&self) -> usize {
        self.len()
    }

    fn halves(self) -> [Self; 2] {
        let middle = self.len() / 2;
        match self {
            Self::Rows(rows) => [Self::Rows(&rows[middle..]), Self::Rows(&rows[..middle])],
            Self::Absent(keys) => [Self::Absent(&keys[middle..]), Self::Absent(&keys[..middle])],
        }
    }
}

/// A part, with everything at hand that takes to send it.
pub struct Call<'a> {
    route: &'a Route,
    part: Part<'a>,
    locked: Locked,
    way: Way<'a>,
}

/// How a part gets to the target.
enum Way<'a> {
    /// As one array per column, or the keys.
    Parameters(Statement, Vec<Vec<Option<Raw<'a>>>>),
    /// By COPY. The statement is planned each time: then the planner sees how much was copied, and how far the
    /// target's table has grown.
    Copy(&'a Copied),
}

impl<'a> Call<'a> {
    /// Prepares the statement for a part. None when there is nothing to be done on the target.
    pub async fn prepare(
        target: &ClientWrapper,
        route: &'a Route,
        statements: &'a Statements,
        part: Part<'a>,
        may_copy: bool,
        locked: Locked,
    ) -> Result<Option<Self>, Failure> {
        let way = match part {
            _ if part.is_empty() => return Ok(None),
            Part::Absent(_) => match &statements.leave {
                Some(leave) => Way::Parameters(target.prepare_cached(leave).await?, Vec::new()),
                None => return Ok(None),
            },
            Part::Rows(rows) if may_copy && rows.len() >= MANY_ROWS => {
                target.batch_execute(&statements.copied.create).await?;
                Way::Copy(&statements.copied)
            }
            Part::Rows(rows) => Way::Parameters(
                target.prepare_cached(statements.write.form(locked)).await?,
                columns_of(route, rows),
            ),
        };
        Ok(Some(Self { route, part, locked, way }))
    }

    /// How many rows it is about.
    pub fn rows(&self) -> usize {
        self.part.len()
    }

    /// Whether it takes a single message, so that others may be sent with it.
    pub fn is_one_message(&self) -> bool {
        matches!(self.way, Way::Parameters(..))
    }

    /// Carries it out in the transaction that is open, and tells what became of each key that was not simply equal.
    pub async fn run(
        &self,
        target: &Client,
    ) -> Result<Vec<(String, Outcome)>, tokio_postgres::Error> {
        let told = match (self.part, &self.way) {
            (Part::Absent(keys), Way::Parameters(statement, _)) => {
                target.query(statement, &[&keys]).await?
            }
            (Part::Rows(_), Way::Parameters(statement, columns)) => {
                target.query(statement, &parameters(columns)).await?
            }
            (Part::Rows(rows), Way::Copy(copied)) => {
                copy_in(target, &copied.copy, self.route, rows).await?;
                target.query_typed(copied.write.form(self.locked), &[]).await?
            }
            (Part::Absent(_), Way::Copy(_)) => unreachable!("keys are never copied"),
        };
        let left = |row: &Row| match row.get("outcome") {
            "kept" => Outcome::Kept,
            "deleted" => Outcome::Deleted,
            _ => Outcome::Retries(Refusal::locked()),
        };
        Ok(told
            .iter()
            .map(|row| match self.part {
                Part::Absent(_) => (row.get("key"), left(row)),
                Part::Rows(_) => outcome(self.route, row),
            })
            .collect())
    }
}

/// What writing the rows would do, without doing it: the server itself sees to that.
pub async fn compare_rows(
    target: &mut Direct,
    route: &Route,
    statements: &Statements,
    rows: &[Row],
) -> Result<Vec<(String, Outcome)>, Failure> {
    let transaction = target.client_mut().build_transaction().read_only(true).start().await?;
    let statement = transaction.prepare_cached(&statements.compare).await?;
    let columns = columns_of(route, rows);
    let told = transaction.query(&statement, &parameters(&columns)).await?;
    Ok(told.iter().map(|row| outcome(route, row)).collect())
}

/// What the target said of keys that it was asked for.
#[derive(Debug, Default)]
pub struct Asked {
    /// Those that it found.
    pub found: Vec<String>,
    /// Those that it refused to look for: no column of its own could hold them, or it is hindered.
    pub refused: Vec<(String, Failure)>,
}

/// Asks a query about keys. One that the target refuses holds up no other.
async fn ask(target: &Direct, sql: &str, keys: &[String]) -> Result<Asked, Failure> {
    let client = target.client();
    let statement = client.prepare_cached(sql).await?;
    let (mut apart, mut asked) = (Apart::new(0..keys.len()), Asked::default());
    while let Some(part) = apart.next_part() {
        match client.query(&statement, &[&&keys[part.clone()]]).await {
            Ok(rows) => {
                apart.through();
                asked.found.extend(rows.iter().map(|row| row.get::<_, String>(0)));
            }
            Err(error) => match Failure::from(error) {
                // A lock or a time-out: to ask in parts would take as long again for each.
                Failure::Retry(refusal) => apart.refused.push((part, Failure::Retry(refusal))),
                failure => apart.refuse(part, failure)?,
            },
        }
    }
    let refused = apart.refused.into_iter();
    asked.refused = refused
        .flat_map(|(part, failure)| {
            keys[part].iter().map(move |key| (key.clone(), failure.clone()))
        })
        .collect();
    Ok(asked)
}

/// Of these keys, those that have a row in the target.
pub async fn keys_there(
    target: &Direct,
    statements: &Statements,
    keys: &[String],
) -> Result<Asked, Failure> {
    ask(target, &statements.there, keys).await
}

/// How many rows the target's table has, counted up to so many.
pub async fn rows_standing(
    target: &Direct,
    statements: &Statements,
    most: i64,
) -> Result<i64, Failure> {
    let target = target.client();
    let statement = target.prepare_cached(&statements.standing).await?;
    Ok(target.query_one(&statement, &[&most]).await?.get(0))
}

/// Leaves only the rows whose key the target lacks, or refuses to look for.
pub async fn retain_lacking(
    target: &Direct,
    statements: &Statements,
    projected: &mut Projected,
) -> Result<(), Failure> {
    let keys: Vec<String> = projected.rows.iter().map(|row| project::key(row).into()).collect();
    let Asked { found, refused } = ask(target, &statements.lacking, &keys).await?;
    let lacking: HashSet<String> =
        found.into_iter().chain(refused.into_iter().map(|(key, _)| key)).collect();
    projected.rows.retain(|row| lacking.contains(project::key(row)));
    Ok(())
}

/// Of the given things waited for, by `awaits`, those that are there now.
pub async fn arrived_keys(
    target: &Direct,
    all: &[&Statements],
    awaits: &str,
    keys: &[String],
) -> Result<Asked, Failure> {
    let known =
        all.iter().flat_map(|statements| &statements.arrived).find(|(what, _)| what == awaits);
    match known {
        Some((_, sql)) => ask(target, sql, keys).await,
        // Nothing in this mapping waits for it (any more): let the keys be looked at again.
        None => Ok(Asked { found: keys.to_vec(), refused: Vec::new() }),
    }
}

/// Reads one row of the write or compare statement.
fn outcome(route: &Route, row: &Row) -> (String, Outcome) {
    let awaits = row.get::<_, Option<i32>>("parent").map(|index| &route.parents[index as usize]);
    let outcome = match (row.get::<_, &str>("outcome"), awaits) {
        ("updated", _) => Outcome::Updated,
        ("inserted", _) => Outcome::Inserted,
        ("locked", _) => Outcome::Retries(Refusal::locked()),
        ("waits", Some(parent)) => Outcome::Waits {
            awaits: Route::awaits_sfid(&parent.object),
            key: row.get("parent_key"),
        },
        ("waits", None) => {
            Outcome::Waits { awaits: route.awaits_row(), key: row.get("parent_key") }
        }
        (other, _) => unreachable!("the statement returns no outcome {other:?}"),
    };
    (row.get("key"), outcome)
}

/// Where a statement finds the batch.
enum From {
    /// `$1`: keys, `$2`: external ids, then one array per column and per parent.
    Parameters,
    /// The temporary table.
    Table(String),
}

impl From {
    fn sql(&self, route: &Route) -> String {
        match self {
            Self::Table(name) => format!("{name} as b"),
            Self::Parameters => {
                let places = (1..).zip(columns(route));
                let (names, arrays): (Vec<String>, Vec<String>) = places
                    .map(|(place, (name, sql_type))| {
                        (name, format!("pg_catalog.unnest(${place}::{sql_type}[])"))
                    })
                    .unzip();
                format!("rows from ({}) as b ({})", arrays.join(", "), names.join(", "))
            }
        }
    }
}

impl Copied {
    fn new(route: &Route) -> Self {
        let columns: Vec<String> = columns(route)
            .into_iter()
            .map(|(name, sql_type)| format!("{name} {sql_type}"))
            .collect();
        // The name must be each object's own, and another one when its columns are others: the session outlives a plan.
        let mut hash = std::hash::DefaultHasher::new();
        (&route.object.name, &columns).hash(&mut hash);
        let table = format!("pg_temp.schoolbell_{:016x}", hash.finish());
        Self {
            create: format!(
                "create temporary table if not exists {table} (\n{}\n) on commit delete rows",
                columns.join(",\n")
            ),
            copy: format!("copy {table} from stdin (format binary)"),
            write: Write::new(route, &From::Table(table)),
        }
    }
}

/// Names and types of the batch's columns.
fn columns(route: &Route) -> Vec<(String, String)> {
    let mut columns = vec![
        ("key".to_string(), "pg_catalog.text".to_string()),
        ("external_id".to_string(), route.external_id_type.to_string()),
    ];
    let fields = route.columns.iter().enumerate();
    columns
        .extend(fields.map(|(index, column)| (format!("f{index}"), column.sql_type.to_string())));
    let parents = route.parents.iter().enumerate();
    columns
        .extend(parents.map(|(index, parent)| (format!("p{index}"), parent.sql_type.to_string())));
    columns
}

/// The batch as rows, gated: what must wait, and for which parent.
fn gated(route: &Route, from: &From) -> String {
    let waits: String = route
        .parents
        .iter()
        .enumerate()
        .map(|(index, parent)| {
            let key = format!("parent.{}", ident(&parent.external_id));
            format!(
                "\nwhen b.p{index} is not null and not exists (\nselect\nfrom {} as parent\nwhere {} \
                 and parent.sfid is not null\n) then {index}",
                parent.table,
                parent.sql_type.equal(&key, &format!("b.p{index}"))
            )
        })
        .collect();
    let gate = match waits.is_empty() {
        true => "null::pg_catalog.int4".to_string(),
        false => format!("case{waits}\nend"),
    };
    // A table can be read again as it is; what was computed should not be computed again.
    let kept = match (from, waits.is_empty()) {
        (From::Table(_), true) => "not materialized",
        _ => "materialized",
    };
    format!("batch as {kept} (\nselect b.*, {gate} as parent\nfrom {}\n)", from.sql(route))
}

/// The rows that need a write, and whether the target lacks them. Rows that are right end here.
fn needed(route: &Route) -> String {
    let external_id = format!("t.{}", ident(&route.object.external_id));
    format!(
        "needed as materialized (\nselect batch.*, {external_id} is null as missing\nfrom batch\nleft join {} as t \
         on {}\nwhere batch.parent is null\nand (\n{external_id} is null or {}\n)\n)",
        route.object.target,
        route.external_id_type.equal(&external_id, "batch.external_id"),
        differs(route)
    )
}

/// A row that must wait for a parent, with the parent's key.
fn waiting(route: &Route) -> String {
    let keys: String = (0..route.parents.len())
        .map(|index| {
            let is_this = equal("batch.parent", &index.to_string());
            format!(" when {is_this} then batch.p{index}::pg_catalog.text")
        })
        .collect();
    let key = match keys.is_empty() {
        true => "null::pg_catalog.text".to_string(),
        false => format!("case{keys} end"),
    };
    format!(
        "select batch.key, 'waits' as outcome, batch.parent, {key} as parent_key\nfrom batch\nwhere batch.parent is not null"
    )
}

/// A row of an update-only object that Salesforce has not created yet.
const MISSING: &str =
    "select needed.key, 'waits', null, needed.key\nfrom needed\nwhere needed.missing";

/// Whether the target's row differs from the batch's in a compared column. Most are the same as they stand, which
/// costs far less to find out than what Salesforce would make of them.
fn differs(route: &Route) -> String {
    let compared: Vec<String> = route
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.field.compared)
        .map(|(index, column)| {
            let (t, b) = (format!("t.{}", ident(&column.field.column)), format!("batch.f{index}"));
            let formed = project::comparable(column, &t);
            let differs = match column.form {
                Form::Plain => differ(&formed, &b),
                Form::Time => format!("({} and {})", differ(&t, &b), differ(&formed, &b)),
                Form::Text(_) => {
                    // A collation that ignores the case would hide a difference.
                    let letters =
                        if column.sql_type.folds() { " collate pg_catalog.\"C\"" } else { "" };
                    let text = |value: &str| format!("({value})::pg_catalog.text{letters}");
                    let (t, b) = (text(&t), text(&b));
                    format!("({} and {})", differ(&t, &b), differ(&text(&formed), &b))
                }
            };
            match project::is_clear(column, &t) {
                Some(clear) => format!("({differs} and {clear})"),
                None => differs,
            }
        })
        .collect();
    match compared.is_empty() {
        true => "false".to_string(),
        false => compared.join("\nor "),
    }
}

fn update(route: &Route, locked: Locked) -> Option<String> {
    let set: Vec<String> = route
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| !column.field.insert_only)
        .map(|(index, column)| format!("{} = needed.f{index}", ident(&column.field.column)))
        .collect();
    if set.is_empty() {
        return None;
    }
    let free = match locked {
        Locked::Wait => String::new(),
        Locked::PassOver => format!("\njoin free on {}", equal("free.key", "needed.key")),
    };
    Some(format!(
        "update {} as t\nset {}\nfrom needed{free}\nwhere not needed.missing and {}\nreturning needed.key",
        route.object.target,
        set.join(",\n"),
        has_id(route, "needed.external_id"),
    ))
}

/// The rows to update that nobody else has locked; they are ours from now on.
fn free(route: &Route) -> String {
    format!(
        "free as materialized (\nselect needed.key\nfrom needed\njoin {} as t on {}\nwhere not needed.missing\n\
         for update of t skip locked\n)",
        route.object.target,
        has_id(route, "needed.external_id")
    )
}

/// Those that somebody has.
fn passed_over() -> String {
    format!(
        "select needed.key, 'locked', null, null\nfrom needed\nwhere not needed.missing\n\
         and not exists (select from free where {})",
        equal("free.key", "needed.key")
    )
}

fn insert(route: &Route) -> String {
    let mut columns = vec![ident(&route.object.external_id)];
    let mut values = vec!["needed.external_id".to_string()];
    for (index, column) in route.columns.iter().enumerate() {
        columns.push(ident(&column.field.column));
        values.push(format!("needed.f{index}"));
    }
    format!(
        "insert into {} ({})\nselect {}\nfrom needed\nwhere needed.missing\norder by needed.key\n\
         returning {}::pg_catalog.text as key",
        route.object.target,
        columns.join(", "),
        values.join(", "),
        ident(&route.object.external_id)
    )
}

/// One statement: its parts see the target as it was, so no row is both updated and inserted.
fn write(route: &Route, from: &From, locked: Locked) -> String {
    let mut steps = vec![gated(route, from), needed(route)];
    let mut results = vec![waiting(route)];
    if let Some(update) = update(route, locked) {
        if locked == Locked::PassOver {
            steps.push(free(route));
            results.push(passed_over());
        }
        steps.push(format!("updated as (\n{update}\n)"));
        results.push(done("updated"));
    }
    match route.object.update_only {
        true => results.push(MISSING.to_string()),
        false => {
            steps.push(format!("inserted as (\n{}\n)", insert(route)));
            results.push(done("inserted"));
        }
    }
    format!("with {}\n{}", steps.join(",\n"), results.join("\nunion all\n"))
}

fn done(step: &str) -> String {
    format!("select {step}.key, '{step}', null, null\nfrom {step}")
}

/// The same without writing.
fn compare(route: &Route) -> String {
    let would = |what: &str, which: &str| {
        format!("select needed.key, '{what}', null, null\nfrom needed\nwhere {which}")
    };
    let results = [
        waiting(route),
        would("updated", "not needed.missing"),
        match route.object.update_only {
            true => MISSING.to_string(),
            false => would("inserted", "needed.missing"),
        },
    ];
    format!(
        "with {},\n{}\n{}",
        gated(route, &From::Parameters),
        needed(route),
        results.join("\nunion all\n")
    )
}

fn lacking(route: &Route) -> String {
    format!(
        "select k.key\nfrom pg_catalog.unnest($1::pg_catalog.text[]) as k (key)\nwhere not exists (\nselect\n\
         from {} as t\nwhere {}\n)",
        route.object.target,
        has_id(route, &format!("k.key::{}", route.external_id_type))
    )
}

/// An update-only object's rows are Salesforce's own: that their source is gone changes nothing.
fn leave(route: &Route) -> Option<String> {
    match (route.object.update_only, route.object.on_delete) {
        (true, _) => None,
        (false, OnDelete::Keep) => Some(there(route)),
        (false, OnDelete::Delete) => Some(delete(route)),
    }
}

/// Those that nobody else has locked.
fn delete(route: &Route) -> String {
    let Object { target, external_id, .. } = &route.object;
    let (id, id_type) = (format!("t.{}", ident(external_id)), &route.external_id_type);
    let there = format!("select {id} as id\nfrom {target} as t\nwhere {}", has_key(route));
    // To lock a row takes the right to update it, which a role that only inserts and deletes does without.
    let lock = if update(route, Locked::Wait).is_some() { "\nfor update skip locked" } else { "" };
    let is_free = id_type.equal_any(&id, "select free.id from free");
    format!(
        "with free as materialized (\n{there}{lock}\n), deleted as (\n\
         delete from {target} as t\nwhere {is_free}\nreturning {id} as id\n)\n\
         select deleted.id::pg_catalog.text as key, 'deleted' as outcome\nfrom deleted\nunion all\n\
         select {id}::pg_catalog.text, 'locked'\nfrom {target} as t\nwhere {} and not {is_free}",
        has_key(route)
    )
}

fn there(route: &Route) -> String {
    format!(
        "select t.{}::pg_catalog.text as key, 'kept' as outcome\nfrom {} as t\nwhere {}",
        ident(&route.object.external_id),
        route.object.target,
        has_key(route)
    )
}

fn has_key(route: &Route) -> String {
    let (id, id_type) =
        (format!("t.{}", ident(&route.object.external_id)), &route.external_id_type);
    id_type.equal_any(&id, &format!("$1::pg_catalog.text[]::{id_type}[]"))
}

/// Whether a target row has this external id.
fn has_id(route: &Route, id: &str) -> String {
    route.external_id_type.equal(&format!("t.{}", ident(&route.object.external_id)), id)
}

/// For each thing a key of this route may wait for: the query that finds the ones that are there.
fn arrived(route: &Route) -> Vec<(String, String)> {
    let there = |table: &TableName, external_id: &str, sql_type: &SqlType, and: &str| {
        let has_id =
            sql_type.equal(&format!("t.{}", ident(external_id)), &format!("k.key::{sql_type}"));
        format!(
            "select k.key\nfrom pg_catalog.unnest($1::pg_catalog.text[]) as k (key)\nwhere exists (\nselect\n\
             from {table} as t\nwhere {has_id}{and}\n)"
        )
    };
    let parents = route.parents.iter().map(|parent| {
        let sfid = "\nand t.sfid is not null";
        let sql = there(&parent.table, &parent.external_id, &parent.sql_type, sfid);
        (Route::awaits_sfid(&parent.object), sql)
    });
    let object = &route.object;
    let own = object.update_only.then(|| {
        (
            route.awaits_row(),
            there(&object.target, &object.external_id, &route.external_id_type, ""),
        )
    });
    parents.chain(own).collect()
}

/// A value on its way through, in its binary form: both sides cast it to the same type.
#[derive(Debug, Clone, Copy)]
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Raw<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// Where the batch's columns are in a projected row.
fn places(route: &Route) -> Vec<usize> {
    let width = project::EXTERNAL_ID + 1 + route.columns.len() + route.parents.len();
    std::iter::once(0).chain(project::EXTERNAL_ID..width).collect()
}

/// The batch as one array per column.
fn columns_of<'a>(route: &Route, rows: &'a [Row]) -> Vec<Vec<Option<Raw<'a>>>> {
    let column = |place: usize| rows.iter().map(|row| row.get(place)).collect();
    places(route).into_iter().map(column).collect()
}

fn parameters<'a>(columns: &'a [Vec<Option<Raw<'_>>>]) -> Vec<&'a (dyn ToSql + Sync)> {
    columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect()
}

/// Sends rows in COPY's binary form: a header, then for each row its number of values and each value's length.
async fn copy_in(
    target: &Client,
    copy: &str,
    route: &Route,
    rows: &[Row],
) -> Result<(), tokio_postgres::Error> {
    let mut sink = pin!(target.copy_in::<_, Bytes>(copy).await?);
    let places = places(route);
    let mut part = BytesMut::with_capacity(2 * COPY_BYTES);
    part.put_slice(b"PGCOPY\n\xff\r\n\0");
    part.put_bytes(0, 8);
    for row in rows {
        part.put_i16(places.len() as i16);
        for &place in &places {
            match row.get::<_, Option<Raw<'_>>>(place) {
                Some(Raw(value)) => {
                    part.put_i32(value.len() as i32);
                    part.put_slice(value);
                }
                None => part.put_i32(-1),
            }
        }
        if part.len() >= COPY_BYTES {
            sink.send(part.split().freeze()).await?;
        }
    }
    part.put_i16(-1);
    sink.send(part.freeze()).await?;
    sink.finish().await.map(|_| ())
}
