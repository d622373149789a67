//! What became of a key: the word that apply says, and that acknowledge or park acts on.

use std::collections::HashMap;

use crate::postgres::failure::{Failure, Refusal};

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The target had another row and was updated.
    Updated,
    /// The target had no row and one was inserted.
    Inserted,
    /// The target row is deleted, because its source left the publication.
    Deleted,
    /// The target row stays although its source left the publication.
    Kept,
    /// It waits: `awaits` in the words of `parked.awaits`, and whose key.
    Waits {
        /// What kind of thing it waits for.
        awaits: String,
        /// The key of what it waits for.
        key: String,
    },
    /// It will be retried by itself.
    Retries(Refusal),
    /// It was refused, and would be refused again.
    Dead(Refusal),
    /// Its target row should be deleted, but the brake holds it for the reason that is given.
    Held(String),
}

impl Outcome {
    /// The outcome of a key that was refused on its own. A lost connection is no key's fault, and
    /// stays a failure.
    pub fn of(refused: Failure) -> Result<Self, Failure> {
        match refused {
            Failure::Reconnect(_) => Err(refused),
            Failure::Retry(refusal) | Failure::Blocked(refusal) => Ok(Self::Retries(refusal)),
            Failure::Dead(refusal) => Ok(Self::Dead(refusal)),
        }
    }
}

/// The outcomes of one object's keys in one batch, without those that were equal or absent on both
/// sides.
pub type Outcomes = Vec<(String, Outcome)>;

/// How many keys had an outcome.
pub fn count(outcomes: &Outcomes, wanted: impl Fn(&Outcome) -> bool) -> u64 {
    outcomes.iter().filter(|(_, outcome)| wanted(outcome)).count() as u64
}

/// Tallies outcomes by key; a key with several target rows (no unique index) counts once.
pub fn by_key(outcomes: Outcomes) -> Outcomes {
    let unique: HashMap<String, Outcome> = outcomes.into_iter().collect();
    unique.into_iter().collect()
}
