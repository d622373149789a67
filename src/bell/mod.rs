//! The doorbell: one connection that listens on the channel and holds the lock that makes writers ring.
//!
//! The lock, K, is [`BELL_LOCK`]. A writer that gets it shared rings nobody. While this connection
//! holds it exclusively, every commit rings. It is granted only when every transaction that decided
//! not to ring has ended; a worker that wants to sleep must look at the outbox once more after
//! [`Heard::armed`].
//!
//! One connection for both on purpose: when it is lost, the lock is gone with it, so no writer rings for
//! a listener that cannot hear.

pub mod notice;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Notification};

use crate::config::QUEUE_LIMIT;
use crate::failpoint::{self, Failpoint};
use crate::metrics::Metrics;
use crate::postgres::backoff::Backoff;
use crate::postgres::db::{Database, Pool, Session};
use crate::postgres::deadline::unless_silent;
use crate::postgres::failure::Failure;
use crate::postgres::stranger::Stranger;
use notice::{Malformed, Notice};

const STRANGERS: &str = concat!(
    "with holder as (\n",
    include_str!("../../sql/lock_holders.sql"),
    ")\n",
    include_str!("../../sql/bell_strangers.sql")
);
/// "SCHBBELL": the doorbell, in the source database.
pub const BELL_LOCK: i64 = 0x5343_4842_4245_4c4c;
/// The channel of the notices.
pub const CHANNEL: &str = "schoolbell";

/// How long one attempt to arm may wait for transactions that decided not to ring. While it waits,
/// others already ring, which costs them time, so it gives up soon and tries again.
const ARM_TIMEOUT: Duration = Duration::from_millis(200);
/// Between two attempts to arm when a long transaction is in the way. The service polls meanwhile.
const ARM_PAUSE: Duration = Duration::from_secs(1);
/// An answer, like a notice, takes under a millisecond; a server that is this late is as good as silent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts to listen through a pooler: its operator has to change something first.
const DEAF_PAUSE: Duration = Duration::from_secs(60);

/// Returns a row when the lock is taken.
const ARM: &str =
    "select pg_catalog.pg_advisory_lock($1) where pg_catalog.pg_notification_queue_usage() < $2";

/// What the listener has heard. A state, not a queue: it does not grow while nobody looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// LISTEN is in force. When it turns true, what was rung before is lost: claim at once.
    pub listening: bool,
    /// The bell is armed for this wish to sleep: look once more, then sleep.
    pub armed: Wish,
    /// Counts notices, ours or not, and everything else that may have made keys due.
    pub rings: u64,
    /// A stranger has kept the bell from being armed for a long time.
    pub blocked: bool,
    /// The queue of notices fills up, so nobody rings: look often.
    pub crowded: bool,
}

/// To sleep until woken (a number that grows with every wish), or to stay awake.
pub type Wish = Option<u64>;

/// What the worker wishes of the bell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// To sleep, or not.
    pub sleep: Wish,
    /// Counts how often changes were found that should have rung: then it is tested whether the
    /// bell still hears.
    pub doubts: u64,
}

/// Listens until the wishes end, reconnecting as often as it takes. The pool leads to the same database.
pub async fn listen(
    source: Database,
    others: Pool,
    mut wishes: watch::Receiver<Wishes>,
    heard: watch::Sender<Heard>,
    metrics: Arc<Metrics>,
    patience: Duration,
) {
    let mut ear = Ear {
        others,
        heard,
        metrics,
        patience,
        unknown: BTreeSet::new(),
        unarmed_since: None,
        blocked_by: Vec::new(),
    };
    let mut backoff = Backoff::default();
    let mut told_deaf = false;
    while wishes.has_changed().is_ok() && !ear.heard.is_closed() {
        let mut pause = None;
        match open(&source).await {
            Ok((client, mut notices)) => {
                if ear.hears(&mut notices).await {
                    tracing::debug!("listening");
                    if told_deaf {
                        tracing::info!("notices reach the listener again");
                    }
                    told_deaf = false;
                    backoff.reset();
                    ear.heard.send_modify(|heard| heard.listening = true);
                    ear.metrics.bell_listening.set(1);
                    ear.attend(&client, notices, &mut wishes).await;
                } else {
                    if !told_deaf {
                        tracing::warn!(
                            "LISTEN receives nothing, polling instead: is there a pooler in transaction mode in front \
                             of the source? Give the service a direct connection, or run `schoolbell migrate \
                             --notify never`"
                        );
                    }
                    told_deaf = true;
                    pause = Some(DEAF_PAUSE);
                }
            }
            Err(error) => {
                if backoff.is_fresh() {
                    tracing::warn!(reason = %error, "cannot listen, polling instead");
                }
            }
        }
        ear.heard.send_modify(|heard| {
            heard.listening = false;
            heard.armed = None;
        });
        ear.metrics.bell_is_silent();
        let pause = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => backoff.pause().await,
            }
        };
        tokio::select! {
            () = pause => {}
            () = ear.heard.closed() => return,
        }
    }
}

