//! What is counted and timed while the service works, and the name of every metric.
//!
//! Promise: counting costs a few atomic additions per batch and asks no database. What only the
//! databases know (lag, pending, parked) is not counted here: [`crate::reports::look`] reads it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A metric as it is documented.
#[derive(Debug)]
pub struct Definition {
    /// The name, with its unit, as it is scraped (a histogram's has further endings).
    pub name: &'static str,
    /// Counter, gauge, histogram or info.
    pub kind: MetricType,
    /// The labels of each series.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence without its full stop.
    pub help: &'static str,
}

impl Definition {
    const fn new(
        kind: MetricType,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind, labels, help }
    }

    /// The name without the ending that its kind adds in the exposition.
    pub fn family(&self) -> &'static str {
        let ending = match self.kind {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            _ => "",
        };
        self.name.strip_suffix(ending).expect("the name ends as its kind demands")
    }
}

macro_rules! definitions {
    ($($constant:ident = $kind:ident $name:literal $labels:tt $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Definition =
                Definition::new(MetricType::$kind, $name, &$labels, $help);
        )*
        /// Every metric, in the order of the exposition and of docs/metrics.md.
        pub const ALL: &[Definition] = &[$($constant),*];
    };
}

definitions! {
    BUILD_INFO = Info "schoolbell_build_info" ["version"]
        "The program's version";
    ENABLED = Gauge "schoolbell_enabled" []
        "1 when SALESFORCE_ENABLED lets this process write";
    ROLE = Gauge "schoolbell_role" ["role"]
        "1 for what this process is: starting, writer, standby, interrupted or disabled";
    INTERRUPTIONS = Counter "schoolbell_interruptions_total" []
        "How often the service was interrupted (a lost connection, a restart); it reconnects each time";
    BELL_LISTENING = Gauge "schoolbell_bell_listening" []
        "1 while notices are received; 0 while the outbox is polled";
    BELL_ARMED = Gauge "schoolbell_bell_armed" []
        "1 while the service sleeps and writers notify";
    NOTICES = Counter "schoolbell_notices_total" ["kind"]
        "Notices received, by operation, or by what is wrong with those of other senders";
    BATCHES = Counter "schoolbell_batches_total" []
        "Batches acknowledged";
    CLAIMED_CHANGES = Gauge "schoolbell_claimed_changes" []
        "Changes that are claimed and not yet acknowledged";
    ACKNOWLEDGED_CHANGES = Counter "schoolbell_acknowledged_changes_total" []
        "Changes that left the outbox: applied, equal, or their keys parked";
    APPLIED_KEYS = Counter "schoolbell_applied_keys_total" ["object"]
        "Keys that were applied: written, deleted, kept, or found equal";
    EQUAL_KEYS = Counter "schoolbell_equal_keys_total" ["object"]
        "Keys whose target row was already right";
    WRITTEN_ROWS = Counter "schoolbell_written_rows_total" ["object"]
        "Target rows inserted or updated";
    DELETED_ROWS = Counter "schoolbell_deleted_rows_total" ["object"]
        "Target rows deleted";
    KEPT_ROWS = Counter "schoolbell_kept_rows_total" ["object"]
        "Target rows kept although their source is gone";
    PARKINGS = Counter "schoolbell_parkings_total" ["object", "state"]
        "How often a key was parked as waiting, retrying or dead";
    STEP_SECONDS = Histogram "schoolbell_step_seconds" ["step"]
        "How long a batch took in each step: claim, project, apply, acknowledge";
    DELIVERY_SECONDS = Histogram "schoolbell_delivery_seconds" []
        "From the statement that made a change until the batch with it was committed in the target";
    FAILED_RESYNCS = Counter "schoolbell_failed_resyncs_total" []
        "Resyncs that could not continue and ended as failed";
    LOOK_AGE_SECONDS = Gauge "schoolbell_look_age_seconds" []
        "Age of the last successful look at the databases; the metrics that follow are from then";
    LOOK_DURATION_SECONDS = Gauge "schoolbell_look_duration_seconds" []
        "How long that look took";
    DATABASE_UP = Gauge "schoolbell_database_up" ["database"]
        "1 when the last look reached the database: source or target";
    LAG_SECONDS = Gauge "schoolbell_lag_seconds" []
        "Age of the oldest change in the outbox; 0 when nothing is pending";
    PENDING_CHANGES = Gauge "schoolbell_pending_changes" []
        "Changes in the outbox";
    WRITERS = Gauge "schoolbell_writers" []
        "1 when a process holds the writer's lock";
    LOCK_STRANGERS = Gauge "schoolbell_lock_strangers" ["lock"]
        "Sessions that are not Schoolbell's and hold one of its locks: writer or bell";
    NOTIFICATION_QUEUE_RATIO = Gauge "schoolbell_notification_queue_ratio" []
        "How full the source's queue of notices is, from 0 to 1; from 0.5 on the triggers do not notify";
    CAPTURE_PROBLEMS = Gauge "schoolbell_capture_problems" []
        "Triggers that are not as the mapping needs them";
    MAPPING_PROBLEMS = Gauge "schoolbell_mapping_problems" []
        "Tables and columns of the mapping that a database lacks";
    PARKED_KEYS = Gauge "schoolbell_parked_keys" ["object", "state"]
        "Parked keys";
    PARKED_OLDEST_SECONDS = Gauge "schoolbell_parked_oldest_seconds" ["object", "state"]
        "Age of the oldest parked key";
    RESYNC_ROWS = Gauge "schoolbell_resync_rows" ["resync", "object"]
        "Rows of an unfinished resync";
    RESYNC_DONE_ROWS = Gauge "schoolbell_resync_done_rows" ["resync", "object"]
        "Rows of it that are done";
    VERIFIED_AGE_SECONDS = Gauge "schoolbell_verified_age_seconds" ["object"]
        "Age of the last comparison of all rows of an object, by any process";
    VERIFIED_ROWS = Gauge "schoolbell_verified_rows" ["object"]
        "Rows that were compared in it";
    VERIFIED_WRONG_KEYS = Gauge "schoolbell_verified_wrong_keys" ["object"]
        "Keys that were wrong in it: missing, differing, unexpected, or unreadable";
    SALESFORCE_ROWS = Gauge "schoolbell_salesforce_rows" ["object", "state"]
        "Rows of the mapped tables by what Heroku Connect says of them: SYNCED, PENDING, FAILED and others";
    SALESFORCE_UNSENT_ENTRIES = Gauge "schoolbell_salesforce_unsent_entries" ["object"]
        "Entries of Heroku Connect's log that it has not processed";
    SALESFORCE_UNSENT_OLDEST_SECONDS = Gauge "schoolbell_salesforce_unsent_oldest_seconds" ["object"]
        "Age of the oldest of them";
    SALESFORCE_ANSWER_SECONDS = Gauge "schoolbell_salesforce_answer_seconds" ["object", "quantile"]
        "From the write of a row to Salesforce's answer, of the latest rows: the median and the 99th percentile";
}

