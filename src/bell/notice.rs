//! The payload of a NOTIFY: built by the triggers, decoded and checked here.
//!
//! Promise: a notice is a hint. Nothing that arrives on the channel changes anything but latency.

use serde::Deserialize;

use crate::postgres::name::{TableName, literal};

/// The version of the payload that this program writes and reads.
const VERSION: u32 = 1;
/// Longer payloads are not ours: Postgres allows 8,000 bytes, two names need at most 300.
const MAX_BYTES: usize = 1_000;
const CANARY: &str = "CANARY";

/// A decoded notice.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Notice {
    v: u32,
    /// The table that has work, plain.
    pub table: String,
    /// INSERT, UPDATE, DELETE, TRUNCATE, RETRY (a human made parked keys due), or CANARY (a test; `table` is its
    /// token).
    pub op: String,
    /// The transaction, as text: it does not fit into a JSON number everywhere.
    pub xact: String,
    /// When the statement began, in microseconds since 1970.
    pub at: i64,
}

/// What is wrong with a payload. Few kinds, so that each can be counted and logged once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Malformed {
    /// Not a JSON object with our fields.
    Unreadable,
    /// Another version.
    Version,
    /// Longer than any of ours.
    TooLong,
    /// An operation that we do not know.
    Operation,
}

impl Malformed {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Version => "other_version",
            Self::TooLong => "too_long",
            Self::Operation => "unknown_operation",
        }
    }
}

impl Notice {
    /// Decodes and checks a payload.
    pub fn decode(payload: &str) -> Result<Self, Malformed> {
        if payload.len() > MAX_BYTES {
            return Err(Malformed::TooLong);
        }
        // A struct would be read from an array, too.
        if !payload.trim_start().starts_with('{') {
            return Err(Malformed::Unreadable);
        }
        let notice: Self = serde_json::from_str(payload).map_err(|_| Malformed::Unreadable)?;
        if notice.v != VERSION {
            return Err(Malformed::Version);
        }
        if !["INSERT", "UPDATE", "DELETE", "TRUNCATE", "RETRY", CANARY]
            .contains(&notice.op.as_str())
        {
            return Err(Malformed::Operation);
        }
        if notice.xact.is_empty() || !notice.xact.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(Malformed::Unreadable);
        }
        Ok(notice)
    }

    /// The word for it, by its operation.
    pub fn kind(&self) -> &'static str {
        match self.op.as_str() {
            "INSERT" => "insert",
            "UPDATE" => "update",
            "DELETE" => "delete",
            "TRUNCATE" => "truncate",
            "RETRY" => "retry",
            _ => "test",
        }
    }

    /// Sent only to test whether the listener hears.
    pub fn is_canary(&self) -> bool {
        self.op == CANARY
    }
}

/// The SQL expression that builds the payload in a trigger: constant for all rows of a statement.
pub fn payload_sql(table: &TableName) -> String {
    payload(&literal(&table.plain()), "tg_op")
}

/// The SQL expression for a test of the listener.
pub fn canary_payload_sql(token: &str) -> String {
    payload(&literal(token), &literal(CANARY))
}

/// The SQL expression for a ring by a human's command.
pub fn retry_payload_sql() -> String {
    payload("''", "'RETRY'")
}

fn payload(table: &str, operation: &str) -> String {
    format!(
        "pg_catalog.json_build_object('v', {VERSION}, 'table', {table}::pg_catalog.text, 'op', \
         {operation}::pg_catalog.text, 'xact', pg_catalog.pg_current_xact_id()::pg_catalog.text, 'at', \
         (pg_catalog.date_part('epoch', pg_catalog.statement_timestamp()) operator(pg_catalog.*) 1000000)\
         ::pg_catalog.int8)::pg_catalog.text"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_told_apart_by_kind() {
        let good =
            r#"{"v":1,"table":"public.schools","op":"UPDATE","xact":"42","at":1700000000000000}"#;
        assert_eq!(Notice::decode(good).map(|notice| notice.table), Ok("public.schools".into()));
        assert_eq!(Notice::decode("ping"), Err(Malformed::Unreadable));
        let array = r#"[1,"public.schools","UPDATE","42",1700000000000000]"#;
        assert_eq!(Notice::decode(array), Err(Malformed::Unreadable));
        assert_eq!(Notice::decode(&good.replace("42", "4 2")), Err(Malformed::Unreadable));
        assert_eq!(Notice::decode(&good.replace("\"v\":1", "\"v\":2")), Err(Malformed::Version));
        assert_eq!(Notice::decode(&good.replace("UPDATE", "EXPLODE")), Err(Malformed::Operation));
        assert_eq!(Notice::decode(&"x".repeat(2_000)), Err(Malformed::TooLong));
    }
}
