//! When each object was last compared as a whole, and what was found.
//!
//! Promise: a sample is never taken for the whole. Sole owner of `schoolbell.verified`.

use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

use crate::postgres::db::Session;
use crate::postgres::failure::Failure;

const RECORD: &str = include_str!("../../sql/verified_record.sql");
const LAST: &str = include_str!("../../sql/verified_last.sql");

/// What a comparison of one object has found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Comparison {
    /// The object.
    pub object: String,
    /// Rows that the source publishes.
    pub rows: u64,
    /// Of them, those that are right.
    pub equal: u64,
    /// Keys that the target lacks.
    pub missing: u64,
    /// Keys whose rows differ.
    pub differing: u64,
    /// Target rows that should not be there.
    pub unexpected: u64,
    /// Rows that the source cannot compute.
    pub unreadable: u64,
    /// Target rows that stay although their source is gone (`on_delete = "keep"`).
    pub kept: u64,
    /// Keys with a change that is not applied yet.
    pub in_flight: u64,
    /// Parked keys, by what they wait for or why they are parked.
    pub parked: BTreeMap<String, u64>,
    /// When the first of the missing and differing rows was last changed: by then capture had begun
    /// to miss changes.
    pub since: Option<Timestamp>,
    /// Only a sample was compared, of about this many rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_of: Option<u64>,
}

impl Comparison {
    /// Whether there is something to fix.
    pub fn is_wrong(&self) -> bool {
        self.wrong() > 0
    }

    /// How many keys are to be fixed.
    pub fn wrong(&self) -> u64 {
        self.missing + self.differing + self.unexpected + self.unreadable
    }
}

/// The last comparison of an object.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// The object.
    pub object: String,
    /// When it had ended.
    pub verified_at: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// Rows that the source published.
    pub rows: i64,
    /// Of them, those that were right.
    pub equal: i64,
    /// Keys that the target lacked.
    pub missing: i64,
    /// Keys whose rows differed.
    pub differing: i64,
    /// Target rows that should not have been there.
    pub unexpected: i64,
    /// Rows that the source could not compute.
    pub unreadable: i64,
    /// Keys with a change that was not applied yet.
    pub in_flight: i64,
    /// Keys that were parked.
    pub parked: i64,
    /// Target rows that stay although their source is gone.
    pub kept: i64,
}

impl Verified {
    /// How many keys were to be fixed.
    pub fn wrong(&self) -> i64 {
        self.missing + self.differing + self.unexpected + self.unreadable
    }
}

/// Stores what a comparison has found; of a sample, nothing.
pub async fn record(source: &Session, verdict: &Comparison, seconds: f64) -> Result<(), Failure> {
    if verdict.sample_of.is_some() {
        return Ok(());
    }
    let parked = verdict.parked.values().sum();
    let counts = [
        verdict.rows,
        verdict.equal,
        verdict.missing,
        verdict.differing,
        verdict.unexpected,
        verdict.unreadable,
        verdict.in_flight,
        parked,
        verdict.kept,
    ]
    .map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let [rows, equal, missing, differing, unexpected, unreadable, in_flight, parked, kept] = counts;
    source
        .execute(
            RECORD,
            &[
                &verdict.object,
                &seconds,
                &rows,
                &equal,
                &missing,
                &differing,
                &unexpected,
                &unreadable,
                &in_flight,
                &parked,
                &kept,
            ],
        )
        .await?;
    Ok(())
}

/// The last comparison of each object that was ever compared.
pub async fn last(source: &Session) -> Result<Vec<Verified>, tokio_postgres::Error> {
    let rows = source.rows(LAST, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| Verified {
            object: row.get("object"),
            verified_at: row.get("verified_at"),
            seconds: row.get("seconds"),
            rows: row.get("rows"),
            equal: row.get("equal"),
            missing: row.get("missing"),
            differing: row.get("differing"),
            unexpected: row.get("unexpected"),
            unreadable: row.get("unreadable"),
            in_flight: row.get("in_flight"),
            parked: row.get("parked"),
            kept: row.get("kept"),
        })
        .collect())
}
