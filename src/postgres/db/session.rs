//! A connection as the steps use it, whether or not a pooler is in front of the server.
//!
//! Promise: through a pooler in transaction mode nothing is left behind in a server's session, because the next
//! one to get it is the application. So there every statement is sent without a name, in a transaction that has
//! our settings to itself.

use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object};
use futures_util::TryStreamExt;
use futures_util::future::join3;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, RowStream};

use super::parameter::Parameter;
use super::settings::SettingStatements;
use crate::postgres::failure::Failure;

/// The error where only a direct connection will do.
const POOLER: &str = "the connection goes through a pooler, and this needs a direct connection";

/// How a connection leads to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// The server's session is ours, with our settings, as long as the connection lasts.
    Direct,
    /// A pooler lends us some server's session for one transaction at a time.
    Pooled,
}

/// A connection for statements and transactions. Parameters are [`Parameter`]s, in the order of their numbers.
///
/// Statements may be asked for at the same time by one task, and then take one round trip together.
pub struct Session {
    client: Held,
    way: Access,
    settings: Arc<SettingStatements>,
}

enum Held {
    Own(ClientWrapper),
    /// Goes back to the pool of its [`super::Database`].
    Lent(Object),
}

impl Session {
    pub(super) fn own(
        client: ClientWrapper,
        way: Access,
        settings: Arc<SettingStatements>,
    ) -> Self {
        Self { client: Held::Own(client), way, settings }
    }

    pub(super) fn lent(client: Object, way: Access, settings: Arc<SettingStatements>) -> Self {
        Self { client: Held::Lent(client), way, settings }
    }

    fn client(&self) -> &ClientWrapper {
        match &self.client {
            Held::Own(client) => client,
            Held::Lent(client) => client,
        }
    }

    fn client_mut(&mut self) -> &mut ClientWrapper {
        match &mut self.client {
            Held::Own(client) => client,
            Held::Lent(client) => client,
        }
    }

    /// Whether a pooler is in front of the server.
    pub fn is_pooled(&self) -> bool {
        self.way == Access::Pooled
    }

    /// The same connection for what needs the server's session to itself; refused behind a pooler.
    pub fn direct(self) -> Result<Direct, Failure> {
        match self.way {
            Access::Direct => Ok(Direct(self)),
            Access::Pooled => Err(Failure::Reconnect(POOLER.into())),
        }
    }

    /// The rows of a statement.
    pub async fn rows(&self, sql: &str, parameters: &[&dyn Parameter]) -> Result<Vec<Row>, Error> {
        match self.way {
            Access::Direct => {
                let statement = self.client().prepare_typed_cached(sql, &types(parameters)).await?;
                self.client().query(&statement, &values(parameters)).await
            }
            Access::Pooled => {
                let typed = typed(parameters);
                self.alone(self.client().query_typed(sql, &typed)).await
            }
        }
    }

    /// The rows of a statement, or `None` if they have more than this many bytes together: then the rest is discarded.
    /// A single row is returned whatever its size.
    pub async fn rows_within(
        &self,
        bytes: usize,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<Option<Vec<Row>>, Error> {
        match self.way {
            Access::Direct => {
                let statement = self.client().prepare_typed_cached(sql, &types(parameters)).await?;
                let stream = self.client().query_raw(&statement, values(parameters)).await?;
                within(bytes, stream).await
            }
            Access::Pooled => {
                let rows = async {
                    let stream = self.client().query_typed_raw(sql, typed(parameters)).await?;
                    within(bytes, stream).await
                };
                self.alone(rows).await
            }
        }
    }

    /// The row of a statement that always returns one.
    pub async fn row(&self, sql: &str, parameters: &[&dyn Parameter]) -> Result<Row, Error> {
        self.rows(sql, parameters).await.map(only)
    }

    /// The row of a statement that is asked once: nothing of it is kept for the next time.
    pub async fn row_once(&self, sql: &str) -> Result<Row, Error> {
        let asked = self.client().query_typed(sql, &[]);
        match self.way {
            Access::Direct => asked.await.map(only),
            Access::Pooled => self.alone(asked).await.map(only),
        }
    }

    /// How many rows a statement touched.
    pub async fn execute(&self, sql: &str, parameters: &[&dyn Parameter]) -> Result<u64, Error> {
        match self.way {
            Access::Direct => {
                let statement = self.client().prepare_typed_cached(sql, &types(parameters)).await?;
                self.client().execute(&statement, &values(parameters)).await
            }
            Access::Pooled => {
                let typed = typed(parameters);
                self.alone(self.client().execute_typed(sql, &typed)).await
            }
        }
    }

    /// Begins a transaction; dropped, it is rolled back.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        let (way, settings) = (self.way, self.settings.clone());
        let inner = self.client_mut().transaction().await?;
        if way == Access::Pooled {
            inner.batch_execute(&settings.transaction).await?;
        }
        Ok(Transaction { inner, way })
    }

