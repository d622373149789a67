//! Which database this source is, and to which target its changes go.
//!
//! Promise: an outbox has one reader, and a copy of the source never writes to the original's
//! target. Only `schoolbell adopt` changes what is noted. Sole writer of `schoolbell.pairing`; each
//! acknowledgement reads it.

use std::fmt;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use crate::postgres::db::{Parameter, Session};
use crate::postgres::failure::Failure;

const CLAIM: &str = include_str!("../../sql/pairing_claim.sql");
const ADOPT: &str = include_str!("../../sql/pairing_adopt.sql");
const READ: &str = "select source_system, source_database, target_system, target_database, target_address, paired_at \
                    from schoolbell.pairing";
/// The number that a cluster gets when it is created. Its standbys have the same; one that is
/// restored from a dump has a different one.
const SYSTEM: &str =
    "select system_identifier::pg_catalog.text from pg_catalog.pg_control_system()";
/// Where the server does not tell.
const UNKNOWN: &str = "unknown";

/// A database, wherever it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseId {
    /// Its cluster's number.
    pub system: String,
    /// Its name.
    pub database: String,
}

impl DatabaseId {
    /// The database that a session is connected to.
    pub async fn of(session: &Session) -> Result<Self, Failure> {
        let system = match session.row_once(SYSTEM).await {
            Ok(row) => row.get(0),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => UNKNOWN.into(),
            Err(error) => return Err(error.into()),
        };
        let database =
            session.row_once("select pg_catalog.current_database()::pg_catalog.text").await?;
        Ok(Self { system, database: database.get(0) })
    }

    /// Whether it may be the same.
    fn is(&self, other: &Self) -> bool {
        let known = |place: &Self| place.system != UNKNOWN;
        self.database == other.database
            && (self.system == other.system || !known(self) || !known(other))
    }
}

/// Both databases of a service.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Where changes are recorded.
    pub source: DatabaseId,
    /// Where they are applied.
    pub target: DatabaseId,
    /// The target for people: host, port and name.
    pub address: String,
}

impl Pair {
    /// The databases that these sessions are connected to.
    pub async fn of(source: &Session, target: &Session, address: String) -> Result<Self, Failure> {
        let (source, target) = (DatabaseId::of(source).await?, DatabaseId::of(target).await?);
        Ok(Self { source, target, address })
    }

    fn parameters(&self) -> [&dyn Parameter; 5] {
        let Self { source, target, address } = self;
        [&source.system, &source.database, &target.system, &target.database, address]
    }
}

/// What is noted.
#[derive(Debug, Clone)]
pub struct Pairing {
    /// Both databases.
    pub pair: Pair,
    /// Since when.
    pub since: Timestamp,
}

impl From<&Row> for Pairing {
    fn from(row: &Row) -> Self {
        let place = |system: &str, database: &str| DatabaseId {
            system: row.get(system),
            database: row.get(database),
        };
        let pair = Pair {
            source: place("source_system", "source_database"),
            target: place("target_system", "target_database"),
            address: row.get("target_address"),
        };
        Self { pair, since: row.get("paired_at") }
    }
}

/// Why these databases do not work together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// The source is another database than the one that was noted: it was copied or moved.
    Source {
        /// The name of the one that was noted.
        noted: String,
    },
    /// Its changes go to another target.
    Target {
        /// To which.
        noted: String,
        /// The one that was meant.
        meant: String,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source { noted } => write!(
                f,
                "nothing is written: the source database is a copy of {noted}, or was moved. If it is the one that should \
                 write now: schoolbell adopt"
            ),
            Self::Target { noted, meant } => write!(
                f,
                "nothing is written: the changes of the source go to {noted}, and each of them can go to one target only. \
                 If they should go to {meant} from now on: schoolbell adopt"
            ),
        }
    }
}

impl std::error::Error for Mismatch {}

impl Pairing {
    /// Why these databases do not work together, if so.
    pub fn mismatch(&self, pair: &Pair) -> Option<Mismatch> {
        let noted = &self.pair;
        if !noted.source.is(&pair.source) {
            return Some(Mismatch::Source { noted: noted.source.database.clone() });
        }
        (!noted.target.is(&pair.target))
            .then(|| Mismatch::Target { noted: noted.address.clone(), meant: pair.address.clone() })
    }
}

/// Notes the pair where none is noted. Returns the noted target, or why the pair does not work
/// together.
pub async fn claim(source: &Session, pair: &Pair) -> Result<Result<DatabaseId, Mismatch>, Failure> {
    loop {
        let rows = source.rows(CLAIM, &pair.parameters()).await?;
        // None: another process has noted its own at this very moment.
        if let Some(noted) = rows.first().map(Pairing::from) {
            return Ok(noted.mismatch(pair).map_or(Ok(noted.pair.target), Err));
        }
    }
}

/// What is noted; nothing before the first service has worked.
pub async fn read(source: &Session) -> Result<Option<Pairing>, tokio_postgres::Error> {
    Ok(source.rows(READ, &[]).await?.first().map(Pairing::from))
}

/// Why the databases do not work together, as far as they can be asked.
pub async fn mismatch(
    source: &Session,
    target: Option<&Session>,
) -> Result<Option<Mismatch>, tokio_postgres::Error> {
    let Some(noted) = read(source).await? else { return Ok(None) };
    let mut pair = noted.pair.clone();
    if let Ok(place) = DatabaseId::of(source).await {
        pair.source = place;
    }
    if let Some(target) = target
        && let Ok(place) = DatabaseId::of(target).await
    {
        pair.address = place.database.clone();
        pair.target = place;
    }
    Ok(noted.mismatch(&pair))
}

/// Notes this pair in the place of any other.
pub async fn adopt(source: &Session, pair: &Pair) -> Result<(), tokio_postgres::Error> {
    source.execute(ADOPT, &pair.parameters()).await.map(|_| ())
}
