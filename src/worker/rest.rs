//! Between two looks: awake with short polls, then asleep behind an armed bell.

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::told_to_stop;
use crate::bell::{Heard, Wish};
use crate::config::Pace;

/// Between two looks: awake with short polls, then asleep behind an armed bell.
pub(super) struct Rest {
    heard: mpsc::UnboundedReceiver<Heard>,
    wish: watch::Sender<Wish>,
    rings: bool,
    wishes: u64,
    armed: bool,
    deaf: bool,
    last_work: Instant,
}

impl Rest {
    pub(super) fn new(
        heard: mpsc::UnboundedReceiver<Heard>,
        wish: watch::Sender<Wish>,
        rings: bool,
    ) -> Self {
        Self { heard, wish, rings, wishes: 0, armed: false, deaf: true, last_work: Instant::now() }
    }

    pub(super) fn found_work(&mut self) {
        self.last_work = Instant::now();
        self.armed = false;
        // Awake means that nobody rings: the writers' commits stay grouped.
        self.wish.send_if_modified(|wish| wish.take().is_some());
    }

    /// Returns when the outbox should be looked at: never later than the sweep, which would also find
    /// what a lost bell left behind.
    pub(super) async fn until_something_may_be_due(
        &mut self,
        pace: &Pace,
        next_page_at: Instant,
        stop: &mut watch::Receiver<bool>,
    ) {
        let longest = if self.armed {
            pace.sweep
        } else if self.last_work.elapsed() < pace.awake {
            pace.poll
        } else if !self.rings || self.deaf {
            pace.quiet_poll
        } else {
            if self.wish.borrow().is_none() {
                self.wishes += 1;
                self.wish.send_replace(Some(self.wishes));
            }
            // Until the bell is armed nobody rings for changes that others hold back.
            pace.poll
        };
        let mut until = Instant::now() + longest;
        if next_page_at > Instant::now() {
            until = until.min(next_page_at);
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            heard = self.heard.recv() => match heard {
                Some(heard) => self.hear(&heard),
                // The bell's task is gone; the service is about to notice. Until then: poll.
                None => tokio::time::sleep_until(until).await,
            },
            () = told_to_stop(stop) => {}
        }
        while let Ok(heard) = self.heard.try_recv() {
            self.hear(&heard);
        }
    }

    fn hear(&mut self, heard: &Heard) {
        match heard {
            Heard::Listening => self.deaf = false,
            Heard::Armed(number) if self.wish.borrow().as_ref() == Some(number) => {
                tracing::trace!("asleep");
                self.armed = true;
            }
            Heard::Armed(_) | Heard::Rung => {}
            Heard::Deaf => {
                self.deaf = true;
                self.armed = false;
            }
        }
    }
}
