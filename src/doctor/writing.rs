//! Checks of who writes to the target, and whether anybody may.

use super::report::Diagnosis;
use super::side::{Hindrance, Side};
use crate::{change, status, writer};

/// Who holds the writer's lock. Changes that wait while nobody does are not on their way.
pub(super) async fn writer(source: &Side, target: &Side) -> Result<Diagnosis, Hindrance> {
    let holder = target.ask(writer::holder).await?;
    let Some(holder) = holder else {
        let pending = source.ask(change::pending).await?.changes;
        let remedy = "SALESFORCE_ENABLED=true schoolbell run";
        return Ok(match pending {
            0 => Diagnosis::advice("no service is running, and nothing is pending").command(remedy),
            changes => Diagnosis::failed(format!(
                "no service is running, and {} pending",
                status::counted(changes, "change")
            ))
            .command(remedy),
        });
    };
    let since = holder.since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
    if let Some(process) = holder.process {
        return Ok(Diagnosis::ok(format!(
            "{process} writes{since}; another process would stand by"
        )));
    }
    let pid = holder.pid.unwrap_or_default();
    Ok(Diagnosis::failed(format!(
        "session {pid}{since} holds the writer's lock and is no schoolbell, so none can write"
    ))
    .say("find out whose session it is, and end it:")
    .sql(target.place, [format!("select pg_catalog.pg_terminate_backend({pid});")]))
}

/// Whether `run` and `resync` may write, with the environment of this command.
pub(super) async fn enabled(enabled: bool) -> Result<Diagnosis, Hindrance> {
    Ok(match enabled {
        true => Diagnosis::ok("SALESFORCE_ENABLED is true"),
        false => Diagnosis::advice(
            "SALESFORCE_ENABLED is not true here: run and resync would write nothing",
        )
        .command("export SALESFORCE_ENABLED=true"),
    })
}
