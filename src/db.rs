//! Connections: dedicated sessions, a pool, and the one that listens. All get the same settings.

use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Manager, ManagerConfig, Pool, RecyclingMethod};
use futures_util::future::poll_fn;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{DatabaseUrl, Unusable};
use crate::failure::Failure;

/// A connection of its own, with a cache of prepared statements.
pub type Session = ClientWrapper;

/// A host that answers nothing must not hold up a start for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A vanished host is noticed after 5 s + 3 × 2 s without a sign of life, and a write to it after 10 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Set on every session.
///
/// - `timezone`: the application's timestamps are UTC without zone; casts must not shift them.
/// - `lock_timeout`: a locked target row delays its batch this long; then the others go on without it.
/// - `statement_timeout`: the longest statement we expect counts or sorts a table of millions.
/// - `tcp_…`: the server, too, must notice soon that we have vanished, because it keeps our locks until then.
/// - `idle_in_transaction_session_timeout`: a paused process must not hold locks or vacuum back for ever.
///
/// The search path is left as the server gives it: Heroku Connect's triggers depend on it.
const SETTINGS: &str = "set timezone = 'UTC'; set lock_timeout = '2s'; set statement_timeout = '10min'; \
                        set idle_in_transaction_session_timeout = '1min'; set client_min_messages = 'warning'; \
                        set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3; \
                        set tcp_user_timeout = '10s'";

/// One of the two databases.
#[derive(Clone)]
pub struct Database {
    url: DatabaseUrl,
    tls: MakeRustlsConnect,
}

impl Database {
    /// Checks the TLS settings; connects to nothing yet. `purpose` is shown in `pg_stat_activity`.
    pub fn new(mut url: DatabaseUrl, purpose: &str) -> Result<Self, Unusable> {
        let tls = url.connector()?;
        url.postgres
            .application_name(format!("schoolbell {purpose}"))
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(TCP_USER_TIMEOUT);
        if url.postgres.get_connect_timeout().is_none() {
            url.postgres.connect_timeout(CONNECT_TIMEOUT);
        }
        Ok(Self { url, tls })
    }

    /// Opens a connection that belongs to the caller and is closed with it.
    pub async fn session(&self) -> Result<Session, Failure> {
        let (client, task) = in_time(connect(self)).await?;
        Ok(ClientWrapper::new(client, task))
    }

    /// Opens a connection that hands on what it hears. The channel closes when the connection does.
    pub async fn listener(
        &self,
    ) -> Result<(Client, mpsc::UnboundedReceiver<Notification>), Failure> {
        let (client, mut connection) = in_time(self.url.connect(&self.tls)).await?;
        let (heard, hear) = mpsc::unbounded_channel();
        // Ends by itself when the client is dropped or the connection fails; then `heard` is dropped too.
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                if let AsyncMessage::Notification(notification) = message
                    && heard.send(notification).is_err()
                {
                    break;
                }
            }
        });
        in_time(client.batch_execute(SETTINGS)).await?;
        Ok((client, hear))
    }

    /// A pool of at most `size` connections. Nothing is connected yet.
    pub fn pool(&self, size: usize) -> Pool {
        let connect = PooledConnect(self.clone());
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(self.url.postgres.clone(), connect, config);
        Pool::builder(manager)
            .max_size(size)
            .create_timeout(Some(CONNECT_TIMEOUT))
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .build()
            .expect("time-outs need a runtime, and it has one")
    }
}

/// The driver's own time-out ends with the TCP connection; a server may accept that and then say nothing.
async fn in_time<T>(
    connecting: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => Ok(connected?),
        Err(_) => {
            Err(Failure::Reconnect(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))
        }
    }
}

async fn connect(database: &Database) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
    let (client, connection) = database.url.connect(&database.tls).await?;
    let task = tokio::spawn(async move {
        // Whoever uses the client meets the same error and reports it; twice would be noise.
        if let Err(error) = connection.await {
            tracing::debug!(reason = %crate::failure::chain(&error), "connection closed");
        }
    });
    client.batch_execute(SETTINGS).await?;
    Ok((client, task))
}

struct PooledConnect(Database);

type Connecting<'a> = std::pin::Pin<
    Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>,
>;

impl deadpool_postgres::Connect for PooledConnect {
    /// The pool's copy of the settings does not know every `sslmode`.
    fn connect(&self, _: &tokio_postgres::Config) -> Connecting<'_> {
        Box::pin(connect(&self.0))
    }
}
