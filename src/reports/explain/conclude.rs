//! The closing sentence: what happens next with a row, or what to do.

use serde::Serialize;

use super::{Explanation, LogEntry, NearMiss, ParentRow, SourceState, TargetRow};
use crate::outbox::parked::Parked;
use crate::reports::heroku_connect::FAILED;
use crate::visible::argument;

/// What happens next, or what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conclusion {
    /// It gets there by itself, or is where it belongs.
    pub by_itself: bool,
    /// In a sentence or two.
    pub sentence: String,
}

fn goes_on(sentence: impl Into<String>) -> Conclusion {
    Conclusion { by_itself: true, sentence: sentence.into() }
}

fn needs_you(sentence: impl Into<String>) -> Conclusion {
    Conclusion { by_itself: false, sentence: sentence.into() }
}

impl Explanation {
    /// Draws the conclusion: the first obstacle on the row's way decides.
    pub fn conclude(&self) -> Conclusion {
        if self.pending.changes > 0 || self.pending.touched {
            return self.on_its_way();
        }
        if let Some(parked) = &self.parked {
            let conclusion = self.while_parked(parked);
            return match conclusion.by_itself && !self.writer {
                true => needs_you(format!(
                    "{} But no service is running: start `schoolbell run`.",
                    conclusion.sentence
                )),
                false => conclusion,
            };
        }
        let leaves = match &self.source.state {
            SourceState::Published => None,
            SourceState::Unreadable(reason) => {
                return needs_you(format!("The source refuses to give the row: {reason}."));
            }
            SourceState::LeftOut(filter) => Some(format!("The filter leaves it out ({filter})")),
            SourceState::Gone => Some(format!("{} has no such row", self.source.table)),
        };
        match (leaves, self.target.as_slice()) {
            (Some(why), []) => {
                goes_on(format!("{why}, and neither has the target. Nothing will be written."))
            }
            (Some(why), [_, ..]) => self.leaving(&why),
            (None, []) => self.missing(),
            (None, rows) => match rows.iter().find(|row| !row.differing.is_empty()) {
                Some(_) => self.not_written("The target's row differs"),
                None => self.in_heroku_connect(rows),
            },
        }
    }

    fn on_its_way(&self) -> Conclusion {
        let what = match (self.pending.changes, self.pending.oldest_at) {
            (0, _) | (_, None) => "A change of another table that touches it".to_string(),
            (1, Some(at)) => format!("A change of {at:.0}"),
            (changes, Some(at)) => format!("{changes} changes, the oldest of {at:.0},"),
        };
        match self.writer {
            true => goes_on(format!("{what} is in the outbox and is applied next.")),
            false => needs_you(format!(
                "{what} waits, and no service is running to apply it: start `schoolbell run`."
            )),
        }
    }

    fn while_parked(&self, parked: &Parked) -> Conclusion {
        let Parked { state, reason, remedy, due_at, .. } = parked;
        let remedy = remedy.as_deref().unwrap_or("fix that");
        match state.as_str() {
            "waiting" => self.waiting(parked),
            "retrying" => {
                let when = due_at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
                goes_on(format!("It is retried{when}: {reason}. To help: {remedy}."))
            }
            _ if parked.held => needs_you(format!(
                "Its target row should be deleted, and is {reason}. To delete it: `schoolbell parked retry {object} --key \
                 {key}`; to keep it: `schoolbell parked drop {object} --key {key}`.",
                object = self.object,
                key = argument(&self.key)
            )),
            _ => needs_you(format!(
                "It was refused: {reason}. To do: {remedy}; it continues when the row changes, or with `schoolbell parked \
                 retry {} --key {}`.",
                self.object,
                argument(&self.key)
            )),
        }
    }

    fn waiting(&self, parked: &Parked) -> Conclusion {
        let key = parked.awaits_key.as_deref().unwrap_or_default();
        if let Some(near) = self.near_misses.iter().find(|near| near.wanted == key) {
            let NearMiss { table, there, .. } = near;
            return needs_you(format!(
                "It waits for {key:?}, and {table} has {there:?}: capitals and white space count. Write the two alike."
            ));
        }
        let Some((object, key)) = self.awaits() else {
            return goes_on(
                "Salesforce creates these rows and has none with this key yet; it is looked for every few seconds.",
            );
        };
        let awaited =
            |parent: &&ParentRow| parent.object == object && parent.key.as_deref() == Some(key);
        match self.parents.iter().find(awaited) {
            Some(ParentRow { sfid: Some(_), .. }) => goes_on(format!(
                "Its {object} {key} has just been accepted; it is written with the next look."
            )),
            Some(ParentRow { lastop, error, .. }) if lastop.as_deref() == Some(FAILED) => {
                needs_you(format!(
                    "It waits for its {object} {key}, which Salesforce refused: {}. Fix that, then run `schoolbell parked retry \
                 --failed {object} --key {key}`.",
                    error.as_deref().unwrap_or("without a reason")
                ))
            }
            _ if let Some(why) = self.kept_by() => {
                needs_you(format!("It waits for its {object} {key}. Of that one: {why}"))
            }
            Some(ParentRow { is_there: true, .. }) => goes_on(format!(
                "It waits until Salesforce has accepted its {object} {key}, and is then written by itself."
            )),
            Some(ParentRow { table, .. }) => goes_on(format!(
                "It waits for its {object} {key}, which {table} does not have: see `schoolbell explain {object} {key}`. \
                 It continues by itself when Salesforce knows it."
            )),
            // The row names a different parent by now, and that change is on its way or was just
            // applied.
            None => goes_on(format!("It waits for {object} {key}, and is then written by itself.")),
        }
    }

