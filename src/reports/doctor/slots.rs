//! Replication slots: what each of them makes the source keep, and for whom.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::Limits;
use super::report::{Diagnosis, Place};
use super::side::{Hindrance, Side};
use crate::postgres::name::literal;

const SLOTS: &str = include_str!("../../../sql/doctor_slots.sql");

/// A slot as the server shows it.
#[derive(Debug, Clone, Default)]
struct Slot {
    name: String,
    /// `logical, pgoutput, of database app`, or `physical`.
    what: String,
    active: bool,
    /// None where it keeps no WAL, and where it has lost it.
    kept_bytes: Option<i64>,
    wal_status: Option<String>,
    /// How many transactions ago the oldest row died that it keeps.
    rows_age: Option<i32>,
    /// The same of rows of catalogues only.
    catalog_age: Option<i32>,
    invalidation: Option<String>,
    conflicting: bool,
    inactive_since: Option<Timestamp>,
}

/// How bad a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// It keeps dead rows, or is of no use any more.
    Burden,
    /// It fills the disk, or is about to be lost.
    Danger,
}

/// A slot keeps WAL and dead rows for a subscriber that may never come back.
pub(super) async fn check(source: &Side, limits: &Limits) -> Result<Diagnosis, Hindrance> {
    let rows = source.ask(async |source| source.rows(SLOTS, &[]).await).await?;
    let slots: Vec<Slot> = rows.iter().map(Slot::from).collect();
    Ok(judged(&slots, limits))
}

fn judged(slots: &[Slot], limits: &Limits) -> Diagnosis {
    let judged = slots.iter().filter_map(|slot| Some((slot, slot.trouble(limits)?)));
    let bad: Vec<(&Slot, (Trouble, String))> = judged.collect();
    let Some(worst) = bad.iter().map(|(_, (trouble, _))| *trouble).max() else {
        let active = slots.iter().filter(|slot| slot.active).count();
        return Diagnosis::ok(match slots.len() {
            0 => "none".to_string(),
            all => format!("{all}, {active} in use: none keeps much WAL or dead rows"),
        });
    };
    let names: Vec<&str> = bad.iter().map(|(slot, _)| slot.name.as_str()).collect();
    let diagnosis = match worst {
        Trouble::Danger => Diagnosis::failed(format!(
            "{}: it keeps WAL that nothing consumes, which fills the disk or invalidates the slot",
            names.join(", ")
        )),
        Trouble::Burden => Diagnosis::advice(format!(
            "{}: no longer useful, or keeps dead rows for a consumer that is gone",
            names.join(", ")
        )),
    };
    let details = bad.iter().map(|(slot, (_, why))| slot.told(why));
    let (used, unused): (Vec<&Slot>, Vec<&Slot>) =
        bad.iter().map(|(slot, _)| *slot).partition(|slot| slot.active);
    let mut diagnosis = diagnosis.detail(details);
    if !used.is_empty() {
        diagnosis = diagnosis.say(
            "its consumer does not keep up: look for errors in the log of the subscriber, standby or connector",
        );
    }
    if !unused.is_empty() {
        let drop = unused.iter().map(|slot| {
            format!("select pg_catalog.pg_drop_replication_slot({});", literal(&slot.name))
        });
        diagnosis = diagnosis
            .say(
                "start whoever uses it (subscriber, standby or connector); or, when it is gone for good or the slot is \
                 lost, drop the slot. Its user must then be set up anew:",
            )
            .sql(Place::Source, drop);
    }
    diagnosis
}

impl From<&Row> for Slot {
    fn from(row: &Row) -> Self {
        let kind: &str = row.get("kind");
        let plugin: Option<&str> = row.get("plugin");
        let database: Option<&str> = row.get("database");
        let plugin = plugin.map(|plugin| format!(", {plugin}")).unwrap_or_default();
        let database = database.map(|database| format!(", of database {database}"));
        Self {
            name: row.get("name"),
            what: format!("{kind}{plugin}{}", database.unwrap_or_default()),
            active: row.get("active"),
            kept_bytes: row.get("kept_bytes"),
            wal_status: row.get("wal_status"),
            rows_age: row.get("rows_age"),
            catalog_age: row.get("catalog_age"),
            invalidation: row.get("invalidation"),
            conflicting: row.get("conflicting"),
            inactive_since: row.get("inactive_since"),
        }
    }
}

