//! Connections: dedicated sessions, a pool, and the one that listens. All get the same settings.
//!
//! Promise: it is found out whether a pooler is in front of the server before any other statement
//! is sent, and our settings never reach another client's session.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Manager, ManagerConfig, RecyclingMethod};
use futures_util::future::poll_fn;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Error, Notification, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::postgres::failure::{Failure, Refusal};
use crate::postgres::tls::TlsConnection;
use crate::postgres::url::{DatabaseUrl, UnusableSetting};

mod parameter;
mod session;
mod settings;

use settings::{SettingStatements, Use};
pub use settings::{settled, settled_value};

pub use parameter::{Element, Parameter, Typed};
use session::Access;
pub use session::{Direct, Evaluator, Session, Transaction};

/// A host that answers nothing must not hold up a start for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A vanished host is noticed after 5 s + 3 × 2 s without a sign of life, and a write to it after 10 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Unless another one is asked for: the longest statement of a command counts or sorts a table of millions.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(10);

/// A time that another program has written; none where it is no date of a calendar, such as
/// `infinity`.
pub fn moment(row: &Row, column: &str) -> Option<Timestamp> {
    row.try_get::<_, Option<Timestamp>>(column).ok().flatten()
}

/// One of the two databases.
#[derive(Clone)]
pub struct Database {
    /// As the user has it.
    url: DatabaseUrl,
    /// Asks for the mark of a session of our own.
    marked: DatabaseUrl,
    purpose: String,
    statement_timeout: Duration,
    session_use: Use,
    keeps_plans: bool,
    settings: Arc<SettingStatements>,
    tls: MakeRustlsConnect,
    /// What the first connection found; the later ones rely on it.
    way: Arc<OnceLock<Access>>,
}

impl Database {
    /// Checks the TLS settings; connects to nothing yet. `purpose`, one word, is shown in `pg_stat_activity`.
    pub fn new(mut url: DatabaseUrl, purpose: &str) -> Result<Self, UnusableSetting> {
        let tls = url.connector()?;
        url.postgres
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(TCP_USER_TIMEOUT);
        if url.postgres.get_connect_timeout().is_none() {
            url.postgres.connect_timeout(CONNECT_TIMEOUT);
        }
        let (purpose, users) = (purpose.to_string(), url.postgres.get_options());
        let (statement_timeout, session_use, keeps_plans) = (STATEMENT_TIMEOUT, Use::Own, false);
        let settings =
            SettingStatements::new(&purpose, users, statement_timeout, session_use, keeps_plans)
                .into();
        let mut marked = url.clone();
        marked.postgres.options(settings::at_startup(users));
        let way = Arc::default();
        Ok(Self {
            url,
            marked,
            purpose,
            statement_timeout,
            session_use,
            keeps_plans,
            settings,
            tls,
            way,
        })
    }

    /// Limits the statements of the sessions that are opened from now on; below a millisecond is no limit.
    pub fn limit_statements(&mut self, timeout: Duration) {
        self.statement_timeout = timeout;
        self.set();
    }

    fn set(&mut self) {
        let settings = SettingStatements::new(
            &self.purpose,
            self.url.postgres.get_options(),
            self.statement_timeout,
            self.session_use,
            self.keeps_plans,
        );
        self.settings = settings.into();
    }

    fn used_to(&self, session_use: Use) -> Self {
        let mut database = Self { session_use, ..self.clone() };
        database.set();
        database
    }

    /// The same database for another purpose, whose statements have another limit.
    pub fn for_purpose(mut self, purpose: &str, timeout: Duration) -> Self {
        self.purpose = purpose.to_string();
        self.limit_statements(timeout);
        self
    }

    /// The same database for sessions that last, and keep the plans of their statements while tables
    /// grow.
    pub fn with_kept_plans(&self) -> Self {
        let mut database = Self { keeps_plans: true, ..self.clone() };
        database.set();
        database
    }

    /// Opens a connection that belongs to the caller and is closed with it.
    pub async fn session(&self) -> Result<Session, Failure> {
        // On the heap: this future is large, and is part of every future that connects.
        let (client, task) = Box::pin(in_time(self.connect())).await?;
        Ok(Session::own(ClientWrapper::new(client, task), self.way(), self.settings.clone()))
    }

    /// Opens a connection for statements that evaluate what a mapping says.
    pub async fn evaluator(&self) -> Result<Evaluator, Failure> {
        Ok(Evaluator::new(self.used_to(Use::Evaluate).session().await?))
    }

    /// Opens a connection that writes into the mapped tables, where triggers of others fire. Refused behind a pooler.
    pub async fn writing_session(&self) -> Result<Direct, Failure> {
        let database = self.with_kept_plans().used_to(Use::Write);
        let session = database.session().await?.direct()?;
        let role = session
            .row("select pg_catalog.current_setting('session_replication_role')", &[])
            .await?;
        match role.get(0) {
            "origin" => Ok(session),
            other => Err(Failure::Blocked(Refusal {
                sqlstate: SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE.code().into(),
                reason: format!(
                    "session_replication_role is {other} in the target's sessions, so Heroku Connect's triggers do not fire"
                ),
                remedy: "take it back: alter role ... reset session_replication_role",
            })),
        }
    }

