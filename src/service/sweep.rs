//! Looks at what parked keys wait for, and wakes those for which it has arrived.
//!
//! Promise: what cannot be looked at now is left for the next round, and holds up nothing else.

use std::sync::Arc;

use tokio::sync::watch;

use crate::apply::{self, Asked, Statements};
use crate::bell::{self, Heard};
use crate::config::{Pace, QUEUE_LIMIT};
use crate::outbox::parked::{self, Awaited};
use crate::postgres::db::Pool;
use crate::postgres::deadline::unless_silent;
use crate::postgres::failure::Failure;
use crate::worker::Lane;

/// Distinct parents that one sweep asks for. The look at the target takes about 1 µs each.
const SWEEP_PARENTS: i32 = 10_000;

/// Looks at what parked keys wait for, again and again, and rings when some of it has arrived.
pub(super) async fn keep_sweeping(
    lanes: Arc<Vec<Lane>>,
    source: Pool,
    target: Pool,
    pace: Pace,
    heard: watch::Sender<Heard>,
) {
    let mut hindered = false;
    let mut queue_is_filling = false;
    let silence = pace.longest_silence();
    loop {
        match unless_silent(silence, sweep(&lanes, &source, &target)).await {
            Ok(woken) => {
                hindered = false;
                if woken > 0 {
                    tracing::debug!(woken, "parents have arrived");
                    heard.send_modify(|heard| heard.rings += 1);
                }
            }
            Err(failure) => {
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
            // The next sweep meets the same trouble and says so.
            Err(_) => source.forget(),
        }
        tokio::time::sleep(pace.wait_sweep).await;
    }
}

async fn queue_usage(source: &Pool) -> Result<f64, Failure> {
    Ok(bell::queue_usage(&source.get().await?).await?)
}

/// Says when the notification queue fills up, and when it is well again. A session that listens, ours or
/// another's, and stays in a transaction keeps the queue from being emptied.
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

/// One round through everything that is waited for; returns how many keys became due. What cannot be looked at now is
/// left for the next round.
pub(super) async fn sweep(lanes: &[Lane], source: &Pool, target: &Pool) -> Result<u64, Failure> {
    let statements: Vec<&Statements> = lanes.iter().map(|lane| &lane.statements).collect();
    let source = source.get().await?;
    let mut after = Awaited::default();
    let (mut woken, mut hindered) = (0, None);
    loop {
        let page = parked::awaited(&source, &mut after, SWEEP_PARENTS).await?;
        if !page.is_empty() {
            let target = target.direct().await?;
            for (awaits, keys) in &page {
                let asked = apply::arrived_keys(&target, &statements, awaits, keys).await?;
                let Asked { found: mut arrived, refused } = asked;
                for (key, failure) in refused {
                    match failure {
                        // What can be no key of the target never arrives: who waits for it is looked at again.
                        Failure::Dead(_) => arrived.push(key),
                        failure => hindered = Some(failure),
                    }
                }
                if !arrived.is_empty() {
                    woken += parked::wake(&source, awaits, &arrived).await?;
                }
            }
        }
        if after == Awaited::default() {
            return hindered.map_or(Ok(woken), Err);
        }
    }
}
