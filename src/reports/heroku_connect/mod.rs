//! What Heroku Connect and Salesforce have made of our rows: their own columns of the mapped tables, and Heroku
//! Connect's log.
//!
//! Promise: what the role may not read, or what takes too long, is named in a sentence, and
//! everything else is still reported. Only [`cure`] writes, on request.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::mapping::{Mapping, Object};
use crate::postgres::catalogue::Table;
use crate::postgres::db::{self, Session};
use crate::postgres::failure;
use crate::postgres::name::{TableName, ident};
use crate::project;

pub mod cure;

/// Of the rows that Salesforce refused, this many are listed for each object.
const LISTED: i64 = 20;
/// Salesforce's reasons are a sentence or two.
const ERROR_CHARS: usize = 200;
/// This many of an object's latest accepted writes are timed.
const TIMED: i64 = 1_000;
/// They are looked for among this many of the log's latest, which bounds the look where an object is seldom written.
const LOOKED_THROUGH: i64 = 20_000;
/// A row whose own time is older than this was resynced, or it waited: how long it took cannot be
/// seen.
const LONGEST_WAY_SECONDS: f64 = 3_600.0;
/// The application's clock may be ahead of the target's by this much.
const CLOCK_SLACK_SECONDS: f64 = 5.0;

/// Rows that Salesforce has as they are.
const SYNCED: [&str; 3] = ["SYNCED", "INSERTED", "UPDATED"];
/// Rows that Salesforce refused.
pub const FAILED: &str = "FAILED";

/// What became of one object's rows behind the target.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Mirror {
    /// The object.
    pub object: String,
    /// Its mapped table.
    pub table: String,
    /// Rows with an external id by `_hc_lastop`; rows without one are counted as `none`.
    pub rows: BTreeMap<String, i64>,
    /// The first of the rows that Salesforce refused.
    pub failed: Vec<Failed>,
    /// Entries of the log that Heroku Connect has not processed.
    pub unsent: Option<Unsent>,
    /// From the write of a row to Salesforce's answer, of the latest ones.
    pub answered: Option<Latency>,
    /// From the application's own time of a change to Salesforce's answer, as far as the rows tell.
    pub synced: Option<Latency>,
    /// What could not be reported, and why.
    pub problems: Vec<String>,
}

/// A row that Salesforce refused.
#[derive(Debug, Clone, Serialize)]
pub struct Failed {
    /// The external id.
    pub key: String,
    /// Salesforce's id, where it knew the row before.
    pub sfid: Option<String>,
    /// Salesforce's reason, shortened.
    pub error: Option<String>,
}

/// Entries of the log that wait for Heroku Connect.
#[derive(Debug, Clone, Serialize)]
pub struct Unsent {
    /// How many.
    pub entries: i64,
    /// When the oldest was made.
    pub oldest_at: Option<Timestamp>,
    /// Its age; 0 when there is none.
    pub oldest_seconds: f64,
}

/// How long the latest rows took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// How many were timed.
    pub rows: usize,
    /// Half of them took at most this long.
    pub median_seconds: f64,
    /// All but one in a hundred took at most this long.
    pub p99_seconds: f64,
}

impl Mirror {
    /// How many rows Salesforce refused.
    pub fn failed_rows(&self) -> i64 {
        self.rows.get(FAILED).copied().unwrap_or(0)
    }

    /// How many rows Salesforce has as they are.
    pub fn synced_rows(&self) -> i64 {
        SYNCED.iter().filter_map(|state| self.rows.get(*state)).sum()
    }

    /// How many rows are on their way to Salesforce.
    pub fn pending_rows(&self) -> i64 {
        self.rows.get("PENDING").copied().unwrap_or(0)
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, median_seconds, p99_seconds } = self;
        write!(f, "{median_seconds:.1} s (median), {p99_seconds:.1} s (p99) of the last {rows}")
    }
}

