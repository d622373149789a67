//! Why one row is or is not in Salesforce, and what happens next.
//!
//! Reads both databases and changes neither. Follows one key along the flow line: its source row, its changes, what it
//! waits for, its target row, what Heroku Connect and Salesforce made of it; [`Explanation::conclude`] draws the
//! conclusion and asks no database.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use crate::mapping::OnDelete;
use crate::outbox::change::{self, Pending};
use crate::outbox::parked::{self, Choice, Parked};
use crate::plan::{Route, RouteParent};
use crate::postgres::db::{self, Evaluator, Session};
use crate::postgres::failure::{self, Failure};
use crate::postgres::name::{TableName, ident};
use crate::postgres::qualified::SqlType;
use crate::project::{self, Wanted};
use crate::reports::heroku_connect;

mod conclude;

pub use conclude::Conclusion;

/// Of Heroku Connect's log, this many entries of the row are reported: those that wait, and those that failed last.
const ENTRIES: i64 = 5;

/// Everything that is known of one key.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The object.
    pub object: String,
    /// The key, as the source writes it where the source has it.
    pub key: String,
    /// What the source has.
    pub source: SourceRow,
    /// Its changes that are not acknowledged.
    pub pending: PendingOf,
    /// The rows that Salesforce must know first.
    pub parents: Vec<ParentRow>,
    /// Why it is parked.
    pub parked: Option<Parked>,
    /// The same for the row that it waits for, and so on up: what holds that row back holds this
    /// one back.
    pub awaited: Option<Box<Explanation>>,
    /// Resyncs of the object that are not finished.
    pub resyncs: u64,
    /// The mapped table.
    pub target_table: String,
    /// The rows of the target with this external id: one at most, unless the unique index is missing.
    pub target: Vec<TargetRow>,
    /// Where a row was not found: keys that are almost written like the one that was looked for.
    pub near_misses: Vec<NearMiss>,
    /// What could not be read, and why.
    pub problems: Vec<String>,
    /// Whether anybody would apply a change.
    pub writer: bool,
    /// Triggers of the object's table that are not as the mapping needs them.
    pub capture_problems: Vec<String>,
    /// What becomes of rows that the source publishes no more.
    pub deletes: bool,
    /// Salesforce creates these rows.
    pub update_only: bool,
}

/// A key that differs from one that was looked for in nothing but capitals, or white space at the ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearMiss {
    /// The table that has it.
    pub table: String,
    /// The key that was looked for.
    pub wanted: String,
    /// The key that is there.
    pub there: String,
}

/// What the source has of a key.
#[derive(Debug, Clone, Serialize)]
pub struct SourceRow {
    /// The table.
    pub table: String,
    /// Whether its row is published.
    pub state: SourceState,
    /// How many source rows have this key; more than one where a `winner` decides.
    pub rows: i64,
    /// When the row was changed last, where the mapping names a column that tells.
    pub changed_at: Option<Timestamp>,
    /// What the target's columns should hold, in the order of the mapping.
    pub columns: Vec<ColumnValue>,
}

/// Whether a source row is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "why")]
pub enum SourceState {
    /// Its projection belongs into the target.
    Published,
    /// The mapping's filter leaves it out.
    LeftOut(String),
    /// There is no such row.
    Gone,
    /// The source refuses to read or project it.
    Unreadable(String),
}

/// A column of the target, with both its values as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnValue {
    /// The target column.
    pub column: String,
    /// What it should hold.
    pub source: Option<String>,
    /// Written when the row is inserted, and never again.
    pub insert_only: bool,
    /// Whether a difference in it makes the row be written.
    pub compared: bool,
}

/// Changes on their way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingOf {
    /// Changes of the row itself.
    pub changes: i64,
    /// When the oldest of them was made.
    pub oldest_at: Option<Timestamp>,
    /// Changes of other tables are on their way that touch it.
    pub touched: bool,
}

