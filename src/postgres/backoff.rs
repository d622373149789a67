//! Waiting between attempts, for everything that reconnects.

use std::time::Duration;

/// Waits that double, from 100 ms to 15 s. Each is shortened by up to a half, at random, so that many clients do not
/// come back at once.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    /// More would exceed the longest wait by far.
    const DOUBLINGS: u32 = 10;
    /// The longest wait; a failure after more than this time of success is a new one.
    pub const LONGEST: Duration = Duration::from_secs(15);

    /// No attempt has failed since the last success: the moment to report the failure.
    pub fn is_fresh(&self) -> bool {
        self.attempts == 0
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Waits before the next attempt.
    pub async fn pause(&mut self) {
        let doubled = self.attempts.min(Self::DOUBLINGS);
        let wait = Self::FIRST.saturating_mul(1 << doubled).min(Self::LONGEST);
        self.attempts += 1;
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}
