//! Schema `schoolbell` in the source: refinery's migrations, run under a lock of ours, and its version.

use std::fmt;
use std::time::Duration;

use refinery::{Migration, Runner};
use tokio::time::Instant;

use crate::postgres::db::{Direct, Session};
use crate::postgres::name::{TableName, literal};
use crate::postgres::stranger::Stranger;

mod embedded {
    refinery::embed_migrations!("sql/migrations");
}

/// Where refinery keeps what it ran.
const HISTORY: &str = "schoolbell.refinery_schema_history";
/// "SCHBMIGR": held while migrating, because refinery takes no lock and two deploys may migrate at once.
const MIGRATE_LOCK: i64 = 0x5343_4842_4d49_4752;
/// A migration takes well under a second, unless a busy table makes it give way; a second one waits
/// no longer than this.
const LONGEST_MIGRATION: Duration = Duration::from_secs(30);
/// Between two attempts to get the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
const LOCK_HOLDERS: &str = include_str!("../../sql/lock_holders.sql");
const FOREIGN_OWNERS: &str = include_str!("../../sql/foreign_owners.sql");
const VERSION: &str = include_str!("../../sql/schema_version.sql");

/// How the installed schema relates to this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Nothing is installed.
    Missing,
    /// Installed, but not up to date.
    Older(i32),
    /// As this program knows it.
    Current(i32),
    /// Installed by a newer program.
    Newer(i32),
}

impl Version {
    /// Why the program cannot work with this schema, with the remedy.
    pub fn refusal(self) -> Option<String> {
        match self {
            Self::Current(_) => None,
            Self::Missing => Some(
                "the source database has no schema schoolbell; run `schoolbell migrate` first"
                    .into(),
            ),
            Self::Older(version) => Some(format!(
                "schema schoolbell has version {version}, this program needs {}; run `schoolbell migrate`",
                newest_known()
            )),
            Self::Newer(version) => Some(format!(
                "schema schoolbell has version {version}, this program knows only up to {}; deploy the newer \
                 schoolbell",
                newest_known()
            )),
        }
    }
}

/// What went wrong, in one line.
#[derive(Debug)]
pub struct NotMigrated(String);

impl fmt::Display for NotMigrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotMigrated {}

impl From<tokio_postgres::Error> for NotMigrated {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(crate::postgres::failure::chain(&error))
    }
}

fn runner() -> Runner {
    let mut runner = embedded::migrations::runner().set_grouped(true);
    runner.set_migration_table_name(HISTORY);
    runner
}

fn newest_known() -> i32 {
    runner().get_migrations().iter().map(|migration| migration.version()).max().unwrap_or(0)
}

/// The version of the installed schema.
pub async fn version(source: &Session) -> Result<Version, tokio_postgres::Error> {
    let there: bool =
        source.row("select pg_catalog.to_regclass($1) is not null", &[&HISTORY]).await?.get(0);
    if !there {
        return Ok(Version::Missing);
    }
    let installed: Option<i32> = source.row(VERSION, &[]).await?.get(0);
    Ok(match installed {
        None => Version::Missing,
        Some(version) if version < newest_known() => Version::Older(version),
        Some(version) if version > newest_known() => Version::Newer(version),
        Some(version) => Version::Current(version),
    })
}

/// Something in schema `schoolbell`, or the schema itself, that belongs to a role which has no business there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// As Postgres describes it: `table schoolbell.change`.
    pub thing: String,
    /// Its owner.
    pub owner: String,
}

/// Objects that belong neither to a superuser nor to a role that can act as the owner of a captured
/// table.
pub async fn foreign_owners(
    source: &Session,
    captured: &[&TableName],
) -> Result<Vec<Foreign>, tokio_postgres::Error> {
    let schemas: Vec<&str> = captured.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = captured.iter().map(|table| table.table.as_str()).collect();
    let rows = source.rows(FOREIGN_OWNERS, &[&schemas, &names]).await?;
    Ok(rows
        .iter()
        .map(|row| Foreign { thing: row.get("thing"), owner: row.get("owner") })
        .collect())
}

/// Expressions of indexes and triggers keep the operators that were found when they were created:
/// these must not be somebody else's.
pub const OWN_PATH: &str = "search_path = pg_catalog";

