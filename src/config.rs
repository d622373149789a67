//! What a command may need to know, and how the service paces itself.
//!
//! Flag, then environment, then default. Secrets stay inside [`DatabaseUrl`], which cannot be printed.

use std::time::Duration;

use crate::postgres::url::DatabaseUrl;

/// Writers that notify fail when Postgres's notification queue is full. Beyond this share of it the
/// triggers stop ringing, and a warning is logged.
pub const QUEUE_LIMIT: f64 = 0.5;

/// What a command may need to know. Read once, at the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The application's database.
    pub source: DatabaseUrl,
    /// Heroku Connect's database.
    pub target: DatabaseUrl,
    /// `SALESFORCE_ENABLED` is `true`: the target may be written.
    pub enabled: bool,
}

/// How the service paces itself. The defaults are right for production; tests shorten them.
#[derive(Debug, Clone)]
pub struct Pace {
    /// At most this many changes in one batch: large enough to make round trips cheap, small enough
    /// to keep a batch well under a second and its memory in the low megabytes.
    pub batch_changes: i64,
    /// This many rows in the first page of a resync. Live changes wait behind a page, so later ones are larger, up to
    /// five times, only while a page takes less than half of `page_time`, and smaller when it takes longer.
    pub page_rows: i64,
    /// How long a page of a resync may keep live changes waiting.
    pub page_time: Duration,
    /// Between two looks for a resync while there are changes, which come first.
    pub resync_look: Duration,
    /// Between two looks at the outbox while awake. Half of it is the latency added under steady load.
    pub poll: Duration,
    /// How long a busy service lets changes gather before it claims again. A batch costs a dozen
    /// statements however small it is; without this, thousands of transactions a second would cause
    /// as many batches.
    pub gather: Duration,
    /// How long without work before the service goes to sleep: longer than the gaps of a busy application.
    pub awake: Duration,
    /// Between two looks while asleep, in case a ring is ever lost; also how often keys that are
    /// due by the clock are looked for.
    pub sweep: Duration,
    /// Between two looks at whether the mapping still fits the tables and the triggers. It takes some dozen short
    /// statements that read catalogues; rows that are refused for it make it look at once.
    pub replan: Duration,
    /// Between two looks at the parents that parked keys wait for.
    pub wait_sweep: Duration,
    /// Between two looks in mode `never`, where nobody rings.
    pub quiet_poll: Duration,
    /// Between two attempts of a standby to become the writer.
    pub standby: Duration,
    /// Between two looks at both databases for the page and the metrics, while nobody asks for either.
    pub look: Duration,
    /// The same while somebody does. Each look takes a dozen statements that read catalogues and our own tables.
    pub look_watched: Duration,
    /// How long one statement of the service may take on the server. A batch takes well under a second; this
    /// is for a page of a resync that has to read a large table, and for triggers that are not ours.
    pub statement_timeout: Duration,
    /// How much longer the answer may take on its way before its connection is given up: longer than a server
    /// under load takes to cancel a statement and to say so.
    pub answer_grace: Duration,
    /// The share of Postgres's notification queue from which on a warning is logged: when it is
    /// full, writers that notify fail.
    pub queue_warning: f64,
    /// How long the service tries to arm the bell before it looks who is in the way, and how long it then waits if that
    /// is somebody who has no business there.
    pub bell_patience: Duration,
    /// How often the writer compares all rows in the background; none: never.
    pub verify_every: Option<Duration>,
}

impl Pace {
    /// After this long without a word a connection is as good as lost.
    pub fn longest_silence(&self) -> Duration {
        self.statement_timeout + self.answer_grace
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            batch_changes: 5_000,
            page_rows: 2_000,
            page_time: Duration::from_millis(150),
            resync_look: Duration::from_secs(1),
            poll: Duration::from_millis(2),
            gather: Duration::from_millis(75),
            awake: Duration::from_millis(50),
            sweep: Duration::from_secs(2),
            replan: Duration::from_secs(30),
            wait_sweep: Duration::from_secs(5),
            quiet_poll: Duration::from_millis(200),
            standby: Duration::from_secs(1),
            look: Duration::from_secs(10),
            look_watched: Duration::from_secs(2),
            statement_timeout: Duration::from_mins(2),
            answer_grace: Duration::from_secs(15),
            queue_warning: QUEUE_LIMIT,
            bell_patience: Duration::from_mins(1),
            verify_every: None,
        }
    }
}
