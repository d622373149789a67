//! What an error of a database means for us: the variant is the decision.
//!
//! Promise: no sentence of this module holds a value of a row. This is the one place where what a server says of an error
//! becomes text for people.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::error::{DbError, SqlState};

mod condition;
mod said;
#[cfg(test)]
mod tests;

use condition::Decision;
use said::Said;

/// What helps where waiting does.
const BY_ITSELF: &str = "it is retried by itself";
/// What helps when a login is refused that worked before.
const LOGIN: &str = "correct user and password of the connection URL, or let the role log in again";

/// What helps where triggers in the target notify and cannot.
const EMPTY_QUEUE: &str = "end the session that listens and stays in a transaction, on any database of that server; it \
                           is retried by itself";
/// How the server's message begins where a value and what is computed of it are too large for its memory: about 130 MB
/// of text, which is trimmed. It is never translated.
const TOO_LARGE: &str = "invalid memory alloc request size";
/// What helps then.
const SHORTEN: &str =
    "the value is too large for the server to compute with; make it smaller in the source row";
/// What helps where a single row takes very long in the target.
const SLOW: &str = "look for what its trigger waits for or computes; it is retried by itself, less often than others";
/// The same in the source.
const SLOW_SOURCE: &str = "look for what the mapping's expressions and filter wait for or compute for this row; it is \
                           retried by itself, less often than others";
/// What helps where a policy may hide rows: these would be taken for rows that are gone.
const SHOW_ROWS: &str =
    "let the role of the connection URL see every row: alter role ... bypassrls";

/// Why a step did not succeed, by what is to be done about it.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The connection is gone: back off and connect again. No row is at fault, so nothing is
    /// parked. As long as the session lives, an error of any code may be one row's.
    Reconnect(String),
    /// Deadlock, time-out, lack of resources, another server: the same rows may succeed in a moment.
    Retry(Refusal),
    /// The database lacks something (a table, a column, a right): no row of this object can succeed until
    /// a human fixes it, and every row can afterwards.
    Blocked(Refusal),
    /// A value was refused: this row would be refused again.
    Dead(Refusal),
}

/// Why a database refused something, and what a human can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The five letters of the SQL standard.
    pub sqlstate: String,
    /// What happened, without a value of the row.
    pub reason: String,
    /// What helps.
    pub remedy: &'static str,
}

impl Refusal {
    /// A row that another transaction has locked, and that was not waited for.
    pub fn locked() -> Self {
        Self {
            sqlstate: SqlState::LOCK_NOT_AVAILABLE.code().to_string(),
            reason: "another transaction has the target row locked".into(),
            remedy: BY_ITSELF,
        }
    }

    /// A target row whose write was broken off, because others wait for it meanwhile.
    pub fn slow_in_the_target(limit: Duration) -> Self {
        Self::slow(limit, SLOW)
    }

    /// A source row that was broken off while it was read.
    pub fn slow_in_the_source(limit: Duration) -> Self {
        Self::slow(limit, SLOW_SOURCE)
    }

    fn slow(limit: Duration, remedy: &'static str) -> Self {
        Self {
            sqlstate: SqlState::QUERY_CANCELED.code().to_string(),
            reason: format!(
                "it takes longer than {:.1} s, and holds up all others meanwhile",
                limit.as_secs_f64()
            ),
            remedy,
        }
    }

    /// Whether each attempt holds up all others for seconds.
    pub fn is_slow(&self) -> bool {
        [SLOW, SLOW_SOURCE].contains(&self.remedy)
    }

    /// A key that Salesforce would change.
    pub fn of_key(reason: &str) -> Self {
        Self {
            sqlstate: SqlState::CHECK_VIOLATION.code().to_string(),
            reason: reason.into(),
            remedy: "give the source row another key",
        }
    }

    /// The first two letters of the code.
    pub fn class(&self) -> &str {
        condition::class(&self.sqlstate)
    }

    /// Whether a value did not fit its column.
    pub fn is_about_a_value(&self) -> bool {
        self.class() == "22"
    }

    /// The same refusal, for which something else helps.
    #[must_use]
    pub fn with_remedy(self, remedy: &'static str) -> Self {
        Self { remedy, ..self }
    }
}