/// A row that Salesforce must know before this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParentRow {
    /// Its object.
    pub object: String,
    /// Its key; null: none is needed.
    pub key: Option<String>,
    /// Its mapped table.
    pub table: String,
    /// Whether the target has it.
    pub is_there: bool,
    /// Salesforce's id.
    pub sfid: Option<String>,
    /// What Heroku Connect says of it.
    pub lastop: Option<String>,
    /// Salesforce's reason, where it refused it.
    pub error: Option<String>,
}

/// A row of the target.
#[derive(Debug, Clone, Serialize)]
pub struct TargetRow {
    /// Heroku Connect's number of it.
    pub id: i64,
    /// Salesforce's id.
    pub sfid: Option<String>,
    /// `_hc_lastop`.
    pub lastop: Option<String>,
    /// `_hc_err`.
    pub error: Option<String>,
    /// The columns whose value is not what it should be, with what they hold.
    pub differing: Vec<Differing>,
    /// Entries of Heroku Connect's log for it that wait, and those that failed last; the newest first.
    pub log: Vec<LogEntry>,
}

/// A column of the target that holds something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Differing {
    /// The target column.
    pub column: String,
    /// What it holds.
    pub target: Option<String>,
}

/// An entry of Heroku Connect's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// Its number.
    pub id: i64,
    /// `NEW`, `PENDING` or `FAILED`.
    pub state: String,
    /// `INSERT`, `UPDATE` or `DELETE`.
    pub action: String,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Salesforce's answer.
    pub message: Option<String>,
}

/// What is known of the service and the triggers without asking a database.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Whether anybody would apply a change.
    pub writer: bool,
    /// Triggers that are not as the mapping needs them, in sentences.
    pub capture_problems: Vec<String>,
    /// Objects of the resyncs that are not finished.
    pub resyncs: Vec<String>,
}

/// Rows that wait for each other are followed this far.
const GENERATIONS: u32 = 16;

/// Follows a key through both databases, and the keys that it waits for. The routes are those of the object and of all
/// above it.
pub async fn explain(
    look: Subject<'_>,
    routes: &[&Route],
    key: &str,
    surroundings: &Surroundings,
) -> Result<Explanation, Failure> {
    generation(look, routes, key, surroundings, GENERATIONS).await
}

async fn generation(
    look: Subject<'_>,
    routes: &[&Route],
    key: &str,
    surroundings: &Surroundings,
    generations: u32,
) -> Result<Explanation, Failure> {
    let mut explanation = explain_one(look, key, surroundings).await?;
    let awaited = explanation.awaits().and_then(|(object, key)| {
        let route = routes.iter().find(|route| route.object.name == object)?;
        Some((*route, key.to_string()))
    });
    if let Some((route, key)) = awaited
        && generations > 0
    {
        let above =
            generation(Subject { route, ..look }, routes, &key, surroundings, generations - 1);
        explanation.awaited = Some(Box::new(Box::pin(above).await?));
    }
    Ok(explanation)
}

async fn explain_one(
    look: Subject<'_>,
    key: &str,
    surroundings: &Surroundings,
) -> Result<Explanation, Failure> {
    let route = look.route;
    let object = &route.object;
    let projected = look.projected(key).await?;
    let key = projected.key.clone();
    let mut parents = Vec::new();
    for (parent, parent_key) in route.parents.iter().zip(&projected.parents) {
        parents.push(look.parent(parent, parent_key.clone()).await?);
    }
    let mut problems = Vec::new();
    let rows = look.target_rows(&projected, &mut problems).await?;
    let source_row = look.source_row(&projected).await?;
    let near_misses = look.near_misses(&key, &source_row, &parents, &rows).await?;
    let table = object.source.plain();
    let capture_problems =
        surroundings.capture_problems.iter().filter(|problem| problem.contains(&table));
    let resyncs = surroundings.resyncs.iter().filter(|resynced| **resynced == object.name);
    Ok(Explanation {
        object: object.name.clone(),
        source: source_row,
        near_misses,
        pending: look.pending(&key).await?,
        parents,
        parked: look.parked(&key).await?,
        awaited: None,
        resyncs: resyncs.count() as u64,
        target_table: object.target.plain(),
        target: rows,
        problems,
        writer: surroundings.writer,
        capture_problems: capture_problems.cloned().collect(),
        deletes: object.on_delete == OnDelete::Delete,
        update_only: object.update_only,
        key,
    })
}