/// How full the server's queue of notifications is, from 0 to 1.
pub async fn queue_usage(source: &Session) -> Result<f64, tokio_postgres::Error> {
    Ok(source.row("select pg_catalog.pg_notification_queue_usage()", &[]).await?.get(0))
}

/// The sessions that hold the doorbell's lock and are neither writers of changes nor a listener of ours. Held exclusively
/// by one of them, every transaction of a writer rings; held shared, the bell is never armed.
pub async fn strangers(source: &Session) -> Result<Vec<Stranger>, tokio_postgres::Error> {
    let (upper, lower) = (BELL_LOCK >> 32, BELL_LOCK & 0xffff_ffff);
    let look = async || -> Result<Vec<Stranger>, tokio_postgres::Error> {
        Ok(source.rows(STRANGERS, &[&upper, &lower]).await?.iter().map(Stranger::of).collect())
    };
    let mut seen = look().await?;
    if !seen.is_empty() {
        // The server does not show all locks as of one moment: a writer that has just taken both
        // may be seen with one. A second look does not show that again.
        let again = look().await?;
        seen.retain(|stranger| again.contains(stranger));
    }
    Ok(seen)
}

/// Rings from `ringer` and listens for it on a connection of its own. Returns how long that took; none when
/// nothing was heard.
pub async fn canary(source: &Database, ringer: &Session) -> Result<Option<Duration>, Failure> {
    // Bound to a name: the connection lasts as long as the client.
    let (_client, mut notices) = open(source).await?;
    let token = token();
    let rung = Instant::now();
    ring(ringer, &token).await?;
    let heard = async {
        while let Some(notification) = notices.recv().await {
            let notice = Notice::decode(notification.payload());
            if notice.is_ok_and(|notice| notice.is_canary() && notice.table == token) {
                return Some(rung.elapsed());
            }
        }
        None
    };
    Ok(tokio::time::timeout(ANSWER_TIMEOUT, heard).await.unwrap_or(None))
}

/// Marks one ring among those of others.
fn token() -> String {
    format!("{:016x}", fastrand::u64(..))
}

async fn ring(session: &Session, token: &str) -> Result<(), Failure> {
    let payload = notice::canary_payload_sql(token);
    session.row_once(&format!("select pg_catalog.pg_notify('{CHANNEL}', {payload})")).await?;
    Ok(())
}

async fn open(
    source: &Database,
) -> Result<(Client, mpsc::UnboundedReceiver<Notification>), Failure> {
    let (client, notices) = source.listener(ARM_TIMEOUT).await?;
    client.batch_execute(&format!("listen {CHANNEL}")).await?;
    Ok((client, notices))
}

/// What stays the same from connection to connection.
struct Ear {
    /// Sessions that can ring for a test.
    others: Pool,
    heard: watch::Sender<Heard>,
    metrics: Arc<Metrics>,
    /// Kinds of payloads that are not ours and were reported.
    unknown: BTreeSet<Malformed>,
    /// For this long it tries to arm before it looks who is in the way.
    patience: Duration,
    /// When the first attempt to arm failed of those since the bell was last armed.
    unarmed_since: Option<Instant>,
    /// Strangers that keep the bell from being armed, and were reported.
    blocked_by: Vec<Stranger>,
}