/// Takes the lock that keeps two migrations apart; it goes with the session. Anybody who may connect can hold it, so it is
/// not waited for long: returns who holds it then.
pub async fn lock(source: &Direct) -> Result<Option<Stranger>, tokio_postgres::Error> {
    let began = Instant::now();
    loop {
        let row =
            source.row("select pg_catalog.pg_try_advisory_lock($1)", &[&MIGRATE_LOCK]).await?;
        if row.get(0) {
            return Ok(None);
        }
        if began.elapsed() > LONGEST_MIGRATION {
            let (upper, lower) = (MIGRATE_LOCK >> 32, MIGRATE_LOCK & 0xffff_ffff);
            let holders = source.rows(LOCK_HOLDERS, &[&upper, &lower]).await?;
            if let Some(holder) = holders.first() {
                return Ok(Some(Stranger::of(holder)));
            }
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// The migrations that were not run yet: name and SQL.
pub fn pending(version: Version) -> Vec<(String, String)> {
    let unapplied = unapplied(version);
    unapplied
        .iter()
        .map(|migration| (migration.to_string(), migration.sql().unwrap_or_default().to_string()))
        .collect()
}

fn unapplied(version: Version) -> Vec<Migration> {
    let installed = match version {
        Version::Missing => 0,
        Version::Older(version) | Version::Current(version) | Version::Newer(version) => version,
    };
    let migrations = runner();
    let migrations = migrations.get_migrations().iter();
    let mut later: Vec<Migration> =
        migrations.filter(|migration| migration.version() > installed).cloned().collect();
    // Sorted by file name the tenth would come before the second.
    later.sort_by_key(Migration::version);
    later
}

/// Where [`migrate`] notes its migrations, as SQL.
fn history_table() -> String {
    format!(
        "create table if not exists {HISTORY} (\n    version int4 primary key,\n    name varchar(255),\n    \
         applied_on varchar(255),\n    checksum varchar(255)\n);\n"
    )
}

/// The tables without their rows, as SQL for a database that gets the rows by replication: those that are pending,
/// or all of them where none is.
pub fn tables(version: Version) -> String {
    let since = match version {
        Version::Older(_) => version,
        Version::Missing | Version::Current(_) | Version::Newer(_) => Version::Missing,
    };
    let mut sql =
        format!("begin;\nset local {OWN_PATH};\ncreate schema if not exists schoolbell;\n\n");
    for (name, migration) in pending(since) {
        sql.push_str(&format!("-- migration {name}\n{}\n\n", migration.trim_end()));
    }
    // Its rows come from the other side: a row that is there already would end the replication.
    sql + &history_table() + "commit;\n"
}

/// What [`migrate`] would note about its migrations, as SQL, so that a schema that was made by hand from a
/// dry run is known to the program afterwards.
pub fn history(version: Version) -> String {
    let mut sql = history_table();
    for migration in unapplied(version) {
        sql.push_str(&format!(
            "insert into {HISTORY} (version, name, applied_on, checksum)\nvalues ({}, {}, pg_catalog.to_char(\
             pg_catalog.now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '{}');\n",
            migration.version(),
            literal(migration.name()),
            migration.checksum()
        ));
    }
    sql
}

/// Brings the schema up to date, all migrations in one transaction.
pub async fn migrate(source: &mut Direct) -> Result<(), NotMigrated> {
    // Even `if not exists` needs the right to create one, which a role that only upgrades may lack.
    let there: bool = source
        .row("select pg_catalog.to_regnamespace('schoolbell') is not null", &[])
        .await?
        .get(0);
    if !there {
        source.client().batch_execute("create schema schoolbell").await.map_err(|error| {
            let reason = crate::postgres::failure::chain(&error);
            NotMigrated(format!("{reason}; the role needs: grant create on database NAME to ROLE"))
        })?;
    }
    // A migration has a comment that not every encoding can hold, and a released migration is never
    // changed: then it is printed as it is.
    let encoding: String = source.row("select pg_catalog.getdatabaseencoding()", &[]).await?.get(0);
    if encoding != "UTF8" {
        source.client().batch_execute("set client_encoding = 'SQL_ASCII'").await?;
    }
    // The pool's wrapper hides the client that refinery wants.
    let client: &mut tokio_postgres::Client = source.client_mut();
    runner().run_async(client).await.map_err(|error| NotMigrated(reason(&error)))?;
    if encoding != "UTF8" {
        source.client().batch_execute("set client_encoding = 'UTF8'").await?;
    }
    Ok(())
}

/// The server's message, if there is one; refinery's own error only says that there was one.
fn reason(error: &refinery::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let mut causes = causes.filter_map(|cause| cause.downcast_ref::<tokio_postgres::Error>());
    causes.next().map_or_else(|| error.to_string(), crate::postgres::failure::chain)
}
