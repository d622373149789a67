//! Who may write to the target: the session that holds the writer's lock there, and nobody else.
//!
//! The lock belongs to the very session that writes, so a process that was paused or cut off cannot
//! overwrite what its successor wrote: without the session there is no lock, and no way to write.
//! Nor can a process that is stopped keep the lock: it falls silent, and the server ends its session.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::mapping::Object;
use crate::postgres::db::{Direct, Session};
use crate::postgres::deadline::unless_silent;
use crate::postgres::failure::Failure;
use crate::postgres::stranger::Stranger;

/// "SCHBWRIT": the writer, in the target database.
const WRITER_LOCK: i64 = 0x5343_4842_5752_4954;
/// How the name of the writer's session begins.
const WRITER: &str = "schoolbell writer ";
const HOLDER: &str = concat!(
    "with holder as (\n",
    include_str!("../../sql/lock_holders.sql"),
    ")\n",
    include_str!("../../sql/writer_holder.sql")
);
/// The server ends the writer's session, and with it the lock, after this long without a word from it: the process
/// is stopped or frozen, and another one has to continue.
const LONGEST_SILENCE: &str = "15s";
/// How often the session sends something: a few times within that limit, so that a slow moment does
/// no harm.
const SIGN_OF_LIFE: Duration = Duration::from_secs(4);
/// An empty statement takes under a millisecond; a server that is this late will have ended the session.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// $1: how long, between transactions and within one.
const LIMIT_SILENCE: &str = "
    select
        pg_catalog.set_config('idle_session_timeout', $1, false),
        pg_catalog.set_config('idle_in_transaction_session_timeout', $1, false)
";
/// An index lookup takes about as long as reading ten rows in sequence, when the table is in
/// memory. With the default of 4 the planner would read a whole table of a million rows for each
/// batch of thousands.
const RANDOM_PAGE_COST: &str = "select pg_catalog.set_config('random_page_cost', '0.1', false)";
/// A batch of ten thousand rows is kept within a statement; the default of 4 MB would write it to a file.
const WORK_MEM: &str = "select pg_catalog.set_config('work_mem', '32MB', false)";
/// Of `application_name`'s 63 bytes, what is left for the host.
const MAX_HOST_CHARS: usize = 18;

/// The session that holds the lock.
#[derive(Debug, Clone, Serialize)]
pub struct Holder {
    /// Its process id on the target's server.
    pub pid: Option<i32>,
    /// Host and process of the program, where it can be seen.
    pub process: Option<String>,
    /// The address it comes from.
    pub client: Option<String>,
    /// Since when it is the writer.
    pub since: Option<Timestamp>,
}

/// Tries to become the writer; true from then on, until the session ends.
pub async fn take(target: &Direct) -> Result<bool, tokio_postgres::Error> {
    let row = target.row("select pg_catalog.pg_try_advisory_lock($1)", &[&WRITER_LOCK]).await?;
    if !row.get::<_, bool>(0) {
        return Ok(false);
    }
    let name = format!("{WRITER}{} since {:.0}", process(), Timestamp::now());
    target.row("select pg_catalog.set_config('application_name', $1, false)", &[&name]).await?;
    target.row(LIMIT_SILENCE, &[&LONGEST_SILENCE]).await?;
    target.row_once(RANDOM_PAGE_COST).await?;
    target.row_once(WORK_MEM).await?;
    Ok(true)
}

/// Sends something in the writer's session now and then, unless the session is in use; returns when
/// that fails.
pub async fn stay(session: Arc<Mutex<Direct>>) -> Failure {
    loop {
        tokio::time::sleep(SIGN_OF_LIFE).await;
        let Ok(session) = session.try_lock() else { continue };
        let sign = async { Ok(session.row_once("select").await?) };
        if let Err(failure) = unless_silent(ANSWER_TIMEOUT, sign).await {
            return failure;
        }
    }
}

/// Who holds the writer's lock.
#[derive(Debug, Clone)]
pub enum Holding {
    /// A process that may write the mapped tables, and calls itself the writer.
    Writer(Holder),
    /// Another session. While it holds the lock nobody can write.
    Stranger(Stranger),
}

/// Who holds the writer's lock, as the target shows it; a writer may write the tables of these
/// objects.
pub async fn holding<'a>(
    target: &Session,
    objects: impl IntoIterator<Item = &'a Object>,
) -> Result<Option<Holding>, tokio_postgres::Error> {
    let (upper, lower) = (WRITER_LOCK >> 32, WRITER_LOCK & 0xffff_ffff);
    let (mut schemas, mut names, mut inserted) = (Vec::new(), Vec::new(), Vec::new());
    for object in objects {
        schemas.push(object.target.schema.as_str());
        names.push(object.target.table.as_str());
        inserted.push(!object.update_only);
    }
    let rows = target.rows(HOLDER, &[&upper, &lower, &schemas, &names, &inserted]).await?;
    Ok(rows.first().map(|row| {
        let name = row.get::<_, Option<&str>>("application_name").unwrap_or_default();
        let told = name.strip_prefix(WRITER).and_then(|told| told.split_once(" since "));
        match told {
            Some((process, since)) if row.get("may_write") => Holding::Writer(Holder {
                pid: row.get("pid"),
                process: Some(process.to_string()),
                client: row.get("client"),
                since: since.parse().ok().or_else(|| row.get("backend_start")),
            }),
            _ => Holding::Stranger(Stranger::of(row)),
        }
    }))
}

/// The process id of a session on its server.
pub async fn pid(session: &Direct) -> Result<i32, tokio_postgres::Error> {
    Ok(session.row_once("select pg_catalog.pg_backend_pid()").await?.get(0))
}

/// This process, for people: Heroku's name for it or the host's, and the process id.
pub fn process() -> String {
    let host = ["DYNO", "HOSTNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
        .unwrap_or_else(|| "process".into());
    format!("{}/{}", shortened(host.trim()), std::process::id())
}

/// Names of containers begin alike and end differently.
fn shortened(host: &str) -> String {
    let characters: Vec<char> = host.chars().collect();
    if characters.len() <= MAX_HOST_CHARS {
        return host.to_string();
    }
    let half = (MAX_HOST_CHARS - 1) / 2;
    let (start, end) = (&characters[..half], &characters[characters.len() - half..]);
    start.iter().chain(&['~']).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_of_hosts_keep_their_end() {
        let name = |end: &str| shortened(&format!("schoolbell-production-worker-7d9f8c5b6-{end}"));
        assert_eq!(name("abcde"), "schoolbe~b6-abcde");
        assert_ne!(name("abcde"), name("abcdf"));
        assert!(name("abcde").chars().count() <= MAX_HOST_CHARS);
        assert_eq!(shortened("worker.1"), "worker.1");
    }
}
