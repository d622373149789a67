//! Checks of what `migrate` installs: the schema, and the triggers that record changes.

use super::mapping_fit::Fit;
use super::report::{Diagnosis, Place};
use super::side::{Hindrance, Side};
use crate::capture::deviation::{self, Deviation, Fault};
use crate::capture::installation;
use crate::capture::schema::{self, Version};
use crate::capture::{NotifyMode, trigger};
use crate::postgres::name::ident;

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
    let mode = source.ask(installation::notify_mode).await?;
    let source_side = fit.source_side()?;
    let wanted = trigger::render(&source_side.captures, mode.unwrap_or(NotifyMode::Doorbell));
    let deviations =
        source.ask(async |source| deviation::deviations(source, &wanted).await).await?;
    let unseen = &source_side.unseen;
    let found: Vec<String> =
        unseen.iter().cloned().chain(deviations.iter().map(Deviation::with_meaning)).collect();
    if found.is_empty() {
        let triggers = wanted.iter().map(|table| table.triggers.len()).sum::<usize>();
        let mode = mode.map(|mode| mode.to_string()).unwrap_or_default();
        return Ok(match source_side.unlogged.split_first() {
            None => Diagnosis::ok(format!("{triggers} are up to date, notify mode {mode}")),
            Some((first, more)) => Diagnosis::advice(first)
                .detail(more.iter().cloned())
                .say("keep its rows in a table that is logged: alter table … set logged"),
        });
    }
    let mut diagnosis = match found.as_slice() {
        [one] => Diagnosis::failed(one),
        many => {
            let what = if unseen.is_empty() { "triggers" } else { "tables and triggers" };
            let means = match deviation::may_lose_changes(&deviations) || !unseen.is_empty() {
                true => "changes may be missed",
                false => "no change is missed",
            };
            let found = format!("{} {what} are not as they must be: {means}", many.len());
            Diagnosis::failed(found).detail(many.iter().cloned())
        }
    };
    if !unseen.is_empty() {
        diagnosis = diagnosis.say(
            "give it the owner of the captured table, or move its rows to a table with triggers",
        );
    }
    Ok(remedied(diagnosis, &deviations))
}

fn remedied(diagnosis: Diagnosis, deviations: &[Deviation]) -> Diagnosis {
    if deviations.is_empty() {
        return diagnosis;
    }
    let diagnosis = match deviations.iter().all(|deviation| deviation.fault == Fault::NotAlways) {
        true => diagnosis.sql(Place::Source, deviations.iter().map(enable)),
        false => diagnosis.command("schoolbell migrate"),
    };
    if !deviation::may_lose_changes(deviations) {
        return diagnosis;
    }
    diagnosis
        .say("and write again what was missed meanwhile:")
        .command("schoolbell verify --repair")
}

fn enable(deviation: &Deviation) -> String {
    let trigger = ident(&deviation.trigger);
    format!("alter table {} enable always trigger {trigger};", deviation.table)
}
