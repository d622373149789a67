//! A session of somebody else that holds one of our locks. Anybody who may connect can take an advisory lock.
//!
//! Promise: a session without the right to do what the lock is for is never taken for ours,
//! whatever it calls itself.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use crate::postgres::name::literal;

/// The session, as far as the server shows it to us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stranger {
    /// Its process id on the server; none for a prepared transaction.
    pub pid: Option<i32>,
    /// The name of a prepared transaction.
    pub prepared: Option<String>,
    /// The role that it logged in as.
    pub role: Option<String>,
    /// The name that it gave itself.
    pub application: Option<String>,
    /// The address it comes from, where we may see it.
    pub client: Option<String>,
    /// Since when it is connected, where we may see it.
    pub since: Option<Timestamp>,
}

impl Stranger {
    /// Reads columns `pid`, `gid`, `role`, `application_name`, `client` and `backend_start`.
    pub fn of(row: &Row) -> Self {
        let application: Option<String> = row.get("application_name");
        Self {
            pid: row.get("pid"),
            prepared: row.get("gid"),
            role: row.get("role"),
            application: application.filter(|name| !name.is_empty()),
            client: row.get("client"),
            since: row.get("backend_start"),
        }
    }

    /// The statement that ends it.
    pub fn end(&self) -> String {
        match (self.pid, &self.prepared) {
            (Some(pid), _) => format!("select pg_catalog.pg_terminate_backend({pid});"),
            (None, Some(gid)) => format!("rollback prepared {};", literal(gid)),
            (None, None) => "select gid, owner from pg_catalog.pg_prepared_xacts;".into(),
        }
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "session {pid}")?,
            None => match &self.prepared {
                Some(gid) => write!(f, "prepared transaction {gid:?}")?,
                None => f.write_str("a prepared transaction")?,
            },
        }
        if let Some(role) = &self.role {
            write!(f, " of role {role}")?;
        }
        let application = self.application.iter().map(|name| format!("application {name:?}"));
        let client = self.client.iter().map(|client| format!("from {client}"));
        let known: Vec<String> = application.chain(client).collect();
        match known.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", known.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_named_as_far_as_he_is_known() {
        let hidden = Stranger {
            pid: Some(7),
            prepared: None,
            role: None,
            application: None,
            client: None,
            since: None,
        };
        assert_eq!(hidden.to_string(), "session 7");
        let seen = Stranger {
            role: Some("nobody".into()),
            application: Some("schoolbell writer".into()),
            client: Some("10.0.0.1".into()),
            ..hidden
        };
        assert_eq!(
            seen.to_string(),
            "session 7 of role nobody (application \"schoolbell writer\", from 10.0.0.1)"
        );
    }
}
