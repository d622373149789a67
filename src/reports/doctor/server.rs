//! Checks of the servers: what keeps the outbox large or the bell unarmed, and whether the clocks
//! differ.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Row;

use super::Limits;
use super::report::{Diagnosis, Place, Remedy};
use super::side::{Hindrance, Side};
use crate::capture::NotifyMode;
use crate::capture::installation;
use crate::postgres::db::Session;
use crate::postgres::name::{ident, literal};

const TRANSACTIONS: &str = include_str!("../../../sql/doctor_transactions.sql");
const PREPARED: &str = include_str!("../../../sql/doctor_prepared.sql");
const AUTOVACUUM: &str = include_str!("../../../sql/doctor_autovacuum.sql");
const CLOCK: &str = "select pg_catalog.clock_timestamp()";
/// A longer list would not help.
const NAMED: usize = 5;

/// While one is open, no row that died since is removed, and the bell may stay unarmed.
pub(super) async fn long_transactions(
    source: &Side,
    limits: &Limits,
) -> Result<Diagnosis, Hindrance> {
    let seconds = limits.transaction.as_secs().cast_signed();
    let limit = duration(limits.transaction);
    let rows = source.ask(async |source| source.rows(TRANSACTIONS, &[&seconds]).await).await?;
    let (hidden, long): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.get("hidden"));
    let out_of_sight = match hidden.len() {
        0 => String::new(),
        sessions => format!("; {sessions} sessions are out of sight"),
    };
    if !long.is_empty() {
        let found = format!(
            "{} last longer than {limit}: rows that died meanwhile stay, and the bell may not be armed{out_of_sight}",
            long.len()
        );
        let end = long.iter().take(NAMED).map(|row| {
            let pid: i32 = row.get("pid");
            format!("select pg_catalog.pg_terminate_backend({pid});")
        });
        return Ok(Diagnosis::advice(found)
            .detail(long.iter().take(NAMED).map(|row| transaction(row)))
            .say("let it end, or end it:")
            .sql(Place::Source, end));
    }
    if hidden.is_empty() {
        return Ok(Diagnosis::ok(format!("none lasts longer than {limit}")));
    }
    let role = ident(&source.facts()?.role);
    let reason = format!("none is seen to last longer than {limit}{out_of_sight}");
    let text = format!("grant pg_read_all_stats to {role};");
    Err(Hindrance { reason, remedies: vec![Remedy { place: Place::Source, text }] })
}

/// `5 min`, or `90 s`.
fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds > 0 && seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

fn transaction(row: &Row) -> String {
    let (pid, role): (i32, &str) = (row.get("pid"), row.get("role"));
    let (program, state): (&str, &str) = (row.get("program"), row.get("state"));
    let since: Timestamp = row.get("xact_start");
    let program = if program.is_empty() { "no name" } else { program };
    format!("process {pid} ({program}) of {role}, {state}, since {since:.0}")
}

/// They hold locks and dead rows until somebody ends them, and a transaction that has rung cannot
/// be prepared.
pub(super) async fn prepared(source: &Side, limits: &Limits) -> Result<Diagnosis, Hindrance> {
    let seconds = limits.transaction.as_secs().cast_signed();
    let rows = source.ask(async |source| source.rows(PREPARED, &[&seconds]).await).await?;
    if rows.is_empty() {
        return Ok(Diagnosis::ok("none"));
    }
    let mode = source.ask(installation::notify_mode).await?;
    let rings = mode.is_some_and(|mode| mode != NotifyMode::Never);
    let long: Vec<&Row> = rows.iter().filter(|row| row.get("is_long")).collect();
    if long.is_empty() && !rings {
        return Ok(Diagnosis::ok(format!("{}, all of them short", rows.len())));
    }
    let mut diagnosis = Diagnosis::advice(match long.is_empty() {
        true => {
            "two-phase commit is in use, which PostgreSQL refuses in a transaction that notifies"
                .into()
        }
        false => format!("{} are forgotten: they hold locks, and rows that died", long.len()),
    });
    if rings {
        diagnosis = diagnosis.command("schoolbell migrate --notify never");
    }
    if !long.is_empty() {
        diagnosis = diagnosis.say("the person who prepared it decides, commit or rollback:");
    }
    let details = long.iter().take(NAMED).map(|row| {
        let (gid, owner): (&str, &str) = (row.get("gid"), row.get("owner"));
        format!("{gid} of {owner}, since {:.0}", row.get::<_, Timestamp>("prepared"))
    });
    let end = long.iter().take(NAMED).map(|row| {
        let gid: &str = row.get("gid");
        format!("rollback prepared {};", literal(gid))
    });
    Ok(diagnosis.detail(details).sql(Place::Source, end))
}

