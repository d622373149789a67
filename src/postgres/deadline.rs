//! A limit on silence: an answer from a database arrives in time, or the connection is given up.
//!
//! Keepalives notice a host that has vanished, and the server's statement time-out notices a
//! statement that takes too long. Neither notices a proxy in between that keeps both connections
//! alive and forwards nothing.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::poll_fn;
use tokio::time::{Instant, sleep};

use crate::postgres::failure::Failure;

/// Fails when `work` hears nothing for this long. Work that makes progress may last as long as it
/// takes: every answer restarts the limit.
pub async fn unless_silent<T>(
    longest: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    // On the heap: the steps are large, and one is nested in another.
    let mut work = Box::pin(work);
    let mut silence = pin!(sleep(longest));
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        if silence.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(Failure::Reconnect(format!(
                "no answer for {longest:?} although the connection is open: something between us and the database \
                 has stalled"
            ))));
        }
        // Woken, and not by the clock: something was heard. It must be polled to be woken by it.
        silence.as_mut().reset(Instant::now() + longest);
        _ = silence.as_mut().poll(context);
        Poll::Pending
    })
    .await
}
