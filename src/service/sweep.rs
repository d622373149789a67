//! Looks at what parked keys wait for, and wakes those for which it has arrived.
//!
//! Promise: what cannot be looked up now is left for the next round, and does not hold up the
//! others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::apply::{self, Asked, Statements};
use crate::bell::{self, Heard};
use crate::config::{Pace, QUEUE_LIMIT};
use crate::outbox::parked::{self, Awaited};
use crate::postgres::db::Pool;
use crate::postgres::deadline::unless_silent;
use crate::postgres::failure::Failure;
use crate::postgres::name::TableName;
use crate::worker::Lane;

/// Distinct parents that are asked for at once. The look at the target takes about 1 µs each.
const SWEEP_PARENTS: i32 = 10_000;
/// After a round that found nothing the sweep rests at least this many times as long as the round took.
const SHORTEST_REST: u32 = 4;
/// While nobody writes, it rests twice as many times as long after each further round that found nothing, beginning with
/// this.
const FIRST_REST: u32 = 16;
/// The sweep has at most a hundredth of one session's time while nothing arrives.
const LONGEST_REST: u32 = 99;
/// The rest after a round that found something, at first.
const SOON: Duration = Duration::from_millis(50);
/// This often within the usual rest it asks whether there was a write in the tables that are waited
/// for.
const LOOKS: u32 = 5;
/// Even if the server counts no write, it looks at least this often.
const AT_LEAST: Duration = Duration::from_mins(5);

/// Looks at what parked keys wait for, repeatedly, and rings when some of it has arrived.
pub(super) async fn keep_sweeping(
    lanes: Arc<Vec<Lane>>,
    source: Pool,
    target: Pool,
    pace: Pace,
    heard: watch::Sender<Heard>,
) {
    let mut hindered = false;
    let mut queue_is_filling = false;
    let mut rest = SweepRest::new(pace.wait_sweep);
    let silence = pace.longest_silence();
    loop {
        let began = Instant::now();
        let round = async {
            rest.round_begins(&target, &lanes).await?;
            sweep(&lanes, &source, &target, &heard).await
        };
        match unless_silent(silence, round).await {
            Ok(swept) => {
                hindered = false;
                rest.round_ended(&swept, began.elapsed());
                if swept.woken > 0 {
                    tracing::debug!(woken = swept.woken, "parents have arrived");
                }
            }
            Err(failure) => {
                rest.round_failed();
                // A connection that has stalled looks alive to the pool, which would hand it out again.
                if let Failure::Reconnect(_) = failure {
                    source.forget();
                    target.forget();
                }
                if !hindered {
                    hindered = true;
                    tracing::warn!(reason = %failure, "what waits for parents cannot be checked now; retrying");
                }
            }
        }
        match unless_silent(silence, queue_usage(&source)).await {
            Ok(usage) => {
                tell_queue(usage, pace.queue_warning, &mut queue_is_filling);
                let crowded = usage >= QUEUE_LIMIT;
                heard.send_if_modified(|heard| {
                    std::mem::replace(&mut heard.crowded, crowded) != crowded
                });
            }
            // The next sweep meets the same error and reports it.
            Err(_) => source.forget(),
        }
        rest.until_a_round_may_find_something(&target, &lanes, silence).await;
    }
}

/// When the next round is due. A round reads everything that is waited for, which takes seconds where a million keys wait,
/// and finds nothing while nobody writes in the tables that have it.
struct SweepRest {
    /// The rest after a round that took no time, while nobody writes.
    usual: Duration,
    /// How long the last round took.
    took: Duration,
    /// Something was waited for.
    waits: bool,
    /// Rounds that found something since one did not, and the other way round.
    found: u32,
    in_vain: u32,
    /// How many writes there were in the target's tables when the last round began; none where nobody asked.
    writes: Option<i64>,
}

impl SweepRest {
    fn new(usual: Duration) -> Self {
        Self { usual, took: Duration::ZERO, waits: false, found: 0, in_vain: 0, writes: None }
    }

    async fn round_begins(&mut self, target: &Pool, lanes: &[Lane]) -> Result<(), Failure> {
        self.writes = if self.waits { Some(writes(target, lanes).await?) } else { None };
        Ok(())
    }

    fn round_ended(&mut self, swept: &Swept, took: Duration) {
        (self.waits, self.took) = (swept.waits, took);
        (self.found, self.in_vain) = match swept.woken {
            0 => (0, self.in_vain.saturating_add(1)),
            _ => (self.found.saturating_add(1), 0),
        };
    }

