//! Who may write to the target: the session that holds the writer's lock there, and nobody else.
//!
//! The lock belongs to the very session that writes, so a process that was paused or cut off cannot
//! overwrite what its successor wrote: without the session there is no lock, and no way to write.

use jiff::Timestamp;
use serde::Serialize;

use crate::db::{Direct, Session};

/// "SCHBWRIT": the writer, in the target database.
const WRITER_LOCK: i64 = 0x5343_4842_5752_4954;
const HOLDER: &str = include_str!("../sql/writer_holder.sql");
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
    let name = format!("schoolbell writer {} since {:.0}", process(), Timestamp::now());
    target.row("select pg_catalog.set_config('application_name', $1, false)", &[&name]).await?;
    Ok(true)
}

/// Who is the writer, as the target sees it.
pub async fn holder(target: &Session) -> Result<Option<Holder>, tokio_postgres::Error> {
    let (upper, lower) = (WRITER_LOCK >> 32, WRITER_LOCK & 0xffff_ffff);
    Ok(target.rows(HOLDER, &[&upper, &lower]).await?.first().map(|row| {
        let name = row.get::<_, Option<String>>("application_name").unwrap_or_default();
        let told =
            name.strip_prefix("schoolbell writer ").and_then(|told| told.split_once(" since "));
        Holder {
            pid: row.get("pid"),
            process: told.map(|(process, _)| process.to_string()),
            client: row.get("client"),
            since: told
                .and_then(|(_, since)| since.parse().ok())
                .or_else(|| row.get("backend_start")),
        }
    }))
}

/// This process, for people: Heroku's name for it or the host's, and the process id.
pub fn process() -> String {
    let host = ["DYNO", "HOSTNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
        .unwrap_or_else(|| "process".into());
    let host: String = host.trim().chars().take(MAX_HOST_CHARS).collect();
    format!("{host}/{}", std::process::id())
}
