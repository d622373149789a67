//! Checks of the connections: server, role, version, encryption, pooler.

use super::report::Diagnosis;
use super::side::{Hindrance, Side};
use crate::capture::NotifyMode;
use crate::capture::installation;
use crate::postgres::db;
use crate::postgres::supported::VERSIONS;
use crate::postgres::tls::Mode;

const OVERRULED: &str = include_str!("../../../sql/doctor_overruled.sql");

/// Whether the database is reached, and can be written.
pub(super) async fn reached(side: &Side) -> Result<Diagnosis, Hindrance> {
    let (setting, flag) = (side.setting(), side.flag());
    if let Some(reason) = side.unreachable() {
        let found = format!("cannot connect to {}: {reason}", side.url);
        return Ok(Diagnosis::failed(found)
            .say(format!("check host, port, database, user and password in {setting} or {flag}"))
            .command(format!("psql \"${setting}\" -c 'select 1'")));
    }
    let facts = side.facts()?;
    let found = format!("{} as {}", side.url, facts.role);
    Ok(match facts.in_recovery {
        false => Diagnosis::ok(found),
        true => Diagnosis::failed(format!("{found}: it is a standby in recovery"))
            .say(format!("let {setting} or {flag} lead to the primary")),
    })
}

/// Whether the server is one that Schoolbell knows.
pub(super) async fn version(side: &Side) -> Result<Diagnosis, Hindrance> {
    let facts = side.facts()?;
    let found = format!("PostgreSQL {}", facts.version);
    let (oldest, newest) = (VERSIONS.start(), VERSIONS.end());
    Ok(if let Some(too_old) = facts.too_old() {
        Diagnosis::failed(too_old)
            .say(format!("upgrade the server to PostgreSQL {oldest} to {newest}"))
    } else if VERSIONS.contains(&facts.major_version) {
        Diagnosis::ok(found)
    } else {
        Diagnosis::advice(format!("{found} is newer than those this program was tested with"))
            .say(format!("look for a newer schoolbell; this one was tested up to {newest}"))
    })
}

/// Settings of the role, the database or the server that would change results, and that our
/// sessions override.
pub(super) async fn settings(side: &Side) -> Result<Diagnosis, Hindrance> {
    let names: Vec<&str> = db::settled().collect();
    let rows = side.ask(async |session| session.rows(OVERRULED, &[&names]).await).await?;
    let found = rows.iter().map(|row| {
        let (name, value): (&str, &str) = (row.get("name"), row.get("value"));
        format!("{name} = {value}")
    });
    let found: Vec<String> = found.collect();
    Ok(Diagnosis::ok(match found.is_empty() {
        true => format!("all {} that decide what is right are as they should be", names.len()),
        false => {
            format!("set differently here, and overridden in our sessions: {}", found.join(", "))
        }
    }))
}

/// Whether others on the way can read along.
pub(super) async fn tls(side: &Side) -> Result<Diagnosis, Hindrance> {
    let facts = side.facts()?;
    if !side.is_pooled()? {
        return Ok(encryption(facts.tls.as_deref(), side));
    }
    // The server sees the pooler's connection only; ours is as `sslmode` demands, or unknown.
    let mode = side.url.sslmode();
    let insists = matches!(mode, Mode::Require | Mode::VerifyCa | Mode::VerifyFull);
    if insists || side.url.is_local() {
        return Ok(encryption(insists.then_some("TLS up to the pooler"), side));
    }
    Err(Hindrance::new(format!(
        "the connection goes through a pooler, and sslmode={mode} does not require encryption"
    )))
}

fn encryption(tls: Option<&str>, side: &Side) -> Diagnosis {
    let mode = side.url.sslmode();
    match tls {
        Some(tls) => Diagnosis::ok(format!("{tls}, sslmode={mode}")),
        None if side.url.is_local() => {
            Diagnosis::ok("none, and the connection does not leave this machine")
        }
        None => Diagnosis::advice(format!(
            "none (sslmode={mode}): everyone on the network path can read the rows"
        ))
        .say(format!(
            "add sslmode=require (or verify-full with sslrootcert) to {}; the server needs ssl = on",
            side.setting()
        )),
    }
}

/// A pooler in front of the source: everything works, but no notice arrives.
pub(super) async fn source_pooler(source: &Side) -> Result<Diagnosis, Hindrance> {
    if !source.is_pooled()? {
        return Ok(Diagnosis::ok("none: the session is ours"));
    }
    // In mode `never` no notice is expected.
    if let Ok(Some(NotifyMode::Never)) = source.ask(installation::notify_mode).await {
        return Ok(Diagnosis::ok("one; notify mode is never, so the service polls anyway"));
    }
    Ok(Diagnosis::advice(
        "a pooler: it passes no notices, so the service polls five times a second",
    )
    .say("give the service a direct connection in DATABASE_URL, or live with the polling:")
    .command("schoolbell migrate --notify never --source-url DIRECT_URL"))
}

/// A pooler in front of the target: no process could become the writer.
pub(super) async fn target_pooler(target: &Side) -> Result<Diagnosis, Hindrance> {
    Ok(match target.is_pooled()? {
        false => Diagnosis::ok("none: the session is ours"),
        true => Diagnosis::failed(
            "a pooler: the writer's lock belongs to a session, so writing is not possible",
        )
        .say(format!(
            "give the service a direct connection in {} or {}",
            target.setting(),
            target.flag()
        )),
    })
}