/// Looks at every object. Reads each mapped table once: on tables of millions this takes seconds.
pub async fn collect(source: &Session, target: &Session, mapping: &Mapping) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for object in &mapping.objects {
        let mut mirror = Mirror {
            object: object.name.clone(),
            table: object.target.plain(),
            ..Mirror::default()
        };
        let look = ObjectReader { source, target, object };
        let table = object.target.plain();
        let log = log(object).plain();
        keep(&mut mirror.problems, &table, look.rows().await, |rows| mirror.rows = rows);
        if mirror.rows.contains_key(FAILED) {
            keep(&mut mirror.problems, &table, look.failed().await, |rows| mirror.failed = rows);
        }
        keep(&mut mirror.problems, &log, look.unsent().await, |unsent| {
            mirror.unsent = Some(unsent);
        });
        let mut written = Vec::new();
        keep(&mut mirror.problems, &log, look.written().await, |rows| written = rows);
        mirror.answered = way(written.iter().map(|row| seconds(row.at, row.answered)).collect());
        let source = object.source.plain();
        keep(&mut mirror.problems, &source, look.changed(&written).await, |changed| {
            mirror.synced = way(since_the_change(&written, &changed));
        });
        mirrors.push(mirror);
    }
    mirrors
}

/// Keeps the result, or the reason why there is none; the same reason is reported once.
fn keep<T>(
    problems: &mut Vec<String>,
    what: &str,
    found: Result<T, tokio_postgres::Error>,
    keep: impl FnOnce(T),
) {
    match found {
        Ok(found) => keep(found),
        Err(error) => {
            let problem = format!("cannot read {what}: {}", failure::chain(&error));
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
}

/// Heroku Connect's log, beside the mapped table.
pub fn log(object: &Object) -> TableName {
    TableName { schema: object.target.schema.clone(), table: "_trigger_log".into() }
}

struct ObjectReader<'a> {
    source: &'a Session,
    target: &'a Session,
    object: &'a Object,
}

impl ObjectReader<'_> {
    async fn rows(&self) -> Result<BTreeMap<String, i64>, tokio_postgres::Error> {
        let Object { target, external_id, .. } = self.object;
        let sql = format!(
            "select coalesce(t._hc_lastop, 'none')::text as state, count(*) as rows\nfrom {target} as t\n\
             where t.{} is not null\ngroup by 1",
            ident(external_id)
        );
        let rows = self.target.rows(&sql, &[]).await?;
        Ok(rows.iter().map(|row| (row.get("state"), row.get("rows"))).collect())
    }

    async fn failed(&self) -> Result<Vec<Failed>, tokio_postgres::Error> {
        let Object { target, external_id, .. } = self.object;
        let sql = format!(
            "select t.{0}::text as key, t.sfid::text as sfid, t._hc_err as error\nfrom {target} as t\n\
             where t._hc_lastop = '{FAILED}' and t.{0} is not null\norder by t.{0}\nlimit {LISTED}",
            ident(external_id)
        );
        let rows = self.target.rows(&sql, &[]).await?;
        Ok(rows.iter().map(cure::failed).collect())
    }

    async fn unsent(&self) -> Result<Unsent, tokio_postgres::Error> {
        let sql = format!(
            "select count(*) as entries, min(entry.created_at) filter (where is_time) as oldest, \
             pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - min(entry.created_at) filter (where is_time)) \
             as seconds\nfrom {} as entry\ncross join lateral (select pg_catalog.isfinite(entry.created_at)) as finite \
             (is_time)\nwhere entry.state in ('NEW', 'PENDING') and entry.table_name = $1",
            log(self.object)
        );
        let row = self.target.row(&sql, &[&self.object.target.table]).await?;
        Ok(Unsent {
            entries: row.get("entries"),
            oldest_at: db::moment(&row, "oldest"),
            oldest_seconds: row.get::<_, Option<f64>>("seconds").unwrap_or(0.0).max(0.0),
        })
    }

    /// The latest rows that were written and that Salesforce accepted.
    async fn written(&self) -> Result<Vec<AcceptedWrite>, tokio_postgres::Error> {
        let Object { target, external_id, .. } = self.object;
        let sql = format!(
            "select t.{0}::text as key, max(entry.created_at) as written, max(entry.processed_at) as answered\nfrom (\n\
             select latest.*\nfrom (\nselect e.table_name, e.action, e.record_id, e.created_at, e.processed_at\n\
             from {1} as e\nwhere e.state = 'SUCCESS'\norder by e.id desc\nlimit {LOOKED_THROUGH}\n) as latest\n\
             where latest.table_name = $1 and latest.action in ('INSERT', 'UPDATE') and pg_catalog.isfinite(latest.processed_at)\n\
             limit {TIMED}\n) as entry\njoin {target} as t on t.id = entry.record_id\nwhere t.{0} is not null\ngroup by 1",
            ident(external_id),
            log(self.object)
        );
        let rows = self.target.rows(&sql, &[&self.object.target.table]).await?;
        let written = rows.iter().filter_map(|row| {
            let (at, answered) = (db::moment(row, "written")?, db::moment(row, "answered")?);
            Some(AcceptedWrite { key: row.get("key"), at, answered })
        });
        Ok(written.collect())
    }

    /// When the application changed these rows last, where the mapping names a column that tells.
    async fn changed(
        &self,
        written: &[AcceptedWrite],
    ) -> Result<HashMap<String, Timestamp>, tokio_postgres::Error> {
        let table = Table::read(self.source, &self.object.source).await?;
        let key = table.as_ref().and_then(|table| table.column(&self.object.key));
        let (Some(since), Some(key)) = (&self.object.since, key) else {
            return Ok(HashMap::new());
        };
        let keys: Vec<&str> = written.iter().map(|row| row.key.as_str()).collect();
        let name = format!("source.{}", ident(&key.name));
        let changed = |condition: &str| {
            format!(
                "select {name}::text as key, max({}) as changed\nfrom {} as source\n\
                 where {condition}\ngroup by 1",
                project::changed_at(since),
                self.object.source
            )
        };
        let keys_typed = format!("$1::text[]::{}[]", key.sql_type);
        let typed = changed(&key.sql_type.equal_any(&name, &keys_typed));
        let rows = match self.source.rows(&typed, &[&keys]).await {
            // Some rows have ids that cannot be a key of ours. Compared as text none of them fails,
            // but no index is used.
            Err(error) if failure::is_unfit(&error) => {
                self.source.rows(&changed(&format!("{name}::text = any ($1)")), &[&keys]).await?
            }
            rows => rows?,
        };
        let changed = rows
            .iter()
            .filter_map(|row| Some((row.get("key"), row.get::<_, Option<Timestamp>>("changed")?)));
        Ok(changed.collect())
    }
}