    /// One statement in a transaction of its own, with our settings. All three parts are sent when the first is,
    /// so no other statement of this session comes between them, and they take one round trip.
    async fn alone<T>(
        &self,
        statement: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.alone_with(&format!("begin; {}", self.settings.transaction), statement).await
    }

    async fn alone_with<T>(
        &self,
        begin: &str,
        statement: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let (begun, done, committed) = join3(
            self.client().batch_execute(begin),
            statement,
            self.client().batch_execute("commit"),
        )
        .await;
        begun?;
        let done = done?;
        committed.map(|()| done)
    }
}

/// Where what was refused is tried in parts, each would wait for locks as long as the whole.
const LOCK_HURRY: &str = "set local lock_timeout = '100ms'";

/// A session for statements that evaluate what a mapping says, on the database's own search path, in transactions that
/// only read. It takes no statement of ours that leaves out a schema, which is why it is no [`Session`].
pub struct Evaluator {
    session: Session,
    /// How long a statement of [`Evaluator::rows_within`] may take, in milliseconds.
    limit: AtomicU64,
}

impl Evaluator {
    pub(super) fn new(session: Session) -> Self {
        let limit = AtomicU64::new(milliseconds(session.settings.statement_timeout));
        Self { session, limit }
    }

    /// From now on [`Evaluator::rows_within`] is broken off after this long, rounded up so that it seldom changes. The user's
    /// own limit stays.
    pub async fn limit_statements(&self, limit: Duration) -> Result<(), Error> {
        let seconds = limit.as_secs().max(1).next_power_of_two();
        let most = self.session.settings.statement_timeout;
        self.set_limit(Duration::from_secs(seconds).min(most)).await
    }

    /// From now on it may take as long as any statement of this session.
    pub async fn lift_limit(&self) -> Result<(), Error> {
        self.set_limit(self.session.settings.statement_timeout).await
    }

    async fn set_limit(&self, limit: Duration) -> Result<(), Error> {
        let limit = milliseconds(limit);
        let is_set = self.limit.swap(limit, Ordering::Relaxed) == limit;
        if is_set || self.session.is_pooled() || self.session.settings.users_limit {
            return Ok(());
        }
        self.session.client().batch_execute(&format!("set statement_timeout = {limit}")).await
    }

    /// The rows of a statement.
    pub async fn rows(&self, sql: &str, parameters: &[&dyn Parameter]) -> Result<Vec<Row>, Error> {
        self.session.rows(sql, parameters).await
    }