/// Whether a value cannot be one of the type that it is meant for: its form, its range or its characters.
pub fn is_unfit(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| condition::class(code.code()) == "22")
}

/// The rows of a key that was asked for; none where it can be no key there.
pub fn none_if_unfit(
    rows: Result<Vec<Row>, tokio_postgres::Error>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    match rows {
        Err(error) if is_unfit(&error) => Ok(Vec::new()),
        rows => rows,
    }
}

impl Failure {
    /// A retry alone would not help.
    pub fn needs_a_human(&self) -> bool {
        matches!(self, Self::Blocked(_) | Self::Dead(_))
    }

    /// The server has not the memory or disk for this much at once; for less it may.
    pub fn is_lack_of_room(&self) -> bool {
        matches!(self.sqlstate(), Some("53200" | "53400"))
    }

    /// A statement was broken off: it had taken too long, or somebody cancelled it.
    pub fn is_cancelled(&self) -> bool {
        self.sqlstate() == Some(SqlState::QUERY_CANCELED.code())
    }

    /// See [`Refusal::is_slow`].
    pub fn is_slow(&self) -> bool {
        self.refusal().is_some_and(Refusal::is_slow)
    }

    /// What a database refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Reconnect(_) => None,
            Self::Retry(refusal) | Self::Blocked(refusal) | Self::Dead(refusal) => Some(refusal),
        }
    }

    /// The database's code for it, where it was a database that refused.
    pub fn sqlstate(&self) -> Option<&str> {
        self.refusal().map(|refusal| refusal.sqlstate.as_str())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reconnect(reason) => f.write_str(reason),
            Self::Retry(refusal) | Self::Blocked(refusal) | Self::Dead(refusal) => {
                write!(f, "{} ({}); {}", refusal.reason, refusal.sqlstate, refusal.remedy)
            }
        }
    }
}

impl std::error::Error for Failure {}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Said::of(db).into(),
            None => Self::Reconnect(chain(&error)),
        }
    }
}

impl From<Said<'_>> for Failure {
    fn from(said: Said<'_>) -> Self {
        let refusal = |remedy| Refusal {
            sqlstate: said.sqlstate.to_string(),
            reason: said.sentence().text(),
            remedy,
        };
        let lost = |helps: Option<&str>| {
            let reason = said.sentence().with_code(said.sqlstate);
            Self::Reconnect(match helps {
                Some(helps) => format!("{reason}; {helps}"),
                None => reason,
            })
        };
        let decision = said.condition().decision;
        match decision {
            Decision::Login if said.ends_the_session => lost(Some(LOGIN)),
            Decision::Retry(helps) if said.ends_the_session => lost(helps),
            _ if said.ends_the_session => lost(None),
            Decision::Dead(_) if said.routine == Some(said::FULL_QUEUE) => {
                Self::Retry(refusal(EMPTY_QUEUE))
            }
            Decision::Blocked(_) if said.routine == Some(said::HIDDEN_ROWS) => {
                Self::Blocked(refusal(SHOW_ROWS))
            }
            Decision::Blocked(remedy) => Self::Blocked(refusal(remedy)),
            Decision::Retry(_) if said.message.starts_with(TOO_LARGE) => {
                Self::Dead(refusal(SHORTEN))
            }
            Decision::Retry(helps) => Self::Retry(refusal(helps.unwrap_or(BY_ITSELF))),
            Decision::Dead(remedy) => Self::Dead(refusal(remedy)),
            Decision::Login => Self::Dead(refusal(condition::ASK)),
        }
    }
}

/// An error with its causes, in one line without values of rows.
pub fn chain(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return Said::of(db).sentence().with_code(db.code().code());
    }
    let mut text = error.to_string();
    if let Some(cause) = error.source()
        && !text.contains(&cause.to_string())
    {
        text.push_str(&format!(": {cause}"));
    }
    text
}

/// The server's own message for a statement that reads no row: it may quote the text of the
/// statement. Not to be used for any other statement.
pub fn of_a_statement_that_reads_no_row(db: &DbError) -> String {
    Said::of(db).sentence_without_rows().with_code(db.code().code())
}

impl From<deadpool_postgres::PoolError> for Failure {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) => error.into(),
            error => Self::Reconnect(error.to_string()),
        }
    }
}