/// The outbox is emptied as fast as it fills; what is deleted must be vacuumed.
pub(super) async fn autovacuum(source: &Side, limits: &Limits) -> Result<Diagnosis, Hindrance> {
    let rows = source.ask(async |source| source.rows(AUTOVACUUM, &[]).await).await?;
    let Some(row) = rows.first() else {
        return Err(Hindrance::new("there is no outbox yet"));
    };
    let (live, dead): (i64, i64) = (row.get("live"), row.get("dead"));
    let megabytes = row.get::<_, i64>("bytes") as f64 / 1_048_576.0;
    let last = match row.get::<_, Option<Timestamp>>("last_autovacuum") {
        None => "no autovacuum so far".to_string(),
        Some(last) => format!("last at {last:.0}"),
    };
    let size = format!("{live} live and {dead} dead rows, {megabytes:.1} MB; {last}");
    if !row.get::<_, bool>("server_on") {
        return Ok(Diagnosis::failed(format!(
            "the server's autovacuum is off: the outbox grows for ever ({size})"
        ))
        .sql(
            Place::Source,
            [
                "alter system set autovacuum = on;",
                "alter system set track_counts = on;",
                "select pg_reload_conf();",
            ]
            .map(str::to_string),
        ));
    }
    if row.get("table_off") {
        return Ok(Diagnosis::failed(format!(
            "it is switched off for the outbox, which grows for ever ({size})"
        ))
        .sql(
            Place::Source,
            ["alter table schoolbell.change reset (autovacuum_enabled);".to_string()],
        ));
    }
    if dead > limits.dead_rows {
        return Ok(Diagnosis::advice(format!("it does not keep up: {size}"))
            .say("look for long transactions, then:")
            .sql(Place::Source, ["vacuum schoolbell.change;".to_string()]));
    }
    Ok(Diagnosis::ok(size))
}

/// Ages are reported by this machine's clock, changes are stamped by the source's.
pub(super) async fn clocks(
    source: &Side,
    target: &Side,
    limits: &Limits,
) -> Result<Diagnosis, Hindrance> {
    let source_ahead = source.ask(ahead).await?;
    let target_ahead = target.ask(ahead).await?;
    let apart = target_ahead - source_ahead;
    let found = format!(
        "compared with this machine's: the source's {}, the target's {}",
        told(source_ahead),
        told(target_ahead)
    );
    let furthest = [source_ahead, target_ahead, apart].map(SignedDuration::unsigned_abs);
    Ok(match furthest.iter().max() > Some(&limits.clock) {
        false => Diagnosis::ok(found),
        true => Diagnosis::advice(format!("{found}: ages and --since are wrong by that"))
            .say("let NTP set the clocks of all three: chronyc tracking, or timedatectl"),
    })
}

/// How far the server's clock is ahead of ours. It was read about half way between question and answer.
async fn ahead(session: &Session) -> Result<SignedDuration, tokio_postgres::Error> {
    let asked = Timestamp::now();
    let server: Timestamp = session.row_once(CLOCK).await?.get(0);
    Ok(difference(asked, server, Timestamp::now()))
}

fn difference(asked: Timestamp, server: Timestamp, answered: Timestamp) -> SignedDuration {
    server.duration_since(asked) - answered.duration_since(asked) / 2
}

/// A round trip of up to a hundredth of a second is not worth mentioning.
fn told(ahead: SignedDuration) -> String {
    let apart = Duration::as_secs_f64(&ahead.unsigned_abs());
    match ahead.is_negative() {
        true => format!("{apart:.2} s behind"),
        false => format!("{apart:.2} s ahead"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_half_way_between_question_and_answer() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();

        assert_eq!(difference(at(1_000), at(1_100), at(1_200)), SignedDuration::ZERO);
        assert_eq!(difference(at(1_000), at(4_100), at(1_200)), SignedDuration::from_secs(3));
        assert_eq!(difference(at(9_000), at(4_100), at(9_200)), SignedDuration::from_secs(-5));
        assert_eq!(told(SignedDuration::from_secs(-5)), "5.00 s behind");
    }
}
