//! One of the two databases as the checks see it: reached or not, and answering or not.
//!
//! Promise: nobody waits longer than `ANSWER_TIMEOUT` for an answer, and a server that was silent once is not asked again.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::timeout;

use super::report::{Place, Remedy};
use crate::plan::Unplannable;
use crate::postgres::db::{Database, Evaluator, Session};
use crate::postgres::deadline::unless_silent;
use crate::postgres::failure::Failure;
use crate::postgres::supported;
use crate::postgres::url::DatabaseUrl;

const SESSION: &str = include_str!("../../../sql/doctor_session.sql");
/// The server ends a question that takes longer; each is a look at a catalogue, or a bounded one at a table.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that should have ended the question and has still not answered is silent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// To find out which of two servers is silent: an empty statement takes under a millisecond.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// Why something could not be looked at.
#[derive(Debug, Clone)]
pub(super) struct Hindrance {
    /// As one sentence.
    pub reason: String,
    /// What would make it possible.
    pub remedies: Vec<Remedy>,
}

impl Hindrance {
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedies: Vec::new() }
    }
}

impl From<Failure> for Hindrance {
    /// The database's reason with its code. What the service would do about it does not matter here.
    fn from(failure: Failure) -> Self {
        Self::new(match failure {
            Failure::Reconnect(reason) => reason,
            Failure::Retry(refusal) | Failure::Blocked(refusal) | Failure::Dead(refusal) => {
                format!("{} ({})", refusal.reason, refusal.sqlstate)
            }
        })
    }
}

impl From<tokio_postgres::Error> for Hindrance {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::from(error).into()
    }
}

impl From<Unplannable> for Hindrance {
    fn from(unplannable: Unplannable) -> Self {
        match unplannable {
            Unplannable::Database(error) => error.into(),
            Unplannable::Mapping(unusable) => Self::new(unusable.to_string()),
        }
    }
}

/// What a server says of our session, and of the role that it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub role: String,
    pub database: String,
    /// For people, such as `15.18`.
    pub version: String,
    pub major_version: i32,
    pub in_recovery: bool,
    /// Protocol and cipher, where the connection is encrypted.
    pub tls: Option<String>,
    pub is_superuser: bool,
    /// Attributes of the role that the service does not need, as `alter role` has them.
    pub attributes: Vec<String>,
}

impl Facts {
    /// Why the program does not work with this server.
    pub fn too_old(&self) -> Option<String> {
        supported::too_old(self.major_version, &self.version)
    }
}

/// One of the two databases.
pub(super) struct Side {
    pub place: Place,
    pub url: DatabaseUrl,
    opened: Result<OpenSide, String>,
    silent: Cell<bool>,
}

struct OpenSide {
    database: Database,
    session: Session,
    evaluator: Evaluator,
    facts: Facts,
}

impl Side {
    /// Connects, and keeps the reason where that does not succeed.
    pub async fn open(place: Place, url: &DatabaseUrl) -> Self {
        let opened = match timeout(2 * ANSWER_TIMEOUT, open(url)).await {
            Ok(opened) => opened.map_err(|hindrance| hindrance.reason),
            Err(_) => Err(format!("no answer within {} s", (2 * ANSWER_TIMEOUT).as_secs())),
        };
        Self { place, url: url.clone(), opened, silent: Cell::new(false) }
    }

