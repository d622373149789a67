//! Checks of which process writes to the target, and whether this one may.

use super::report::Diagnosis;
use super::side::{Hindrance, Side};
use crate::apply::writer::{self, Holding};
use crate::mapping::Mapping;
use crate::outbox::change;
use crate::outbox::pairing::{self, Pairing};
use crate::reports::status;

/// Whether the changes of this source go to this target.
pub(super) async fn pairing(source: &Side, target: &Side) -> Result<Diagnosis, Hindrance> {
    let found = source
        .ask_both(target, async |source, target| {
            let mismatch = pairing::mismatch(source, Some(target)).await?;
            Ok::<_, tokio_postgres::Error>((mismatch, pairing::read(source).await?))
        })
        .await?;
    Ok(match found {
        (Some(mismatch), _) => Diagnosis::failed(mismatch.to_string()).command("schoolbell adopt"),
        (None, Some(Pairing { pair, since })) => {
            Diagnosis::ok(format!("changes go to {} since {since:.0}", pair.address))
        }
        (None, None) => Diagnosis::ok("no service has worked here yet"),
    })
}

/// Who holds the writer's lock. While nobody does, pending changes are not on their way.
pub(super) async fn writer(
    source: &Side,
    target: &Side,
    mapping: &Mapping,
) -> Result<Diagnosis, Hindrance> {
    let holding =
        target.ask(async |target| writer::holding(target, &mapping.objects).await).await?;
    match holding {
        Some(Holding::Writer(holder)) => {
            let since = holder.since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
            let process = holder.process.unwrap_or_default();
            Ok(Diagnosis::ok(format!("{process} writes{since}; another process would stand by")))
        }
        Some(Holding::Stranger(stranger)) => Ok(Diagnosis::failed(format!(
            "{stranger} holds the writer's lock and is not a Schoolbell writer, so writing is blocked"
        ))
        .say("find out whose session it is, and end it, as that role, a superuser or a member of pg_signal_backend:")
        .sql(target.place, [stranger.end()])),
        None => {
            let pending = source.ask(change::pending).await?.changes;
            let remedy = "SALESFORCE_ENABLED=true schoolbell run";
            Ok(match pending {
                0 => Diagnosis::advice("no service is running, and nothing is pending")
                    .command(remedy),
                changes => Diagnosis::failed(format!(
                    "no service is running, and {} pending",
                    status::counted(changes, "change")
                ))
                .command(remedy),
            })
        }
    }
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
