//! Between two looks: awake with short polls, then asleep behind an armed bell.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::told_to_stop;
use crate::bell::{Heard, Wishes};
use crate::config::Pace;

/// Arming takes this long at most when nothing is in the way. After that the polls become slower.
const PROMPT_ARMING: Duration = Duration::from_millis(100);
/// How much slower the polls are while a long transaction keeps the bell from being armed.
const SLOWER: u32 = 10;

pub(super) struct Rest {
    heard: watch::Receiver<Heard>,
    wish: watch::Sender<Wishes>,
    /// The triggers ring at all.
    triggers_ring: bool,
    /// Wishes to sleep so far, and when the last one was sent.
    wishes: u64,
    wished_at: Instant,
    last_work: Instant,
    /// The last sleep behind an armed bell was ended by the clock, not by a ring.
    woken_by_clock: bool,
}

impl Rest {
    pub(super) fn new(
        heard: watch::Receiver<Heard>,
        wish: watch::Sender<Wishes>,
        triggers_ring: bool,
    ) -> Self {
        let now = Instant::now();
        Self {
            heard,
            wish,
            triggers_ring,
            wishes: 0,
            wished_at: now,
            last_work: now,
            woken_by_clock: false,
        }
    }

    /// A look has found something. `changes`: also changes, not only keys that were due by the clock.
    pub(super) fn found_work(&mut self, changes: bool) {
        self.last_work = Instant::now();
        // While the bell is armed every commit rings. A change without a ring, or with a late one,
        // is a reason to test the bell ([`Wishes::doubts`]).
        let doubt = std::mem::take(&mut self.woken_by_clock) && changes;
        self.wish.send_if_modified(|wish| {
            wish.doubts += u64::from(doubt);
            // Awake means that nobody rings: the writers' commits stay grouped.
            wish.sleep.take().is_some() || doubt
        });
    }

    /// Returns when the outbox should be looked at: never later than the sweep, which would also find
    /// what a lost bell left behind. What was heard since the last return makes it return at once.
    pub(super) async fn until_something_may_be_due(
        &mut self,
        pace: &Pace,
        next_page_at: Option<Instant>,
        stop: &mut watch::Receiver<bool>,
    ) {
        let now = Instant::now();
        let longest = self.longest_after_wish(pace);
        let asleep = longest == pace.sweep;
        let mut until = now + longest;
        if let Some(next_page_at) = next_page_at {
            until = until.min(next_page_at);
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => self.woken_by_clock = asleep,
            heard = self.heard.changed() => {
                // It has rung, so the bell works.
                self.woken_by_clock = false;
                if heard.is_err() {
                    // The bell's task is gone; the service is about to notice. Until then: poll.
                    tokio::time::sleep_until(until).await;
                }
            }
            () = told_to_stop(stop) => {}
        }
    }

    /// How long to rest at most; asks the bell for sleep when there was no work for a while.
    fn longest_after_wish(&mut self, pace: &Pace) -> Duration {
        let (listening, armed, blocked, crowded) = {
            let heard = self.heard.borrow();
            (heard.listening, heard.armed, heard.blocked, heard.crowded)
        };
        if self.last_work.elapsed() < pace.awake {
            return pace.poll;
        }
        if crowded {
            // Nobody rings now, so it must not sleep.
            self.wish.send_if_modified(|wish| wish.sleep.take().is_some());
        }
        if !self.triggers_ring || !listening || crowded {
            return pace.quiet_poll;
        }
        let wish = self.wish.borrow().sleep;
        if wish.is_some() && armed == wish {
            return pace.sweep;
        }
        if wish.is_none() {
            self.wishes += 1;
            self.wished_at = Instant::now();
            let number = self.wishes;
            self.wish.send_modify(|wish| wish.sleep = Some(number));
        }
        if blocked {
            return pace.quiet_poll;
        }
        // Until the bell is armed no writer needs to ring.
        match self.wished_at.elapsed() < PROMPT_ARMING {
            true => pace.poll,
            false => pace.poll * SLOWER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a worker rests that has had no work for a long time.
    fn rest(heard: &Heard) -> Duration {
        let (_heard, hear) = watch::channel(heard.clone());
        let pace = Pace { awake: Duration::ZERO, ..Pace::default() };
        Rest::new(hear, watch::Sender::new(Wishes::default()), true).longest_after_wish(&pace)
    }

    #[test]
    fn it_polls_calmly_where_the_bell_will_not_be_armed_soon_and_quickly_where_it_will() {
        let pace = Pace::default();
        let listening = Heard { listening: true, ..Heard::default() };

        assert_eq!(rest(&listening), pace.poll);
        assert_eq!(rest(&Heard { blocked: true, ..listening.clone() }), pace.quiet_poll);
        assert_eq!(rest(&Heard { crowded: true, ..listening }), pace.quiet_poll);
        assert_eq!(rest(&Heard::default()), pace.quiet_poll);
    }

    /// How often it is doubted whether the bell is heard, when changes are found after two rests behind an armed bell, the
    /// second of which a ring ends, or the clock.
    async fn doubts(rings: bool) -> u64 {
        let wish = watch::Sender::new(Wishes { sleep: Some(1), doubts: 0 });
        let armed = Heard { listening: true, armed: Some(1), ..Heard::default() };
        let (heard, hear) = watch::channel(armed);
        let mut rest = Rest::new(hear, wish.clone(), true);
        let briefly = Duration::from_millis(1);
        let (_stop, mut stop) = watch::channel(false);
        let mut pace = Pace { awake: Duration::ZERO, sweep: briefly, ..Pace::default() };

        rest.until_something_may_be_due(&pace, None, &mut stop).await;
        if rings {
            pace.sweep = Duration::from_secs(3600);
            heard.send_modify(|heard| heard.rings += 1);
        }
        rest.until_something_may_be_due(&pace, None, &mut stop).await;
        rest.found_work(true);
        wish.borrow().doubts
    }

    #[tokio::test]
    async fn a_ring_after_long_rest_raises_no_doubt_and_a_change_without_one_does() {
        assert_eq!(doubts(true).await, 0);
        assert_eq!(doubts(false).await, 1);
    }
}