impl Slot {
    /// What is wrong with it, the worst first.
    fn trouble(&self, limits: &Limits) -> Option<(Trouble, String)> {
        if self.wal_status.as_deref() == Some("lost") {
            return Some((Trouble::Burden, "is lost: the WAL that its user needs is gone".into()));
        }
        if let Some(reason) = &self.invalidation {
            return Some((Trouble::Burden, format!("is no longer useful: {reason}")));
        }
        if self.conflicting {
            return Some((
                Trouble::Burden,
                "is no longer useful: it conflicted with recovery".into(),
            ));
        }
        let kept = self.kept_bytes.unwrap_or(0);
        if self.wal_status.as_deref() == Some("unreserved") {
            let why =
                format!("keeps {} of WAL and loses it at the next checkpoint", megabytes(kept));
            return Some((Trouble::Danger, why));
        }
        if kept > limits.slot_bytes {
            return Some((Trouble::Danger, format!("keeps {} of WAL", megabytes(kept))));
        }
        if self.active {
            return None;
        }
        if let Some(age) = self.rows_age {
            return Some((
                Trouble::Burden,
                format!("keeps every row that died in the last {age} transactions"),
            ));
        }
        let age = self.catalog_age.filter(|age| *age > limits.slot_transactions)?;
        Some((
            Trouble::Burden,
            format!("keeps what died in catalogues in the last {age} transactions"),
        ))
    }

    fn told(&self, why: &str) -> String {
        let use_ = match (self.active, self.inactive_since) {
            (true, _) => "in use".to_string(),
            (false, None) => "not in use".to_string(),
            (false, Some(since)) => format!("not in use since {since:.0}"),
        };
        format!("{} ({}; {use_}) {why}", self.name, self.what)
    }
}

fn megabytes(bytes: i64) -> String {
    format!("{:.0} MB", bytes as f64 / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::doctor::Verdict;

    fn slot(change: impl FnOnce(&mut Slot)) -> Slot {
        let mut slot = Slot { name: "s".into(), what: "physical".into(), ..Slot::default() };
        slot.wal_status = Some("reserved".into());
        slot.kept_bytes = Some(0);
        change(&mut slot);
        slot
    }

    /// States that a test cannot easily produce on a server, and each order of two problems.
    #[test]
    fn each_trouble_of_a_slot_is_told_by_its_own_words() {
        let limits = Limits::default();
        let over = limits.slot_bytes + 1;
        for (slot, verdict, said) in [
            (slot(|_| ()), Verdict::Ok, ""),
            (slot(|s| s.kept_bytes = None), Verdict::Ok, ""),
            (slot(|s| s.kept_bytes = Some(limits.slot_bytes)), Verdict::Ok, ""),
            (slot(|s| s.kept_bytes = Some(over)), Verdict::Failed, "keeps 1024 MB of WAL"),
            (slot(|s| (s.active, s.kept_bytes) = (true, Some(over))), Verdict::Failed, "in use"),
            (slot(|s| s.wal_status = Some("extended".into())), Verdict::Ok, ""),
            (
                slot(|s| s.wal_status = Some("unreserved".into())),
                Verdict::Failed,
                "next checkpoint",
            ),
            (slot(|s| s.wal_status = Some("lost".into())), Verdict::Advice, "is lost"),
            (
                slot(|s| s.invalidation = Some("idle_timeout".into())),
                Verdict::Advice,
                "idle_timeout",
            ),
            (slot(|s| s.conflicting = true), Verdict::Advice, "conflicted"),
            (slot(|s| s.rows_age = Some(7)), Verdict::Advice, "last 7 transactions"),
            (slot(|s| (s.active, s.rows_age) = (true, Some(7))), Verdict::Ok, ""),
            (slot(|s| s.catalog_age = Some(limits.slot_transactions)), Verdict::Ok, ""),
            (
                slot(|s| s.catalog_age = Some(limits.slot_transactions + 1)),
                Verdict::Advice,
                "catalogues",
            ),
        ] {
            let diagnosis = judged(std::slice::from_ref(&slot), &limits);
            assert_eq!(diagnosis.result, verdict, "{slot:?}");
            assert!(diagnosis.details.concat().contains(said), "{slot:?}: {diagnosis:?}");
            assert_eq!(diagnosis.remedies.is_empty(), verdict == Verdict::Ok, "{diagnosis:?}");
            let drops = diagnosis.remedies.iter().any(|remedy| remedy.place == Place::Source);
            assert_eq!(drops, verdict != Verdict::Ok && !slot.active, "{diagnosis:?}");
        }
    }

    #[test]
    fn one_dangerous_slot_among_others_makes_the_check_fail_and_each_bad_one_is_named() {
        let slots = [
            slot(|s| s.name = "fine".into()),
            slot(|s| (s.name, s.rows_age) = ("burden".into(), Some(1))),
            slot(|s| (s.name, s.wal_status) = ("it's".into(), Some("unreserved".into()))),
        ];

        let diagnosis = judged(&slots, &Limits::default());

        assert_eq!(diagnosis.result, Verdict::Failed);
        assert!(diagnosis.found.starts_with("burden, it's: "), "{diagnosis:?}");
        assert!(diagnosis.remedies.iter().any(|r| r.text.contains("('it''s')")), "{diagnosis:?}");
    }
}