/// The upper bounds of every histogram, in seconds: from less than a step takes to more than is
/// acceptable.
pub const BOUNDS: [f64; 18] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0, 3600.0,
];

/// A histogram that takes many equal values at once: a statement of 100,000 rows is one addition.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    /// Adds a value this many times.
    pub fn observe(&self, seconds: f64, times: u64) {
        let place = BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts[place].fetch_add(times, Ordering::Relaxed);
        let micros = (seconds * 1e6).round() as u64;
        self.micros.fetch_add(micros.saturating_mul(times), Ordering::Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let sum = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

/// Names and values of labels.
pub type Labels<const N: usize> = [(&'static str, String); N];

/// A step of the flow that is timed.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// What is due, read from the outbox.
    Claim,
    /// The rows as they are now; for a resync, the page with them.
    Project,
    /// Up to the commit in the target.
    Apply,
    /// Up to the commit in the source.
    Acknowledge,
}

impl Step {
    const ALL: [Self; 4] = [Self::Claim, Self::Project, Self::Apply, Self::Acknowledge];

    fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Project => "project",
            Self::Apply => "apply",
            Self::Acknowledge => "acknowledge",
        }
    }
}

/// The role of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It checks both databases.
    Starting,
    /// It writes.
    Writer,
    /// Another process writes.
    Standby,
    /// It was interrupted, and tries to continue.
    Interrupted,
    /// It may not write.
    Disabled,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::Starting, Self::Writer, Self::Standby, Self::Interrupted, Self::Disabled];

    /// The word for it, as in the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Writer => "writer",
            Self::Standby => "standby",
            Self::Interrupted => "interrupted",
            Self::Disabled => "disabled",
        }
    }
}