    /// What is waited for is not known: the usual rest.
    fn round_failed(&mut self) {
        *self = Self::new(self.usual);
    }

    async fn until_a_round_may_find_something(
        &mut self,
        target: &Pool,
        lanes: &[Lane],
        silence: Duration,
    ) {
        if self.found > 0 {
            // More is likely to arrive soon. The rest grows each time, because woken keys may have
            // to wait again.
            let soon = self.took.max(SOON).saturating_mul(1 << self.found.min(10));
            return tokio::time::sleep(soon.min(self.usual)).await;
        }
        if !self.waits {
            return tokio::time::sleep(self.usual).await;
        }
        let began = Instant::now();
        let times = (FIRST_REST << self.in_vain.min(10)).min(LONGEST_REST);
        let longest = self.took.saturating_mul(times).min(AT_LEAST).max(self.usual);
        tokio::time::sleep(self.took.saturating_mul(SHORTEST_REST)).await;
        while let Some(left) = longest.checked_sub(began.elapsed()) {
            tokio::time::sleep(left.min(self.usual / LOOKS)).await;
            // Where the server cannot be asked, the round meets the same error and reports it.
            match unless_silent(silence, writes(target, lanes)).await {
                Ok(now) if Some(now) == self.writes => {}
                Ok(_) => return self.in_vain = 0,
                Err(_) => return target.forget(),
            }
        }
    }
}

/// How many writes there were in the mapped tables, as far as the target has counted: it may be seconds behind.
async fn writes(target: &Pool, lanes: &[Lane]) -> Result<i64, Failure> {
    let tables: Vec<&TableName> = lanes.iter().map(|lane| &lane.route.object.target).collect();
    apply::writes_in(&target.direct().await?, &tables).await
}

async fn queue_usage(source: &Pool) -> Result<f64, Failure> {
    Ok(bell::queue_usage(&source.get().await?).await?)
}

/// Reports when the notification queue fills up, and when that is over. A listening session, ours
/// or another's, that stays in a transaction keeps the queue from being emptied.
fn tell_queue(usage: f64, warning: f64, is_filling: &mut bool) {
    let fills = usage > warning;
    if fills && !*is_filling {
        tracing::warn!(
            usage,
            "the source's notification queue is filling up, so the triggers no longer notify and the service polls; when it is \
             full, commits that notify fail. End the session that listens in an open transaction: \
             select * from pg_stat_activity where state like 'idle in%'"
        );
    } else if *is_filling && !fills {
        tracing::info!(usage, "the source's notification queue is emptying again");
    }
    *is_filling = fills;
}

/// What came of a round.
pub(super) struct Swept {
    /// Something is waited for.
    waits: bool,
    /// How many keys became due.
    woken: u64,
}

/// One round through everything that is waited for. Rings as soon as some of it has arrived. What cannot be looked at now is
/// left for the next round.
pub(super) async fn sweep(
    lanes: &[Lane],
    source: &Pool,
    target: &Pool,
    heard: &watch::Sender<Heard>,
) -> Result<Swept, Failure> {
    let statements: Vec<&Statements> = lanes.iter().map(|lane| &lane.statements).collect();
    let source = source.get().await?;
    let mut after = Awaited::default();
    let (mut swept, mut hindered) = (Swept { waits: false, woken: 0 }, None);
    loop {
        let page = parked::awaited(&source, &mut after, SWEEP_PARENTS).await?;
        if !page.is_empty() {
            swept.waits = true;
            let target = target.direct().await?;
            for (awaits, keys) in &page {
                let asked = apply::arrived_keys(&target, &statements, awaits, keys).await?;
                let Asked { found: mut arrived, refused } = asked;
                for (key, failure) in refused {
                    match failure {
                        // A text that cannot be a key of the target never arrives: the keys that
                        // wait for it are made due, to be looked at again.
                        Failure::Dead(_) => arrived.push(key),
                        failure => hindered = Some(failure),
                    }
                }
                if !arrived.is_empty() {
                    swept.woken += parked::wake(&source, awaits, &arrived).await?;
                    heard.send_modify(|heard| heard.rings += 1);
                }
            }
        }
        if after == Awaited::default() {
            return hindered.map_or(Ok(swept), Err);
        }
    }
}
