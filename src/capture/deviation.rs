//! Compares the triggers of a database with those that should be there.

use std::collections::BTreeMap;
use std::fmt;

use super::trigger::{Rendered, Trigger};
use crate::postgres::db::Session;
use crate::postgres::name::TableName;

const INSTALLED: &str = include_str!("../../sql/installed_triggers.sql");

/// A trigger that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// The table.
    pub table: TableName,
    /// The trigger.
    pub trigger: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// There is none.
    Missing,
    /// It was rendered from another mapping or by another release.
    Outdated,
    /// Somebody has replaced the trigger or its function.
    Altered,
    /// It is disabled, or does not fire for replicated writes.
    NotAlways,
    /// The owner of its child table is another role than the function's, and so it records nothing.
    Silent,
    /// It is left over: from another mapping, or on a table that was a partition or child of a captured table.
    NotNeeded,
    /// Somebody but its owner may attach or call its function, which runs with the owner's rights.
    Open,
    /// Its function runs with other rights than those of the captured table's owner.
    Foreign,
}

impl Fault {
    /// What a reader is reported: `trigger … is …`.
    fn words(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Outdated => "outdated",
            Self::Altered => "altered",
            Self::NotAlways => "not enabled always",
            Self::Silent => "silent, because table and function have different owners",
            Self::NotNeeded => "not needed",
            Self::Open => "open to others",
            Self::Foreign => "not its table owner's",
        }
    }

    /// Changes made meanwhile were not captured.
    pub fn has_lost_changes(self) -> bool {
        match self {
            Self::Missing | Self::Altered | Self::NotAlways | Self::Silent => true,
            // It captures what the mapping before this one needed.
            Self::Outdated | Self::NotNeeded | Self::Open | Self::Foreign => false,
        }
    }

    /// Changes may be lost for a service with this mapping.
    fn loses_changes(self) -> bool {
        self.has_lost_changes() || self == Self::Outdated
    }

    /// What it means for a service with this mapping.
    fn means(self) -> &'static str {
        match self {
            Self::Missing | Self::Altered | Self::NotAlways | Self::Silent => {
                "changes may be missed"
            }
            Self::Outdated => "another mapping or release was migrated, so changes may be missed",
            Self::NotNeeded => {
                "it is left from another mapping, or from a table that is no longer part of a captured one; no change \
                 is missed"
            }
            Self::Open => "others can run code with the rights of the table's owner",
            Self::Foreign => "the table's owner can run code with the rights of another role",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Outdated => {
                "reload the service with that mapping, or run `schoolbell migrate` with this one"
            }
            _ => "run `schoolbell migrate`",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trigger {} on {} is {}", self.trigger, self.table.plain(), self.fault)
    }
}

impl Deviation {
    /// What is wrong, and what it means for a service with this mapping.
    pub fn with_meaning(&self) -> String {
        format!("{self}: {}", self.fault.means())
    }

    /// The same, and what helps.
    pub fn with_advice(&self) -> String {
        format!("{}; {}", self.with_meaning(), self.fault.remedy())
    }
}

/// Changes may be lost for a service with this mapping, because of one of these at least.
pub fn may_lose_changes(deviations: &[Deviation]) -> bool {
    deviations.iter().any(|deviation| deviation.fault.loses_changes())
}

/// A trigger as it is.
struct Installed {
    /// `A`: also for writes in replica role.
    enabled: String,
    comment: String,
    made: String,
    foreign_owner: bool,
    open_to_others: bool,
}

impl Installed {
    /// What is wrong with it, given how it should be. What loses changes comes first.
    fn fault(&self, wanted: &Trigger) -> Option<Fault> {
        let (rendered, made_then) = self.comment.split_once(' ').unwrap_or_default();
        let faults = [
            (!made_then.is_empty() && made_then != self.made, Fault::Altered),
            (self.enabled != "A", Fault::NotAlways),
            (self.foreign_owner && wanted.is_of_child, Fault::Silent),
            (rendered != wanted.fingerprint, Fault::Outdated),
            (self.open_to_others, Fault::Open),
            (self.foreign_owner, Fault::Foreign),
        ];
        faults.into_iter().find_map(|(found, fault)| found.then_some(fault))
    }
}

/// Compares what is installed with what should be.
pub async fn deviations(
    source: &Session,
    wanted: &[Rendered],
) -> Result<Vec<Deviation>, tokio_postgres::Error> {
    let mut installed = installed(source).await?;
    let mut deviations = Vec::new();
    let mut note = |table: &TableName, trigger: &str, fault| {
        deviations.push(Deviation { table: table.clone(), trigger: trigger.into(), fault });
    };
    for Rendered { table, triggers, .. } in wanted {
        for trigger in triggers {
            let fault = match installed.remove(&(table.clone(), trigger.name.clone())) {
                None => Some(Fault::Missing),
                Some(found) => found.fault(trigger),
            };
            if let Some(fault) = fault {
                note(table, &trigger.name, fault);
            }
        }
    }
    for (table, trigger) in installed.keys() {
        note(table, trigger, Fault::NotNeeded);
    }
    Ok(deviations)
}

/// The triggers of ours that are there, by table and name.
async fn installed(
    source: &Session,
) -> Result<BTreeMap<(TableName, String), Installed>, tokio_postgres::Error> {
    let rows = source.rows(INSTALLED, &[]).await?;
    let installed = rows.iter().map(|row| {
        let table = TableName { schema: row.get("schema"), table: row.get("table") };
        let state = Installed {
            enabled: row.get("enabled"),
            comment: row.get::<_, Option<_>>("comment").unwrap_or_default(),
            made: row.get("made"),
            foreign_owner: row.get("foreign_owner"),
            open_to_others: row.get("open_to_others"),
        };
        ((table, row.get("trigger")), state)
    });
    Ok(installed.collect())
}