/// A source row that takes longer to read is not waited for; the answer says so.
const READING_LIMIT: Duration = Duration::from_secs(15);

/// Where to look, and for which object.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The source, for our own tables.
    pub source: &'a Session,
    /// The source, for the mapping's expressions.
    pub evaluator: &'a Evaluator,
    /// The target.
    pub target: &'a Session,
    /// The object.
    pub route: &'a Route,
}

/// What the source has for a key.
struct Projection {
    key: String,
    /// None: absent.
    values: Option<Vec<Option<String>>>,
    parents: Vec<Option<String>>,
    /// Why it could not be read.
    refused: Option<String>,
}

impl Subject<'_> {
    async fn projected(&self, key: &str) -> Result<Projection, Failure> {
        let texts = |letter: char, count: usize| {
            let texts: Vec<String> =
                (0..count).map(|index| format!("o.{letter}{index}::pg_catalog.text")).collect();
            texts.join(", ")
        };
        let sql = format!(
            "select o.key, o.present, array[{}]::pg_catalog.text[] as values,\n\
             array[{}]::pg_catalog.text[] as parents\nfrom (\n{}\n) as o",
            texts('f', self.route.columns.len()),
            texts('p', self.route.parents.len()),
            project::statement(self.route)
        );
        let wanted = Wanted::of(vec![key.to_string()], self.route.touches.len());
        let absent = |refused: Option<String>| Projection {
            key: key.to_string(),
            values: None,
            parents: Vec::new(),
            refused,
        };
        let parameters = wanted.parameters();
        let found =
            self.evaluator.rows_within_briefly(READING_LIMIT, usize::MAX, &sql, &parameters).await;
        match found.map(Option::unwrap_or_default) {
            Ok(rows) => Ok(rows.first().map_or_else(|| absent(None), projection)),
            // What cannot be a key of this table is the key of no row in it.
            Err(error) if failure::is_unfit(&error) => match self.rows_with(key).await {
                Ok(0) | Err(_) => Ok(absent(None)),
                Ok(_) => Ok(absent(Some(Failure::from(error).to_string()))),
            },
            Err(error) => match Failure::from(error) {
                Failure::Reconnect(reason) => Err(Failure::Reconnect(reason)),
                refused => Ok(absent(Some(refused.to_string()))),
            },
        }
    }

    /// How many source rows have this key.
    async fn rows_with(&self, key: &str) -> Result<i64, tokio_postgres::Error> {
        let sql = format!(
            "select count(*) from {} as source where {}",
            self.route.object.source,
            self.has_key()
        );
        Ok(self.source.row(&sql, &[&key]).await?.get(0))
    }

    /// Whether a source row has the key that is asked for.
    fn has_key(&self) -> String {
        let key = format!("source.{}", ident(&self.route.object.key));
        self.route.key_type.same_key(&key, &format!("$1::text::{}", self.route.key_type))
    }

    async fn source_row(&self, projected: &Projection) -> Result<SourceRow, Failure> {
        let object = &self.route.object;
        let rows = match self.rows_with(&projected.key).await {
            Err(error) if failure::is_unfit(&error) => 0,
            rows => rows?,
        };
        let state = match (&projected.refused, &projected.values, rows) {
            (Some(refused), ..) => SourceState::Unreadable(refused.clone()),
            (None, Some(_), _) => SourceState::Published,
            (None, None, 0) => SourceState::Gone,
            (None, None, _) => SourceState::LeftOut(object.filter.clone().unwrap_or_default()),
        };
        let values = projected.values.iter().flatten();
        let columns = self.route.columns.iter().zip(values).map(|(column, value)| ColumnValue {
            column: column.field.column.clone(),
            source: value.clone(),
            insert_only: column.field.insert_only,
            compared: column.field.compared,
        });
        let changed_at = match rows {
            0 => None,
            _ => self.changed_at(&projected.key).await?,
        };
        Ok(SourceRow {
            table: object.source.plain(),
            state,
            rows,
            changed_at,
            columns: columns.collect(),
        })
    }

    async fn changed_at(&self, key: &str) -> Result<Option<Timestamp>, Failure> {
        let object = &self.route.object;
        let Some(since) = &object.since else { return Ok(None) };
        let sql = format!(
            "select max({}) from {} as source where {}",
            project::changed_at(since),
            object.source,
            self.has_key()
        );
        Ok(self.source.row(&sql, &[&key]).await?.get(0))
    }

    async fn pending(&self, key: &str) -> Result<PendingOf, Failure> {
        let object = &self.route.object;
        let Pending { changes, oldest } = change::pending_of(self.source, object, key).await?;
        let mut wanted = Wanted::none(self.route.touches.len());
        let mut touched = false;
        for (touch, recorded) in self.route.touches.iter().zip(&mut wanted.touches) {
            match change::touching(self.source, &object.name, &touch.table).await? {
                Some(keys) => *recorded = keys,
                None => touched = true,
            }
        }
        if !touched && !wanted.is_empty() {
            let resolve = project::resolve_statement(self.route);
            let keys = project::resolve(self.evaluator, &resolve, &wanted).await?;
            touched = keys.iter().any(|touched| touched == key);
        }
        Ok(PendingOf { changes, oldest_at: oldest, touched })
    }

    async fn parked(&self, key: &str) -> Result<Option<Parked>, Failure> {
        let (objects, keys) = ([self.route.object.name.clone()], [key.to_string()]);
        let choice = Choice { objects: Some(&objects), keys: Some(&keys), state: None };
        Ok(parked::list(self.source, choice, None, 1).await?.pop())
    }

    async fn parent(
        &self,
        parent: &RouteParent,
        key: Option<String>,
    ) -> Result<ParentRow, Failure> {
        let sql = format!(
            "select t.sfid::text as sfid, t._hc_lastop::text as lastop, t._hc_err as error\nfrom {} as t\n\
             where t.{} = $1::text::{}\norder by t.sfid is null\nlimit 1",
            parent.table,
            ident(&parent.external_id),
            parent.sql_type
        );
        let row = match &key {
            Some(key) => failure::none_if_unfit(self.target.rows(&sql, &[key]).await)?.pop(),
            None => None,
        };
        Ok(ParentRow {
            object: parent.object.clone(),
            key,
            table: parent.table.plain(),
            is_there: row.is_some(),
            sfid: row.as_ref().and_then(|row| row.get("sfid")),
            lastop: row.as_ref().and_then(|row| row.get("lastop")),
            error: row.as_ref().and_then(|row| row.get("error")),
        })
    }

    async fn target_rows(
        &self,
        projected: &Projection,
        problems: &mut Vec<String>,
    ) -> Result<Vec<TargetRow>, Failure> {
        let object = &self.route.object;
        let value = |form: bool| {
            let values = self.route.columns.iter().map(|column| {
                let value = format!("t.{}", ident(&column.field.column));
                match form {
                    true => format!("({})::text", project::comparable(column, &value)),
                    false => format!("{value}::text"),
                }
            });
            values.collect::<Vec<_>>().join(", ")
        };
        let sql = format!(
            "select t.id::int8 as id, t.sfid::text as sfid, t._hc_lastop::text as lastop, t._hc_err as error,\n\
             array[{}]::text[] as values, array[{}]::text[] as formed\nfrom {} as t\nwhere t.{} = $1::text::{}\n\
             order by t.id",
            value(false),
            value(true),
            object.target,
            ident(&object.external_id),
            self.route.external_id_type
        );
        let rows = failure::none_if_unfit(self.target.rows(&sql, &[&projected.key]).await)?;
        let mut found = Vec::new();
        for row in rows {
            let id = row.get("id");
            let log = match self.log(id).await {
                Ok(log) => log,
                Err(error) => {
                    let log = heroku_connect::log(object).plain();
                    problems.push(format!("cannot read {log}: {}", failure::chain(&error)));
                    Vec::new()
                }
            };
            found.push(TargetRow {
                id,
                sfid: row.get("sfid"),
                lastop: row.get("lastop"),
                error: row.get("error"),
                differing: self.differing(projected, &row),
                log,
            });
        }
        Ok(found)
    }

    fn differing(&self, projected: &Projection, row: &Row) -> Vec<Differing> {
        let Some(wanted) = &projected.values else { return Vec::new() };
        let raw: Vec<Option<String>> = row.get("values");
        let formed: Vec<Option<String>> = row.get("formed");
        let columns = self.route.columns.iter().zip(wanted).zip(raw).zip(formed);
        let differing = columns.filter_map(|(((column, wanted), raw), formed)| {
            let differs = column.field.compared
                && raw != *wanted
                && formed != *wanted
                && !project::is_masked(column, raw.as_deref());
            differs.then(|| Differing { column: column.field.column.clone(), target: raw })
        });
        differing.collect()
    }

    /// Keys that are almost written like those that were not found.
    async fn near_misses(
        &self,
        key: &str,
        source_row: &SourceRow,
        parents: &[ParentRow],
        rows: &[TargetRow],
    ) -> Result<Vec<NearMiss>, Failure> {
        let Self { route, source, target, .. } = *self;
        let object = &route.object;
        let mut near = Vec::new();
        if source_row.state == SourceState::Gone {
            let column = (&object.source, object.key.as_str(), &route.key_type);
            near.extend(near_miss(source, column, key).await?);
        } else if rows.is_empty() {
            let column = (&object.target, object.external_id.as_str(), &route.external_id_type);
            near.extend(near_miss(target, column, key).await?);
        }
        for (parent, found) in route.parents.iter().zip(parents) {
            if let Some(key) = found.key.as_ref().filter(|_| !found.is_there) {
                let column = (&parent.table, parent.external_id.as_str(), &parent.sql_type);
                near.extend(near_miss(target, column, key).await?);
            }
        }
        Ok(near)
    }

    async fn log(&self, record: i64) -> Result<Vec<LogEntry>, tokio_postgres::Error> {
        let sql = format!(
            "select e.id::int8 as id, e.state::text as state, e.action::text as action, e.created_at, e.sf_message\n\
             from {} as e\nwhere e.table_name = $1 and e.record_id = $2 and e.state in ('NEW', 'PENDING', 'FAILED')\n\
             order by e.id desc\nlimit {ENTRIES}",
            heroku_connect::log(&self.route.object)
        );
        let rows = self.target.rows(&sql, &[&self.route.object.target.table, &record]).await?;
        let entries = rows.iter().map(|row| LogEntry {
            id: row.get("id"),
            state: row.get("state"),
            action: row.get::<_, Option<String>>("action").unwrap_or_default(),
            created_at: db::moment(row, "created_at"),
            message: row.get("sf_message"),
        });
        Ok(entries.collect())
    }
}

/// Looks through a whole table, because no index ignores capitals.
async fn near_miss(
    session: &Session,
    (table, column, sql_type): (&TableName, &str, &SqlType),
    wanted: &str,
) -> Result<Option<NearMiss>, Failure> {
    if !sql_type.is_text() {
        return Ok(None);
    }
    let there = format!("t.{}::pg_catalog.text collate pg_catalog.\"C\"", ident(column));
    let folded =
        |text: &str| format!("pg_catalog.lower({} collate \"default\")", project::trimmed(text));
    let sql = format!(
        "select {there}\nfrom {table} as t\nwhere {} = {} and {there} <> $1::text\nlimit 1",
        folded(&format!("t.{}", ident(column))),
        folded("$1::text")
    );
    let found = failure::none_if_unfit(session.rows(&sql, &[&wanted]).await)?.pop();
    Ok(found.map(|row| NearMiss {
        table: table.plain(),
        wanted: wanted.to_string(),
        there: row.get(0),
    }))
}

fn projection(row: &Row) -> Projection {
    let present = row.get::<_, Option<bool>>("present").is_some();
    Projection {
        key: row.get("key"),
        values: present.then(|| row.get("values")),
        parents: if present { row.get("parents") } else { Vec::new() },
        refused: None,
    }
}