/// A row's latest write that Salesforce accepted.
struct AcceptedWrite {
    key: String,
    at: Timestamp,
    answered: Timestamp,
}

/// The times of the rows whose own timestamp belongs to this very write.
fn since_the_change(written: &[AcceptedWrite], changed: &HashMap<String, Timestamp>) -> Vec<f64> {
    let timed = written.iter().filter_map(|row| {
        let changed = *changed.get(&row.key)?;
        let seen = (-CLOCK_SLACK_SECONDS..LONGEST_WAY_SECONDS).contains(&seconds(changed, row.at));
        seen.then(|| seconds(changed, row.answered))
    });
    timed.collect()
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn way(mut seconds: Vec<f64>) -> Option<Latency> {
    seconds.sort_by(f64::total_cmp);
    // The nearest rank: a time that a row really took.
    let rank = |share: f64| (share * seconds.len() as f64).ceil() as usize;
    let at = |share: f64| Some(seconds.get(rank(share).max(1) - 1)?.max(0.0));
    Some(Latency { rows: seconds.len(), median_seconds: at(0.5)?, p99_seconds: at(0.99)? })
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(ERROR_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_rows_take_the_median_and_one_in_a_hundred_longer_than_the_p99() {
        let ways = (1..=200).rev().map(f64::from).collect();
        let wanted = Latency { rows: 200, median_seconds: 100.0, p99_seconds: 198.0 };
        assert_eq!(way(ways), Some(wanted));
        assert_eq!(way(vec![3.0]).unwrap().p99_seconds, 3.0);
        assert_eq!(way(Vec::new()), None);
    }

    #[test]
    fn a_row_that_was_changed_long_before_its_write_was_resynced_and_tells_no_time() {
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let row = |key: &str| AcceptedWrite { key: key.into(), at: at(0), answered: at(10) };
        let written = ["fresh", "resynced", "changed again", "unknown"].map(row);
        let changed = HashMap::from([
            ("fresh".to_string(), at(-2)),
            ("resynced".to_string(), at(-4_000)),
            ("changed again".to_string(), at(60)),
        ]);
        assert_eq!(since_the_change(&written, &changed), [12.0]);
    }
}
