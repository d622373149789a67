//! The doorbell: one connection that listens on the channel and holds the lock that makes writers ring.
//!
//! The lock, K, is [`BELL_LOCK`]. A writer that gets it shared rings nobody. While this connection holds it
//! exclusively, every commit rings. It is granted only when every transaction that decided not to ring has
//! ended; whoever asks for sleep must look at the outbox once more after [`Heard::armed`].
//!
//! One connection for both on purpose: when it is lost, the lock is gone with it, so no writer rings for
//! a listener that cannot hear.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Notification};

use crate::backoff::Backoff;
use crate::db::Database;
use crate::failure::Failure;
use crate::notice::{Malformed, Notice};

/// "SCHBBELL": the doorbell, in the source database.
pub const BELL_LOCK: i64 = 0x5343_4842_4245_4c4c;
/// The channel of the notices.
pub const CHANNEL: &str = "schoolbell";

/// How long one attempt to arm may wait for transactions that decided not to ring: while it waits, others
/// already ring, which costs them, so it gives up soon and tries again.
const ARM_TIMEOUT: Duration = Duration::from_millis(200);
/// Between two attempts to arm when a long transaction is in the way. The service polls meanwhile.
const ARM_PAUSE: Duration = Duration::from_secs(1);

/// What the listener has heard. A state, not a queue: it does not grow while nobody looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// LISTEN is in force. When it turns true, what was rung before is lost: claim at once.
    pub listening: bool,
    /// The bell is armed for this wish to sleep: look once more, then sleep.
    pub armed: Wish,
    /// Counts notices, ours or not, and whatever else may have made keys due.
    pub rings: u64,
}

/// What the worker wishes: to be woken (a number that grows with every wish), or to stay awake.
pub type Wish = Option<u64>;

/// Listens until the wishes end, reconnecting as often as it takes.
pub async fn listen(
    source: Database,
    mut wishes: watch::Receiver<Wish>,
    heard: watch::Sender<Heard>,
) {
    let mut backoff = Backoff::default();
    let mut unknown = BTreeMap::new();
    while wishes.has_changed().is_ok() && !heard.is_closed() {
        match open(&source).await {
            Ok((client, notices)) => {
                tracing::debug!("listening");
                backoff.reset();
                heard.send_modify(|heard| heard.listening = true);
                attend(&client, notices, &mut wishes, &heard, &mut unknown).await;
            }
            Err(error) => {
                if backoff.is_fresh() {
                    tracing::warn!(reason = %error, "cannot listen, polling instead");
                }
            }
        }
        heard.send_modify(|heard| {
            heard.listening = false;
            heard.armed = None;
        });
        tokio::select! {
            () = backoff.pause() => {}
            () = heard.closed() => return,
        }
    }
}

async fn open(
    source: &Database,
) -> Result<(Client, mpsc::UnboundedReceiver<Notification>), Failure> {
    let (client, notices) = source.listener().await?;
    let arm_timeout = ARM_TIMEOUT.as_millis();
    client
        .batch_execute(&format!("set lock_timeout = '{arm_timeout}ms'; listen {CHANNEL}"))
        .await?;
    Ok((client, notices))
}

/// Passes on notices and carries out wishes until the connection or the service ends.
async fn attend(
    client: &Client,
    mut notices: mpsc::UnboundedReceiver<Notification>,
    wishes: &mut watch::Receiver<Wish>,
    heard: &watch::Sender<Heard>,
    unknown: &mut BTreeMap<Malformed, u64>,
) {
    let mut armed = false;
    let mut fulfilled: Wish = None;
    let mut attempt_at = Instant::now();
    loop {
        let wish = *wishes.borrow_and_update();
        let now_armed = {
            let step = fulfil(client, wish, armed, attempt_at);
            tokio::pin!(step);
            // Notices are passed on while a lock is waited for, and a wish that changes is seen afterwards:
            // a statement that was sent must be answered before the next one, or the lock's state is unknown.
            loop {
                tokio::select! {
                    result = &mut step => break result,
                    notice = notices.recv() => match notice {
                        Some(notice) => pass_on(&notice, heard, unknown),
                        None => return,
                    },
                }
            }
        };
        armed = match now_armed {
            Ok(armed) => armed,
            Err(_) => return,
        };
        match wish {
            Some(number) if armed && fulfilled != wish => {
                fulfilled = wish;
                heard.send_modify(|heard| heard.armed = Some(number));
            }
            Some(_) if !armed => {
                attempt_at = Instant::now() + ARM_PAUSE;
                if wishes.has_changed().is_ok() {
                    continue;
                }
                return;
            }
            _ => {}
        }
        tokio::select! {
            changed = wishes.changed() => if changed.is_err() { return },
            notice = notices.recv() => match notice {
                Some(notice) => pass_on(&notice, heard, unknown),
                None => return,
            },
        }
    }
}

/// Brings the lock into the state that is wished for, not before `attempt_at`; true when it is held.
async fn fulfil(
    client: &Client,
    wish: Wish,
    armed: bool,
    attempt_at: Instant,
) -> Result<bool, tokio_postgres::Error> {
    match wish {
        Some(_) if armed => Ok(true),
        Some(_) => {
            tokio::time::sleep_until(attempt_at).await;
            arm(client).await
        }
        None if armed => disarm(client).await.map(|()| false),
        None => Ok(false),
    }
}

/// Takes the lock exclusively; false when a transaction that did not ring is still running.
async fn arm(client: &Client) -> Result<bool, tokio_postgres::Error> {
    match client.execute("select pg_catalog.pg_advisory_lock($1)", &[&BELL_LOCK]).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn disarm(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.execute("select pg_catalog.pg_advisory_unlock($1)", &[&BELL_LOCK]).await.map(|_| ())
}

/// Whatever rang, there may be work; what cannot be read is counted and logged once per kind.
fn pass_on(
    notice: &Notification,
    heard: &watch::Sender<Heard>,
    unknown: &mut BTreeMap<Malformed, u64>,
) {
    match Notice::decode(notice.payload()) {
        Ok(notice) => {
            tracing::trace!(table = %notice.table, op = %notice.op, xact = %notice.xact, "rung");
        }
        Err(kind) => {
            let count = unknown.entry(kind).or_default();
            *count += 1;
            if *count == 1 {
                tracing::warn!(
                    ?kind,
                    "a notice on channel {CHANNEL} is not ours; it is ignored, and so are others"
                );
            }
        }
    }
    heard.send_modify(|heard| heard.rings += 1);
}
