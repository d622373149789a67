//! What a database's refusal means for us: the variant is the decision.

use std::error::Error as _;
use std::fmt;

use tokio_postgres::error::{DbError, Severity, SqlState};

/// Why a step did not succeed, by what is to be done about it.
#[derive(Debug)]
pub enum Failure {
    /// The connection is gone, or the server is not one that can be written: back off and connect again.
    /// Nobody's row is at fault, so nothing is parked.
    Reconnect(String),
    /// Deadlock, time-out, lack of resources: the same rows may succeed in a moment.
    Retry(Refusal),
    /// The database lacks something (a table, a column, a right): no row of this object can succeed until
    /// a human mends it, and every row can afterwards.
    Blocked(Refusal),
    /// A value was refused: this row would be refused again.
    Dead(Refusal),
}

/// A database's own reason, and what a human can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The five letters of the SQL standard.
    pub sqlstate: String,
    /// The server's message without DETAIL, which quotes the row.
    pub reason: String,
    /// What helps.
    pub remedy: &'static str,
}

impl Refusal {
    /// Whether a value did not fit its column.
    pub fn is_about_a_value(&self) -> bool {
        self.sqlstate.starts_with("22")
    }

    /// The same refusal, for which something else helps.
    #[must_use]
    pub fn with_remedy(self, remedy: &'static str) -> Self {
        Self { remedy, ..self }
    }
}

impl Failure {
    /// Trying again by itself would not help.
    pub fn needs_a_human(&self) -> bool {
        matches!(self, Self::Blocked(_) | Self::Dead(_))
    }

    /// The database's code for it, where it was a database that refused.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Reconnect(_) => None,
            Self::Retry(refusal) | Self::Blocked(refusal) | Self::Dead(refusal) => {
                Some(&refusal.sqlstate)
            }
        }
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
        let Some(db) = error.as_db_error() else {
            return Self::Reconnect(chain(&error));
        };
        let refusal =
            |remedy| Refusal { sqlstate: db.code().code().to_string(), reason: reason(db), remedy };
        let state = db.code();
        match &state.code()[..2] {
            _ if *state == SqlState::READ_ONLY_SQL_TRANSACTION => {
                Self::Reconnect("the server is read-only: not a primary (any more)".into())
            }
            _ if *state == SqlState::ADMIN_SHUTDOWN
                || *state == SqlState::CRASH_SHUTDOWN
                || *state == SqlState::CANNOT_CONNECT_NOW
                || *state == SqlState::DATABASE_DROPPED
                || *state == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT =>
            {
                Self::Reconnect(db.message().to_string())
            }
            // Behind a pooler that was found out nothing is prepared; this one has passed our mark on.
            "26" => Self::Reconnect(format!(
                "{}: a pooler in transaction mode stands in front of the database; give the service a direct \
                 connection",
                db.message()
            )),
            // A server without space or memory is no row's fault either.
            "08" | "53" | "58" => Self::Reconnect(db.message().to_string()),
            "42" if *state == SqlState::INSUFFICIENT_PRIVILEGE => {
                Self::Blocked(refusal("grant the missing right to the role of the connection URL"))
            }
            // Insufficient privilege can also be a row-security policy; syntax and names are not a row's fault.
            "42" | "0A" | "3D" | "3F" => {
                Self::Blocked(refusal("make the mapping and the table fit each other again"))
            }
            // A login that is refused (any more). Within a session the same class is what a trigger raised.
            "28" if ends_the_session(db) => Self::Reconnect(format!(
                "{}; mend user and password of the connection URL, or give the role its login back",
                db.message()
            )),
            // Whatever else ends the session: it is no row's fault.
            _ if ends_the_session(db) => Self::Reconnect(db.message().to_string()),
            // 57014 is a statement time-out or a cancel, 55P03 a lock time-out, XX an error of the server itself.
            "40" | "55" | "57" | "XX" => Self::Retry(refusal("it is tried again by itself")),
            "22" => {
                Self::Dead(refusal("mend the value in the source row, or the type of the column"))
            }
            "23" => Self::Dead(refusal("mend the source row, or the constraint in the target")),
            _ => Self::Dead(refusal("ask whoever owns the trigger or rule that refused the row")),
        }
    }
}

fn ends_the_session(db: &DbError) -> bool {
    match db.parsed_severity() {
        Some(severity) => matches!(severity, Severity::Fatal | Severity::Panic),
        // Only somebody between us and the server leaves it out, and does not translate it.
        None => db.severity() == "FATAL",
    }
}

/// The server's message, with what it quotes left out where that may be a value of the row.
fn reason(db: &DbError) -> String {
    let mut reason = match db.code().code().starts_with("22") {
        true => without_quotes(db.message()),
        false => db.message().to_string(),
    };
    let context = [("column", db.column()), ("constraint", db.constraint()), ("table", db.table())];
    for (what, name) in context {
        if let Some(name) = name.filter(|name| !reason.contains(name)) {
            reason.push_str(&format!(", {what} {name}"));
        }
    }
    reason
}

/// `invalid input syntax for type integer: "secret"` without the secret.
fn without_quotes(message: &str) -> String {
    message.split('"').step_by(2).collect::<Vec<_>>().join("…")
}

/// An error with its causes, in one line.
pub fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = match error.as_db_error() {
        Some(db) => db.message().to_string(),
        None => error.to_string(),
    };
    if error.as_db_error().is_none()
        && let Some(cause) = error.source()
        && !text.contains(&cause.to_string())
    {
        text.push_str(&format!(": {cause}"));
    }
    text
}

impl From<deadpool_postgres::PoolError> for Failure {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) => error.into(),
            error => Self::Reconnect(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_values_do_not_reach_a_reason() {
        let message = without_quotes("invalid input syntax for type integer: \"secret\"");
        assert_eq!(message, "invalid input syntax for type integer: …");
    }
}