    /// The object and key whose id it waits for.
    pub(super) fn awaits(&self) -> Option<(&str, &str)> {
        let parked = self.parked.as_ref().filter(|parked| parked.state == "waiting")?;
        let object = parked.awaits.as_deref()?.strip_suffix(" sfid")?;
        Some((object, parked.awaits_key.as_deref()?))
    }

    /// Why the row that it waits for does not come by itself.
    fn kept_by(&self) -> Option<String> {
        let awaited = self.awaited.as_ref()?;
        let conclusion = awaited.conclude();
        // A row that is not published needs nothing itself, but rows that wait for it wait for
        // ever.
        let never_comes = conclusion.by_itself
            && awaited.target.is_empty()
            && awaited.pending.changes == 0
            && awaited.resyncs == 0
            && !awaited.update_only
            && awaited.source.state != SourceState::Published;
        (never_comes || !conclusion.by_itself).then_some(conclusion.sentence)
    }

    fn leaving(&self, why: &str) -> Conclusion {
        match self.deletes {
            false => {
                goes_on(format!("{why}; the target's row stays, as on_delete = \"keep\" says."))
            }
            true => needs_you(format!(
                "{why}, and the target's row should be gone: {}",
                self.resync("nothing is on its way")
            )),
        }
    }

    fn missing(&self) -> Conclusion {
        match self.update_only {
            true => goes_on(
                "Salesforce creates these rows and has none with this key; when the source row changes it will wait \
                 for one."
                    .to_string(),
            ),
            false => self.not_written("The target lacks the row"),
        }
    }

    /// Nothing is on its way, so capture has missed a change, or another program has written to the
    /// target.
    fn not_written(&self, what: &str) -> Conclusion {
        if self.resyncs > 0 {
            return goes_on(format!(
                "{what}. A resync of {} is under way and will meet it.",
                self.object
            ));
        }
        let capture = match self.capture_problems.as_slice() {
            [] => String::new(),
            problems => format!(" ({}: run `schoolbell migrate`)", problems.join("; ")),
        };
        needs_you(format!("{what}, and {}{capture}", self.resync("no change of it is on its way")))
    }

    fn resync(&self, why: &str) -> String {
        format!(
            "{why}: `schoolbell resync {} --key {}` writes it.",
            self.object,
            argument(&self.key)
        )
    }

    /// The target's rows are right.
    fn in_heroku_connect(&self, rows: &[TargetRow]) -> Conclusion {
        let failed = rows.iter().find(|row| row.lastop.as_deref() == Some(FAILED));
        if let Some(row) = failed {
            return self.refused(row);
        }
        let waiting = |row: &&TargetRow| row.lastop.as_deref() == Some("PENDING");
        let Some(row) = rows.iter().find(waiting) else {
            let sfid = rows.iter().find_map(|row| row.sfid.as_deref());
            return match sfid {
                Some(sfid) => {
                    goes_on(format!("It is in Salesforce as {sfid}, as the source has it."))
                }
                None => goes_on(
                    "The target has it as the source does, but Salesforce has given it no id yet.",
                ),
            };
        };
        match row.log.iter().find(|entry| entry.state != FAILED) {
            Some(LogEntry { created_at, .. }) => {
                let since = created_at.map(|at| format!(" since {at:.0}")).unwrap_or_default();
                goes_on(format!(
                    "It is written, and Heroku Connect has it{since} to send to Salesforce; it polls every two minutes, or \
                     10 s after a notice."
                ))
            }
            None if !self.problems.is_empty() => {
                goes_on("It is written, and Heroku Connect has it to send to Salesforce.")
            }
            None => needs_you(format!(
                "It is written and called PENDING, but Heroku Connect's log has no entry for it: {}",
                "it may have been written while its trigger was off. A change of the row makes a new entry."
            )),
        }
    }

    fn refused(&self, row: &TargetRow) -> Conclusion {
        let error = row.error.as_deref().unwrap_or("without a reason");
        if row.log.iter().any(|entry| entry.state != FAILED) {
            return goes_on(format!(
                "Salesforce refused it ({error}), and it is being sent again."
            ));
        }
        needs_you(format!(
            "Salesforce refused it: {error}. Fix that, then run `schoolbell parked retry --failed {} --key {}`.",
            self.object,
            argument(&self.key)
        ))
    }
}