    /// Opens a connection that hands on what it hears, and waits so long for a lock. The channel closes when the
    /// connection does.
    pub async fn listener(
        &self,
        lock_timeout: Duration,
    ) -> Result<(Client, mpsc::UnboundedReceiver<Notification>), Failure> {
        let (client, mut connection) = in_time(self.marked.connect(&self.tls)).await?;
        let (heard, hear) = mpsc::unbounded_channel();
        // Ends by itself when the client is dropped or the connection fails; then `heard` is dropped too.
        tokio::spawn(async move {
            let hearing = async {
                while let Some(Ok(message)) =
                    poll_fn(|context| connection.poll_message(context)).await
                {
                    if let AsyncMessage::Notification(notification) = message
                        && heard.send(notification).is_err()
                    {
                        break;
                    }
                }
            };
            tokio::select! {
                () = hearing => {}
                // The driver would wait for an answer that is still owed, over a link that may have stalled.
                () = heard.closed() => {}
            }
        });
        let millis = lock_timeout.as_millis();
        let settings = format!("{}; set lock_timeout = '{millis}ms'", self.settings.session);
        in_time(client.batch_execute(&settings)).await?;
        Ok((client, hear))
    }

    /// A pool of at most `size` connections. Nothing is connected yet.
    pub fn pool(&self, size: usize) -> Pool {
        let connect = PooledConnect(self.clone());
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(self.url.postgres.clone(), connect, config);
        let inner = deadpool_postgres::Pool::builder(manager)
            .max_size(size)
            .create_timeout(Some(CONNECT_TIMEOUT))
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .build()
            .expect("time-outs need a runtime, and it has one");
        Pool { inner, database: self.clone() }
    }

    /// Whether a pooler is between us and the server; unknown before the first connection.
    fn way(&self) -> Access {
        self.way.get().copied().unwrap_or(Access::Direct)
    }

    /// Connects as the first connection did, or finds out how.
    async fn connect(&self) -> Result<(Client, JoinHandle<()>), Error> {
        match self.way.get() {
            Some(Access::Pooled) => self.url.connect(&self.tls).await.map(started),
            Some(Access::Direct) => {
                let (client, task) = started(self.marked.connect(&self.tls).await?);
                // Fails when a pooler has come between; the next attempt finds that out.
                client.batch_execute(&self.settings.session).await?;
                Ok((client, task))
            }
            None => {
                let (client, task, way) = self.explore().await?;
                // When two connections find out at the same time, either answer is right.
                self.way.get_or_init(|| way);
                Ok((client, task))
            }
        }
    }

    /// A pooler refuses the mark, or drops it silently.
    async fn explore(&self) -> Result<(Client, JoinHandle<()>, Access), Error> {
        let (client, task) = match self.marked.connect(&self.tls).await {
            Ok(opened) => started(opened),
            Err(error) if refuses_options(&error) => {
                let (client, task) = started(self.url.connect(&self.tls).await?);
                return Ok((client, task, Access::Pooled));
            }
            Err(error) => return Err(error),
        };
        match client.batch_execute(&self.settings.session).await {
            Ok(()) => Ok((client, task, Access::Direct)),
            Err(error) if lacks_mark(&error) => Ok((client, task, Access::Pooled)),
            Err(error) => Err(error),
        }
    }
}

/// Connections of one database, opened when needed and used again.
#[derive(Clone)]
pub struct Pool {
    inner: deadpool_postgres::Pool,
    database: Database,
}

impl Pool {
    /// Waits for a connection; dropped, it goes back.
    pub async fn get(&self) -> Result<Session, Failure> {
        let client = self.inner.get().await?;
        Ok(Session::lent(client, self.database.way(), self.database.settings.clone()))
    }

    /// Closes the connections that nobody uses: one that has stalled looks as good as any other.
    pub fn forget(&self) {
        self.inner.retain(|_, _| false);
    }

    /// A connection that needs the server's session to itself.
    pub async fn direct(&self) -> Result<Direct, Failure> {
        self.get().await?.direct()
    }
}

/// A server knows the parameter; what does not is a pooler (PgBouncer: 08P01, RDS Proxy: 0A000).
fn refuses_options(error: &Error) -> bool {
    matches!(error.code(), Some(&SqlState::PROTOCOL_VIOLATION | &SqlState::FEATURE_NOT_SUPPORTED))
}

#[expect(clippy::disallowed_methods, reason = "it is compared, not shown")]
fn lacks_mark(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db| {
        *db.code() == SqlState::UNDEFINED_OBJECT && db.message().contains(settings::MARK)
    })
}

/// The driver's own time-out covers only the TCP connection; a server may accept that and then not
/// answer.
async fn in_time<T>(connecting: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => Ok(connected?),
        Err(_) => {
            Err(Failure::Reconnect(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))
        }
    }
}

fn started((client, connection): TlsConnection) -> (Client, JoinHandle<()>) {
    let task = tokio::spawn(async move {
        // The client's user meets the same error and reports it; twice would be noise.
        if let Err(error) = connection.await {
            tracing::debug!(reason = %crate::postgres::failure::chain(&error), "connection closed");
        }
    });
    (client, task)
}

struct PooledConnect(Database);

type Connecting<'a> =
    std::pin::Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

impl deadpool_postgres::Connect for PooledConnect {
    /// The pool's copy of the settings does not know every `sslmode`.
    fn connect(&self, _: &tokio_postgres::Config) -> Connecting<'_> {
        Box::pin(self.0.connect())
    }
}