    /// See [`Session::rows_within`].
    pub async fn rows_within(
        &self,
        bytes: usize,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<Option<Vec<Row>>, Error> {
        let limit = self.limit.load(Ordering::Relaxed);
        if !self.session.is_pooled()
            || limit == milliseconds(self.session.settings.statement_timeout)
        {
            return self.session.rows_within(bytes, sql, parameters).await;
        }
        self.alone(&format!("set local statement_timeout = {limit}"), bytes, sql, parameters).await
    }

    /// The same, which is broken off after this long, and waits only briefly for what is locked.
    pub async fn rows_within_briefly(
        &self,
        limit: Duration,
        bytes: usize,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<Option<Vec<Row>>, Error> {
        let limit = milliseconds(limit);
        let settings = format!("{LOCK_HURRY}; set local statement_timeout = {limit}");
        self.alone(&settings, bytes, sql, parameters).await
    }

    async fn alone(
        &self,
        settings: &str,
        bytes: usize,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<Option<Vec<Row>>, Error> {
        let Self { session, .. } = self;
        let ours = match session.way {
            Access::Direct => "",
            Access::Pooled => &session.settings.transaction,
        };
        let rows = async {
            let stream = session.client().query_typed_raw(sql, typed(parameters)).await?;
            within(bytes, stream).await
        };
        session.alone_with(&format!("begin; {ours}; {settings}"), rows).await
    }

    /// The row of a statement that always returns one.
    pub async fn row(&self, sql: &str, parameters: &[&dyn Parameter]) -> Result<Row, Error> {
        self.session.row(sql, parameters).await
    }

    /// The rows of a statement that is asked once and rolled back, whatever it does.
    pub async fn rows_and_roll_back(&self, sql: &str) -> Result<Vec<Row>, Error> {
        let begin = match self.session.way {
            Access::Direct => "begin read only".to_string(),
            Access::Pooled => format!("begin; {}", self.session.settings.transaction),
        };
        let client = self.session.client();
        let (begun, rows, ended) = join3(
            client.batch_execute(&begin),
            client.query_typed(sql, &[]),
            client.batch_execute("rollback"),
        )
        .await;
        begun?;
        let rows = rows?;
        ended.map(|()| rows)
    }

    /// Begins a transaction in which several statements see the same rows; dropped, it is rolled back.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        self.session.begin().await
    }
}

/// A session that no pooler shares: here a lock or a prepared statement lasts as long as the connection.
pub struct Direct(Session);

impl Direct {
    /// The driver's connection.
    pub fn client(&self) -> &ClientWrapper {
        self.0.client()
    }

    /// The driver's connection, for a transaction.
    pub fn client_mut(&mut self) -> &mut ClientWrapper {
        self.0.client_mut()
    }
}

impl Deref for Direct {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

/// A transaction with our settings.
pub struct Transaction<'a> {
    inner: deadpool_postgres::Transaction<'a>,
    way: Access,
}

impl Transaction<'_> {
    /// The rows of a statement.
    pub async fn rows(&self, sql: &str, parameters: &[&dyn Parameter]) -> Result<Vec<Row>, Error> {
        match self.way {
            Access::Direct => {
                let statement = self.inner.prepare_typed_cached(sql, &types(parameters)).await?;
                self.inner.query(&statement, &values(parameters)).await
            }
            Access::Pooled => self.inner.query_typed(sql, &typed(parameters)).await,
        }
    }

    /// The row of a statement that always returns one.
    pub async fn row(&self, sql: &str, parameters: &[&dyn Parameter]) -> Result<Row, Error> {
        self.rows(sql, parameters).await.map(only)
    }

    /// How many rows a statement touched.
    pub async fn execute(&self, sql: &str, parameters: &[&dyn Parameter]) -> Result<u64, Error> {
        match self.way {
            Access::Direct => {
                let statement = self.inner.prepare_typed_cached(sql, &types(parameters)).await?;
                self.inner.execute(&statement, &values(parameters)).await
            }
            Access::Pooled => self.inner.execute_typed(sql, &typed(parameters)).await,
        }
    }

    /// Commits.
    pub async fn commit(self) -> Result<(), Error> {
        self.inner.commit().await
    }
}

/// The driver reads from the server only as fast as rows are taken from it.
async fn within(bytes: usize, rows: RowStream) -> Result<Option<Vec<Row>>, Error> {
    let (mut rows, mut kept, mut size) = (pin!(rows), Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        size += row.raw_size_bytes();
        if size > bytes && !kept.is_empty() {
            return Ok(None);
        }
        kept.push(row);
    }
    Ok(Some(kept))
}

fn only(rows: Vec<Row>) -> Row {
    rows.into_iter().next().expect("the statement always returns a row")
}

fn typed<'a>(parameters: &[&'a dyn Parameter]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    parameters.iter().map(|parameter| parameter.value()).collect()
}

fn values<'a>(parameters: &[&'a dyn Parameter]) -> Vec<&'a (dyn ToSql + Sync)> {
    parameters.iter().map(|parameter| parameter.value().0).collect()
}

fn types(parameters: &[&dyn Parameter]) -> Vec<Type> {
    parameters.iter().map(|parameter| parameter.value().1).collect()
}

fn milliseconds(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}