/// The role of this process, since when, and why.
#[derive(Debug, Clone)]
pub struct Standing {
    /// What it is.
    pub role: Role,
    /// Since when.
    pub since: Timestamp,
    /// Why it was interrupted.
    pub reason: Option<String>,
}

/// What is counted while the service works. Other modules set the public fields.
#[derive(Debug)]
pub struct Metrics {
    standing: Mutex<Standing>,
    /// See [`INTERRUPTIONS`].
    pub interruptions: Counter,
    /// See [`BELL_LISTENING`].
    pub bell_listening: Gauge,
    /// See [`BELL_ARMED`].
    pub bell_armed: Gauge,
    /// See [`NOTICES`].
    pub notices: Family<Labels<1>, Counter>,
    /// See [`BATCHES`].
    pub batches: Counter,
    /// See [`CLAIMED_CHANGES`].
    pub claimed_changes: Gauge,
    /// See [`ACKNOWLEDGED_CHANGES`].
    pub acknowledged_changes: Counter,
    /// See [`APPLIED_KEYS`].
    pub applied_keys: Family<Labels<1>, Counter>,
    /// See [`EQUAL_KEYS`].
    pub equal_keys: Family<Labels<1>, Counter>,
    /// See [`WRITTEN_ROWS`].
    pub written_rows: Family<Labels<1>, Counter>,
    /// See [`DELETED_ROWS`].
    pub deleted_rows: Family<Labels<1>, Counter>,
    /// See [`KEPT_ROWS`].
    pub kept_rows: Family<Labels<1>, Counter>,
    /// See [`PARKINGS`].
    pub parkings: Family<Labels<2>, Counter>,
    steps: [Histogram; Step::ALL.len()],
    /// See [`DELIVERY_SECONDS`].
    pub delivery: Histogram,
    /// See [`FAILED_RESYNCS`].
    pub failed_resyncs: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let standing = Standing { role: Role::Starting, since: Timestamp::now(), reason: None };
        Self {
            standing: Mutex::new(standing),
            interruptions: Counter::default(),
            bell_listening: Gauge::default(),
            bell_armed: Gauge::default(),
            notices: Family::default(),
            batches: Counter::default(),
            claimed_changes: Gauge::default(),
            acknowledged_changes: Counter::default(),
            applied_keys: Family::default(),
            equal_keys: Family::default(),
            written_rows: Family::default(),
            deleted_rows: Family::default(),
            kept_rows: Family::default(),
            parkings: Family::default(),
            steps: Default::default(),
            delivery: Histogram::default(),
            failed_resyncs: Counter::default(),
        }
    }
}

