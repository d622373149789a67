//! Limits of time that a busy machine does not break.

use std::time::Duration;

/// A limit as it is on a quiet machine, longer by as much as this one is busy: with three programs that want to run on
/// each processor, three times as long, and once more.
pub fn stretched(limit: Duration) -> Duration {
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    limit.mul_f64(1.0 + wanting_to_run() / processors)
}

/// How many programs want to run: now, or on the average of the last minute. 0 where nobody says so.
fn wanting_to_run() -> f64 {
    let told = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut words = told.split_whitespace();
    let average = words.next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    let now = words.nth(2).and_then(|word| word.split('/').next()?.parse().ok()).unwrap_or(0.0);
    f64::max(average, now)
}