    /// What it is called, for people.
    pub fn name(&self) -> &'static str {
        match self.place {
            Place::Target => "the target database",
            _ => "the source database",
        }
    }

    /// The setting that its URL comes from.
    pub fn setting(&self) -> &'static str {
        match self.place {
            Place::Target => "SALESFORCE_CONNECT_URL",
            _ => "DATABASE_URL",
        }
    }

    /// The flag that its URL may be given by.
    pub fn flag(&self) -> &'static str {
        match self.place {
            Place::Target => "--target-url",
            _ => "--source-url",
        }
    }

    /// Why it was not reached.
    pub fn unreachable(&self) -> Option<&str> {
        self.opened.as_ref().err().map(String::as_str)
    }

    /// What the server says of our session.
    pub fn facts(&self) -> Result<&Facts, Hindrance> {
        Ok(&self.opened()?.facts)
    }

    /// For connections of another kind.
    pub fn database(&self) -> Result<&Database, Hindrance> {
        Ok(&self.opened()?.database)
    }

    pub fn is_pooled(&self) -> Result<bool, Hindrance> {
        Ok(self.opened()?.session.is_pooled())
    }

    /// Asks the database. A question may consist of many; each answer begins the time again.
    pub async fn ask<T, E: Into<Hindrance>>(
        &self,
        question: impl AsyncFnOnce(&Session) -> Result<T, E>,
    ) -> Result<T, Hindrance> {
        let session = &self.opened()?.session;
        let asked = async { Ok(question(session).await) };
        match unless_silent(ANSWER_TIMEOUT, asked).await {
            Ok(answer) => answer.map_err(|error| self.aged(error.into())),
            Err(_) => {
                self.silent.set(true);
                Err(self.silence())
            }
        }
    }

    /// Asks for what a mapping says, or for what depends on the database's own search path.
    pub async fn evaluate<T, E: Into<Hindrance>>(
        &self,
        question: impl AsyncFnOnce(&Evaluator) -> Result<T, E>,
    ) -> Result<T, Hindrance> {
        let evaluator = &self.opened()?.evaluator;
        self.ask(async |_| question(evaluator).await).await
    }

    /// The session for what a mapping says, beside the one that asks.
    pub fn evaluator(&self) -> Result<&Evaluator, Hindrance> {
        Ok(&self.opened()?.evaluator)
    }

    /// Asks something that both databases are needed for.
    pub async fn ask_both<T, E: Into<Hindrance>>(
        &self,
        other: &Self,
        question: impl AsyncFnOnce(&Session, &Session) -> Result<T, E>,
    ) -> Result<T, Hindrance> {
        let (ours, theirs) = (&self.opened()?.session, &other.opened()?.session);
        let asked = async { Ok(question(ours, theirs).await) };
        if let Ok(answer) = unless_silent(ANSWER_TIMEOUT, asked).await {
            return answer.map_err(|error| self.aged(other.aged(error.into())));
        }
        for (side, session) in [(self, ours), (other, theirs)] {
            side.silent.set(timeout(PING_TIMEOUT, session.row_once("select 1")).await.is_err());
        }
        Err(Hindrance::new(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())))
    }

    /// When an old server cannot answer, the reason is its version, not the name that it says it
    /// lacks.
    pub fn aged(&self, hindrance: Hindrance) -> Hindrance {
        match self.facts().ok().and_then(Facts::too_old) {
            Some(too_old) => Hindrance::new(format!("{too_old} ({})", hindrance.reason)),
            None => hindrance,
        }
    }

    fn opened(&self) -> Result<&OpenSide, Hindrance> {
        match &self.opened {
            Err(_) => Err(Hindrance::new(format!("{} was not reached", self.name()))),
            Ok(_) if self.silent.get() => Err(self.silence()),
            Ok(opened) => Ok(opened),
        }
    }

    fn silence(&self) -> Hindrance {
        Hindrance::new(format!(
            "{} gave no answer within {} s",
            self.name(),
            ANSWER_TIMEOUT.as_secs()
        ))
    }
}

async fn open(url: &DatabaseUrl) -> Result<OpenSide, Hindrance> {
    let mut database = Database::new(url.clone(), "doctor")
        .map_err(|unusable| Hindrance::new(unusable.to_string()))?;
    database.limit_statements(STATEMENT_TIMEOUT);
    let session = database.session().await?;
    let facts = facts(&session).await?;
    let evaluator = database.evaluator().await?;
    Ok(OpenSide { database, session, evaluator, facts })
}

async fn facts(session: &Session) -> Result<Facts, tokio_postgres::Error> {
    let row = session.row(SESSION, &[]).await?;
    let tls: Option<String> = row.get("tls_version");
    let cipher: Option<String> = row.get("tls_cipher");
    Ok(Facts {
        role: row.get("role"),
        database: row.get("database"),
        version: row.get("version"),
        major_version: row.get("major_version"),
        in_recovery: row.get("in_recovery"),
        tls: tls.map(|version| format!("{version} ({})", cipher.unwrap_or_default())),
        is_superuser: row.get("is_superuser"),
        attributes: row.get("attributes"),
    })
}
