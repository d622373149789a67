//! Writes projected rows into the mapped tables: update what differs, insert what is missing.
//!
//! Promise: the same rows applied twice leave the same target and cause no second write. A row that
//! is right is not touched, a row whose parent Salesforce does not know is not written, and a row
//! that exists is never upserted (each attempt would burn a value of the target's int4 id
//! sequence). A row that another transaction has locked is not waited for while other rows are
//! locked by us: that would be half of a deadlock.
//!
//! Few rows go as the parameters of one statement, which takes one round trip. Many go by COPY into a temporary
//! table first, because unpacking twenty arrays costs the server twice as much for each row.

mod ask;
mod call;
mod statements;
pub mod writer;

pub use ask::{Asked, arrived_keys, keys_there, retain_lacking, rows_standing, writes_in};
pub use call::{Call, compare_rows, may_copy};
pub use statements::Statements;

use tokio_postgres::Row;

use crate::postgres::apart::Parts;
use crate::project;

/// What is done about rows that somebody else has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// They are waited for. Only for a single row: waiting while other rows are locked is half of a
    /// deadlock.
    Wait,
    /// They are not written.
    PassOver,
}

/// Some keys of one object: rows to write, or keys whose row is gone.
#[derive(Debug, Clone, Copy)]
pub enum KeyPart<'a> {
    /// Projected rows.
    Rows(&'a [Row]),
    /// Keys.
    Absent(&'a [String]),
}

impl<'a> KeyPart<'a> {
    /// How many keys it has.
    pub fn len(self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Absent(keys) => keys.len(),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Its keys.
    pub fn keys(self) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Self::Rows(rows) => Box::new(rows.iter().map(project::key)),
            Self::Absent(keys) => Box::new(keys.iter().map(String::as_str)),
        }
    }
}

impl Parts for KeyPart<'_> {
    fn count(&self) -> usize {
        self.len()
    }

    fn halves(self) -> [Self; 2] {
        let middle = self.len() / 2;
        match self {
            Self::Rows(rows) => [Self::Rows(&rows[middle..]), Self::Rows(&rows[..middle])],
            Self::Absent(keys) => [Self::Absent(&keys[middle..]), Self::Absent(&keys[..middle])],
        }
    }
}