impl Metrics {
    /// The role of this process at this moment.
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the role; the time of the change is kept when it is the same.
    pub fn stands(&self, role: Role, reason: Option<String>) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.role != role {
            standing.since = Timestamp::now();
        }
        standing.role = role;
        standing.reason = reason;
    }

    /// Nothing is in hand, and nothing is heard.
    pub fn at_rest(&self) {
        self.claimed_changes.set(0);
        self.bell_is_silent();
    }

    /// Nothing is heard.
    pub fn bell_is_silent(&self) {
        self.bell_listening.set(0);
        self.bell_armed.set(0);
    }

    /// A notice of this kind was heard.
    pub fn notice(&self, kind: &'static str) {
        self.notices.get_or_create(&[("kind", kind.into())]).inc();
    }

    /// A step with a batch took this long.
    pub fn step(&self, step: Step, took: Duration) {
        self.steps[step as usize].observe(took.as_secs_f64(), 1);
    }

    /// The histograms of the steps.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        Step::ALL.iter().map(|step| step.name()).zip(&self.steps)
    }

    /// This many changes took this long until they were in the target. The times come from two machines' clocks, so less than zero counts as zero.
    pub fn delivered(&self, took: SignedDuration, changes: u64) {
        self.delivery.observe(took.as_secs_f64().max(0.0), changes);
    }

    /// A batch is done.
    pub fn acknowledged(&self, changes: u64) {
        self.batches.inc();
        self.acknowledged_changes.inc_by(changes);
    }

    /// What came of the keys of one object in a batch.
    pub fn settled(&self, object: &str, tally: &Tally) {
        let Tally { changes: _, written, equal, waiting, retrying, dead, deleted, kept } = *tally;
        let add = |family: &Family<Labels<1>, Counter>, keys: u64| {
            // A series begins when it has a value.
            if keys > 0 {
                family.get_or_create(&[("object", object.into())]).inc_by(keys);
            }
        };
        add(&self.applied_keys, written + equal + deleted + kept);
        add(&self.equal_keys, equal);
        add(&self.written_rows, written);
        add(&self.deleted_rows, deleted);
        add(&self.kept_rows, kept);
        for (state, keys) in [("waiting", waiting), ("retrying", retrying), ("dead", dead)] {
            if keys > 0 {
                let labels = [("object", object.into()), ("state", state.into())];
                self.parkings.get_or_create(&labels).inc_by(keys);
            }
        }
    }

    /// The sum over these objects.
    pub fn total(family: &Family<Labels<1>, Counter>, objects: &[String]) -> u64 {
        let of = |object: &String| Some(family.get(&[("object", object.clone())])?.get());
        objects.iter().filter_map(of).sum()
    }
}

/// What was done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Changes acknowledged.
    pub changes: u64,
    /// Target rows inserted or updated.
    pub written: u64,
    /// Keys that were right already.
    pub equal: u64,
    /// Keys parked as waiting.
    pub waiting: u64,
    /// Keys parked as retrying.
    pub retrying: u64,
    /// Keys parked as dead.
    pub dead: u64,
    /// Target rows deleted.
    pub deleted: u64,
    /// Target rows kept although their source is gone.
    pub kept: u64,
}

impl Tally {
    /// Adds what was done elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.written += other.written;
        self.equal += other.equal;
        self.waiting += other.waiting;
        self.retrying += other.retrying;
        self.dead += other.dead;
        self.deleted += other.deleted;
        self.kept += other.kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_s_name_has_our_prefix_and_the_ending_of_its_kind() {
        for definition in ALL {
            assert!(definition.name.starts_with("schoolbell_"), "{definition:?}");
            assert!(definition.family().len() <= definition.name.len(), "{definition:?}");
            let ends = |ending| definition.name.ends_with(ending);
            assert_eq!(ends("_total"), definition.kind.as_str() == "counter", "{definition:?}");
            assert!(!definition.help.ends_with('.'), "{definition:?}");
        }
    }

    #[test]
    fn a_histogram_counts_a_value_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for (seconds, times) in [(0.0, 1), (0.001, 2), (0.0011, 3), (1e9, 4)] {
            histogram.observe(seconds, times);
        }
        let counts = histogram.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        assert_eq!((counts[0], counts[1], counts[2], counts[18]), (1, 2, 3, 4));
        assert_eq!(counts.iter().sum::<u64>(), 10);
    }

    #[test]
    fn a_role_that_stays_keeps_its_time() {
        let metrics = Metrics::default();
        metrics.stands(Role::Interrupted, Some("first".into()));
        let first = metrics.standing();
        metrics.stands(Role::Interrupted, Some("second".into()));

        let second = metrics.standing();
        assert_eq!((second.since, second.reason.as_deref()), (first.since, Some("second")));
    }
}
