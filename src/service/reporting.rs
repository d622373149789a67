//! Tasks that only report: what the page shows, and comparisons in the background.
//!
//! Promise: whatever goes wrong in one of them, the work continues and the task is restarted.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;

/// A task that has failed once may fail again at once.
const PAUSE: Duration = Duration::from_secs(10);

/// Runs a task until it ends by itself. If it panics, that is reported, and the task is restarted.
pub async fn kept_up<F: Future<Output = ()>>(what: &str, task: impl FnMut() -> F) {
    begun_anew(what, PAUSE, task).await;
}

async fn begun_anew<F: Future<Output = ()>>(
    what: &str,
    pause: Duration,
    mut task: impl FnMut() -> F,
) {
    // All state of a task that panics is dropped with it, and the next one starts without any.
    while AssertUnwindSafe(task()).catch_unwind().await.is_err() {
        tracing::error!(
            "{what} failed because of a bug in this program; the message above has the details, please report it. The \
             service continues, and {what} restarts in {} s",
            pause.as_secs()
        );
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_is_begun_anew_until_it_ends_by_itself() {
        let mut begun = 0;
        begun_anew("a test", Duration::ZERO, || {
            begun += 1;
            let panics = begun < 3;
            async move { assert!(!panics, "a mistake") }
        })
        .await;
        assert_eq!(begun, 3);
    }
}
