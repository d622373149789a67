//! Checks of what `migrate` installs: the schema, and the triggers that record changes.

use super::mapping_fit::Fit;
use super::report::{Diagnosis, Place};
use super::side::{Hindrance, Side};
use crate::capture::schema::{self, Version};
use crate::capture::{self, Deviation, NotifyMode};
use crate::postgres::name::ident;
use crate::service;

/// Whether schema `schoolbell` is the one that this program knows.
pub(super) async fn schema(source: &Side) -> Result<Diagnosis, Hindrance> {
    let version = source.ask(schema::version).await?;
    let remedy = "schoolbell migrate";
    Ok(match version {
        Version::Current(version) => Diagnosis::ok(format!("version {version}")),
        Version::Missing => Diagnosis::failed("it is not there").command(remedy),
        Version::Older(version) => {
            Diagnosis::failed(format!("version {version} is older than this program"))
                .command(remedy)
        }
        Version::Newer(version) => {
            Diagnosis::failed(format!("version {version} is newer than this program"))
                .say("deploy the newer schoolbell")
        }
    })
}

/// Whether every trigger is there, fires for everybody, and is as this mapping and this program need it.
pub(super) async fn triggers(source: &Side, fit: &Fit<'_>) -> Result<Diagnosis, Hindrance> {
    let mode = source.ask(service::installed_mode).await?;
    let source_side = fit.source_side()?;
    let wanted = capture::render(&source_side.captures, mode.unwrap_or(NotifyMode::Doorbell));
    let deviations = source.ask(async |source| capture::deviations(source, &wanted).await).await?;
    if let Some(first) = source_side.unseen.first() {
        return Ok(Diagnosis::failed(first.clone())
            .detail(source_side.unseen.iter().skip(1).cloned())
            .say("give it the owner of the captured table, or move its rows to a table with triggers"));
    }
    let triggers = wanted.iter().map(|table| table.triggers.len()).sum::<usize>();
    if deviations.is_empty() {
        let mode = mode.map(|mode| mode.to_string()).unwrap_or_default();
        return Ok(Diagnosis::ok(format!("{triggers} are up to date, notify mode {mode}")));
    }
    let found = match deviations.as_slice() {
        [one] => format!("{one}: changes may be missed"),
        many => format!("{} triggers are not as they must be: changes may be missed", many.len()),
    };
    let details = deviations.iter().map(ToString::to_string);
    let diagnosis = Diagnosis::failed(found).detail(details.filter(|_| deviations.len() > 1));
    let remedied = match deviations.iter().all(|deviation| deviation.what == NOT_ALWAYS) {
        true => diagnosis.sql(Place::Source, deviations.iter().map(enable)),
        false => diagnosis.command("schoolbell migrate"),
    };
    Ok(remedied
        .say("and write again what was missed meanwhile:")
        .command("schoolbell verify --repair"))
}

/// What [`capture::deviations`] calls it.
const NOT_ALWAYS: &str = "not enabled always";

fn enable(deviation: &Deviation) -> String {
    let trigger = ident(&deviation.trigger);
    format!("alter table {} enable always trigger {trigger};", deviation.table)
}
