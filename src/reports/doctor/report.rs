//! The result of a check, and the report of all checks.

use std::time::Duration;

use serde::Serialize;

use super::side::Hindrance;

/// A check asks a few questions, each of which has its own limit; this is for what they do not cover.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Everything works, but could be better.
    Advice,
    /// Something does not work, or will not.
    Failed,
    /// Unknown: it could not be checked.
    CannotRun,
}

/// Where a remedy is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// SQL for the source database.
    Source,
    /// SQL for the target database.
    Target,
    /// A command for a shell.
    Shell,
    /// Not a command: a sentence for a human.
    Human,
}

/// One thing that fixes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// Where it is run.
    pub place: Place,
    /// The statement or command, or the sentence.
    pub text: String,
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// How it ended.
    pub result: Verdict,
    /// What was found, as one sentence.
    pub found: String,
    /// The parts of it, where there are several.
    pub details: Vec<String>,
    /// What fixes it, in this order; empty where nothing needs to be fixed.
    pub remedies: Vec<Remedy>,
}

impl Diagnosis {
    pub(super) fn of(result: Verdict, found: impl Into<String>) -> Self {
        Self { result, found: found.into(), details: Vec::new(), remedies: Vec::new() }
    }

    pub(super) fn ok(found: impl Into<String>) -> Self {
        Self::of(Verdict::Ok, found)
    }

    pub(super) fn advice(found: impl Into<String>) -> Self {
        Self::of(Verdict::Advice, found)
    }

    pub(super) fn failed(found: impl Into<String>) -> Self {
        Self::of(Verdict::Failed, found)
    }

    pub(super) fn detail(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    /// SQL for the database of that place.
    pub(super) fn sql(
        mut self,
        place: Place,
        statements: impl IntoIterator<Item = String>,
    ) -> Self {
        self.remedies.extend(statements.into_iter().map(|text| Remedy { place, text }));
        self
    }

    pub(super) fn command(mut self, text: impl Into<String>) -> Self {
        self.remedies.push(Remedy { place: Place::Shell, text: text.into() });
        self
    }

    pub(super) fn say(mut self, text: impl Into<String>) -> Self {
        self.remedies.push(Remedy { place: Place::Human, text: text.into() });
        self
    }
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// For machines; the same in every release.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub diagnosis: Diagnosis,
}

/// The report of `doctor`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// In the order in which they are best read.
    pub checks: Vec<Check>,
    /// This many are as they should be.
    pub ok: usize,
    /// This many have advice.
    pub advice: usize,
    /// This many failed.
    pub failed: usize,
    /// This many could not be carried out.
    pub cannot_run: usize,
}

impl Report {
    /// The check of that name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }
}

/// The report as it grows.
#[derive(Default)]
pub(super) struct Sheet {
    checks: Vec<Check>,
}

impl Sheet {
    /// Carries out a check, and notes what came of it.
    pub async fn add(
        &mut self,
        name: &'static str,
        title: &'static str,
        check: impl Future<Output = Result<Diagnosis, Hindrance>>,
    ) {
        // On the heap: the checks are large, and all of them are parts of one function.
        let diagnosis = match tokio::time::timeout(CHECK_TIMEOUT, Box::pin(check)).await {
            Ok(Ok(diagnosis)) => diagnosis,
            Ok(Err(Hindrance { reason, remedies })) => {
                Diagnosis { remedies, ..Diagnosis::of(Verdict::CannotRun, reason) }
            }
            Err(_) => Diagnosis::of(
                Verdict::CannotRun,
                format!("it was not done within {} s", CHECK_TIMEOUT.as_secs()),
            ),
        };
        self.checks.push(Check { name, title, diagnosis });
    }

    pub fn report(self) -> Report {
        let count =
            |verdict| self.checks.iter().filter(|check| check.diagnosis.result == verdict).count();
        Report {
            ok: count(Verdict::Ok),
            advice: count(Verdict::Advice),
            failed: count(Verdict::Failed),
            cannot_run: count(Verdict::CannotRun),
            checks: self.checks,
        }
    }
}