impl Ear {
    /// Rings from another session and listens for it: a connection may look alive and yet hear nothing.
    async fn hears(&mut self, notices: &mut mpsc::UnboundedReceiver<Notification>) -> bool {
        let token = token();
        if self.ring(&token).await.is_err() {
            // The worker meets the same error and reports it; it proves nothing here.
            return true;
        }
        let heard = async {
            while let Some(notification) = notices.recv().await {
                if self.pass_on(&notification).as_deref() == Some(&token) {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(ANSWER_TIMEOUT, heard).await.unwrap_or(false)
    }

    async fn ring(&self, token: &str) -> Result<(), Failure> {
        ring(&self.others.get().await?, token).await
    }

    /// Passes on notices and carries out wishes until the connection or the service ends.
    async fn attend(
        &mut self,
        client: &Client,
        mut notices: mpsc::UnboundedReceiver<Notification>,
        wishes: &mut watch::Receiver<Wishes>,
    ) {
        let mut armed = false;
        let mut fulfilled: Wish = None;
        let mut doubts = wishes.borrow().doubts;
        let mut attempt_at = Instant::now();
        loop {
            let wish = *wishes.borrow_and_update();
            if wish.doubts != doubts {
                doubts = wish.doubts;
                if !self.hears(&mut notices).await {
                    return;
                }
            }
            let may_try = Instant::now() >= attempt_at;
            let now_armed = {
                let step = fulfil(client, wish.sleep, armed, may_try);
                tokio::pin!(step);
                // Notices are passed on while a lock is waited for, and a wish that changes is seen afterwards:
                // a statement that was sent must be answered before the next one, or the lock's state is unknown.
                loop {
                    tokio::select! {
                        result = &mut step => break result,
                        notice = notices.recv() => match notice {
                            Some(notice) => _ = self.pass_on(&notice),
                            None => return,
                        },
                    }
                }
            };
            armed = match now_armed {
                Ok(armed) => armed,
                Err(_) => return,
            };
            self.metrics.bell_armed.set(armed.into());
            match wish.sleep {
                Some(_) if armed && fulfilled != wish.sleep => {
                    fulfilled = wish.sleep;
                    self.is_free();
                    self.heard.send_modify(|heard| heard.armed = wish.sleep);
                }
                Some(_) if !armed && may_try => {
                    attempt_at = Instant::now() + self.in_the_way().await;
                }
                _ => {}
            }
            let tries_again = wish.sleep.is_some() && !armed;
            tokio::select! {
                changed = wishes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(attempt_at), if tries_again => {}
                notice = notices.recv() => match notice {
                    Some(notice) => _ = self.pass_on(&notice),
                    None => return,
                },
            }
        }
    }

    /// How long to wait before the next attempt to arm. A writer's transaction ends soon; a
    /// stranger may stay for ever, and each attempt makes the writers ring.
    async fn in_the_way(&mut self) -> Duration {
        let since = *self.unarmed_since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.patience {
            return ARM_PAUSE;
        }
        let found = async { Ok::<_, Failure>(strangers(&self.others.get().await?).await?) };
        // The worker meets the same error and reports it.
        let Ok(found) = found.await else { return ARM_PAUSE };
        if found.is_empty() {
            self.blocked_by.clear();
            self.heard.send_if_modified(|heard| std::mem::take(&mut heard.blocked));
            return ARM_PAUSE;
        }
        for stranger in found.iter().filter(|stranger| !self.blocked_by.contains(stranger)) {
            tracing::warn!(
                "{stranger} holds the doorbell's lock but is not Schoolbell, so the service cannot sleep and polls all \
                 the time; end it in the source: {}",
                stranger.end()
            );
        }
        self.blocked_by = found;
        self.heard.send_if_modified(|heard| !std::mem::replace(&mut heard.blocked, true));
        self.patience
    }

    /// The bell is armed: nobody is in the way.
    fn is_free(&mut self) {
        self.unarmed_since = None;
        if !std::mem::take(&mut self.blocked_by).is_empty() {
            tracing::info!(
                "only Schoolbell holds the doorbell's lock again; the service sleeps again"
            );
        }
        self.heard.send_if_modified(|heard| std::mem::take(&mut heard.blocked));
    }

    /// Every notice means that there may be work; one that cannot be read is counted and logged
    /// once per kind. Only a ring for a test means nothing: its token is returned.
    fn pass_on(&mut self, notification: &Notification) -> Option<String> {
        match Notice::decode(notification.payload()) {
            Ok(notice) if notice.is_canary() => {
                self.metrics.notice(notice.kind());
                return Some(notice.table);
            }
            Ok(notice) => {
                self.metrics.notice(notice.kind());
                tracing::trace!(table = %notice.table, op = %notice.op, xact = %notice.xact, "rung");
            }
            Err(kind) => {
                self.metrics.notice(kind.name());
                if self.unknown.insert(kind) {
                    tracing::warn!(
                        ?kind,
                        "a notice on channel {CHANNEL} is not from Schoolbell; this one and similar ones are ignored"
                    );
                }
            }
        }
        self.heard.send_modify(|heard| heard.rings += 1);
        None
    }
}

/// Takes or releases the lock as wished (`may_try`: whether it may try to take it now); true when
/// it is held.
async fn fulfil(client: &Client, wish: Wish, armed: bool, may_try: bool) -> Result<bool, Failure> {
    match wish {
        Some(_) if armed => Ok(true),
        Some(_) if may_try => arm(client).await,
        Some(_) => Ok(false),
        None if armed => disarm(client).await.map(|()| false),
        None => Ok(false),
    }
}

/// Takes the lock exclusively; false when a transaction that did not ring is still running, or when
/// nobody would ring because the queue of notices fills up.
async fn arm(client: &Client) -> Result<bool, Failure> {
    let lock = client.execute(ARM, &[&BELL_LOCK, &QUEUE_LIMIT]);
    let locked = unless_silent(ANSWER_TIMEOUT, async {
        match lock.await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
            done => Ok(done? > 0),
        }
    });
    let locked = locked.await?;
    if locked {
        failpoint::reach(Failpoint::WhileArming).await;
    }
    Ok(locked)
}

async fn disarm(client: &Client) -> Result<(), Failure> {
    failpoint::reach(Failpoint::WhileDisarming).await;
    let unlock = client.execute("select pg_catalog.pg_advisory_unlock($1)", &[&BELL_LOCK]);
    unless_silent(ANSWER_TIMEOUT, async { Ok(unlock.await.map(|_| ())?) }).await
}
