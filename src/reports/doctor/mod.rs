//! `doctor`: checks everything that Schoolbell needs, and reports what is wrong and how to fix it.
//!
//! Promise: changes nothing, and sends one notice on our channel (the canary); no check ends
//! another one or waits for ever; what could not be checked is reported as such, never as OK. No
//! row contents, no secrets.

use std::time::Duration;

use futures_util::future::join;

use crate::config::{Config, Pace};
use crate::mapping::Mapping;

mod bell;
mod capture;
mod connection;
mod excess;
mod heroku_connect;
mod intruders;
mod lengths;
mod mapping_fit;
mod publications;
mod report;
mod rights;
mod server;
mod side;
mod slots;
mod table;
mod writing;

pub use report::{Check, Diagnosis, Place, Remedy, Report, Verdict};

use mapping_fit::Fit;
use report::Sheet;
use side::Side;

/// From when on something is reported.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long a transaction may last. While it does, the bell may stay unarmed and nothing is vacuumed; an
    /// application's own transactions take seconds.
    pub transaction: Duration,
    /// By how much clocks may differ: ages and `--since` are reported in seconds.
    pub clock: Duration,
    /// The share of the notification queue that may be filled.
    pub queue: f64,
    /// This many dead rows may be in the outbox: ten times the number at which autovacuum is due.
    pub dead_rows: i64,
    /// This much WAL, in bytes, may be kept for one replication slot: what a server keeps between two checkpoints unless it
    /// is set otherwise.
    pub slot_bytes: i64,
    /// This many transactions ago the oldest dead row of a catalogue may be kept for a slot that nobody uses: a
    /// twentieth of what a server allows before it vacuums everything.
    pub slot_transactions: i32,
    /// This many rows of each object are looked at for text that will be cut: a second's work.
    pub rows: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transaction: Duration::from_mins(5),
            clock: Duration::from_secs(2),
            queue: Pace::default().queue_warning,
            dead_rows: 500_000,
            slot_bytes: 1 << 30,
            slot_transactions: 10_000_000,
            rows: 200_000,
        }
    }
}

/// Carries out every check, in the order of the report. What must be fixed first comes first.
pub async fn examine(config: &Config, mapping: &Mapping, limits: &Limits) -> Report {
    // On the heap: the checks are large, and all of them are parts of one function.
    Box::pin(carry_out(config, mapping, limits)).await
}

async fn carry_out(config: &Config, mapping: &Mapping, limits: &Limits) -> Report {
    let (source, target) =
        join(Side::open(Place::Source, &config.source), Side::open(Place::Target, &config.target))
            .await;
    let (source, target) = (&source, &target);
    let mut sheet = Sheet::default();

    sheet.add("source_connection", "source", connection::reached(source)).await;
    sheet.add("target_connection", "target", connection::reached(target)).await;
    sheet.add("source_version", "source version", connection::version(source)).await;
    sheet.add("target_version", "target version", connection::version(target)).await;
    sheet.add("source_tls", "source encryption", connection::tls(source)).await;
    sheet.add("target_tls", "target encryption", connection::tls(target)).await;
    sheet.add("source_pooler", "source pooler", connection::source_pooler(source)).await;
    sheet.add("target_pooler", "target pooler", connection::target_pooler(target)).await;
    sheet.add("source_settings", "source settings", connection::settings(source)).await;
    sheet.add("target_settings", "target settings", connection::settings(target)).await;

    sheet.add("schema", "schema schoolbell", capture::schema(source)).await;
    let fit = &Fit::of(source, target, mapping).await;
    sheet.add("mapping_source", "mapping and source", fit.source_check()).await;
    sheet.add("mapping_target", "mapping and target", fit.target_check()).await;
    sheet.add("unique_keys", "unique external ids", fit.unique_check(target)).await;
    sheet.add("text_lengths", "lengths of text", lengths::check(source, target, fit, limits)).await;
    sheet.add("triggers", "capture triggers", capture::triggers(source, fit)).await;

    sheet.add("owners", "owners of the schema", intruders::owners(source, fit)).await;
    sheet.add("own_rights", "rights on the schema", intruders::rights(source)).await;
    sheet.add("source_creators", "who may create, source", intruders::creators(source, fit)).await;
    sheet.add("target_creators", "who may create, target", intruders::creators(target, fit)).await;

    sheet.add("bell_lock", "lock of the doorbell", intruders::bell(source)).await;
    sheet.add("canary", "canary through the bell", bell::canary(source)).await;
    sheet.add("notification_queue", "notification queue", bell::queue(source, limits)).await;
    sheet.add("target_queue", "notification queue, target", bell::queue(target, limits)).await;

    sheet.add("source_rights", "rights in the source", rights::source(source, fit)).await;
    sheet.add("target_rights", "rights in the target", rights::target(target, fit)).await;
    sheet.add("source_excess", "rights to spare, source", excess::source(source, fit)).await;
    sheet.add("target_excess", "rights to spare, target", excess::target(target, fit)).await;

    sheet.add("search_path", "search path", heroku_connect::search_path(target)).await;
    sheet
        .add("heroku_triggers", "Heroku Connect's triggers", heroku_connect::triggers(target, fit))
        .await;

    sheet
        .add("long_transactions", "long transactions", server::long_transactions(source, limits))
        .await;
    sheet
        .add("prepared_transactions", "prepared transactions", server::prepared(source, limits))
        .await;
    sheet.add("replication_slots", "replication slots", slots::check(source, limits)).await;
    sheet.add("publications", "publications", publications::check(source)).await;
    sheet.add("autovacuum", "autovacuum of the outbox", server::autovacuum(source, limits)).await;
    sheet.add("clocks", "clocks", server::clocks(source, target, limits)).await;

    sheet.add("pairing", "source and target", writing::pairing(source, target)).await;
    sheet.add("writer", "writer", writing::writer(source, target, mapping)).await;
    sheet.add("enabled", "writing allowed", writing::enabled(config.enabled)).await;
    sheet.report()
}
