//! How long a statement may take before it is broken off and its batch tried in parts, on either side.
//!
//! Promise: one slow row delays the others for seconds only; a table where every statement takes
//! long is no problem, because the usual time is learned.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::outbox::outcome::Outcome;
use crate::postgres::failure::Failure;

/// A batch is broken off after this long, and tried in parts: one slow row must not hold up all others.
const BATCH_LIMIT: Duration = Duration::from_secs(10);
/// A part of it, after this long: parts are halved repeatedly.
const PART_LIMIT: Duration = Duration::from_millis(500);
/// A single row that is left of it, after this long. Where it is all that is due it has the time of a batch.
const ROW_LIMIT: Duration = Duration::from_secs(2);
/// For each row, on top of that. With Heroku Connect's triggers a row takes about 0.05 ms.
const LIMIT_PER_ROW: Duration = Duration::from_millis(2);

/// How long statements may take: some times as long as they have taken lately, so that a table
/// without an index, where each takes seconds, is no problem.
pub(super) struct Patience {
    /// At most, however long the others took.
    most: Duration,
    /// The longest that got through lately, in microseconds.
    longest: AtomicU64,
}

impl Patience {
    pub(super) fn new(most: Duration) -> Self {
        Self { most, longest: AtomicU64::new(0) }
    }

    fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.load(Ordering::Relaxed))
    }

    pub(super) fn of_batch(&self, rows: usize) -> Duration {
        self.limit(BATCH_LIMIT, 4, rows)
    }

    pub(super) fn of_part(&self, rows: usize) -> Duration {
        self.limit(if rows == 1 { ROW_LIMIT } else { PART_LIMIT }, 2, rows)
    }

    fn limit(&self, base: Duration, times: u32, rows: usize) -> Duration {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        (base + LIMIT_PER_ROW.saturating_mul(rows)).max(self.longest() * times).min(self.most)
    }

    /// Statements have become quicker when many in turn were.
    pub(super) fn got_through(&self, took: Duration) {
        let longest = took.max(self.longest() * 9 / 10);
        self.longest.store(longest.as_micros().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// All rows are slow, not some.
    pub(super) fn nothing_got_through(&self) {
        self.got_through((self.longest() * 2).clamp(ROW_LIMIT, self.most));
    }

    /// A batch was tried in parts. If it was broken off and no single row of it is slow, all of
    /// them are.
    pub(super) fn came_apart<'a>(
        &self,
        whole: &Failure,
        took: Duration,
        mut outcomes: impl Iterator<Item = &'a (String, Outcome)>,
    ) {
        let is_slow = |(_, outcome): &(String, Outcome)| matches!(outcome, Outcome::Retries(refusal) if refusal.is_slow());
        if whole.is_cancelled() && !outcomes.any(is_slow) {
            self.got_through(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_mins(2);

    fn cancelled() -> Failure {
        Failure::Retry(crate::postgres::failure::Refusal::slow_in_the_target(Duration::from_secs(
            10,
        )))
    }

    #[test]
    fn what_takes_long_every_time_is_given_time() {
        let patience = Patience::new(MOST);
        assert!(patience.of_batch(1_000) < Duration::from_secs(13));

        patience.came_apart(&cancelled(), Duration::from_secs(20), [].iter());

        assert!(patience.of_batch(1_000) >= Duration::from_secs(80));
        for _ in 0..100 {
            patience.got_through(Duration::from_millis(1));
        }
        assert!(patience.of_batch(1_000) < Duration::from_secs(13), "it has become quicker");
    }

    #[test]
    fn a_slow_row_earns_the_others_no_more_time() {
        let patience = Patience::new(MOST);
        let slow = crate::postgres::failure::Refusal::slow_in_the_target(Duration::from_secs(2));

        let outcomes = [("1".to_string(), Outcome::Retries(slow))];
        patience.came_apart(&cancelled(), Duration::from_secs(20), outcomes.iter());

        assert!(patience.of_batch(1) < Duration::from_secs(11));
    }

    #[test]
    fn where_nothing_gets_through_there_is_more_time_until_it_does() {
        let patience = Patience::new(MOST);
        for _ in 0..10 {
            patience.nothing_got_through();
        }
        assert_eq!(patience.of_batch(1), MOST);
    }
}
