//! What became of a key: the word that apply says, and that acknowledge or park acts on.

use std::collections::HashMap;

use crate::failure::Refusal;

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
    /// It will be tried again by itself.
    Retries(Refusal),
    /// It was refused, and would be again.
    Dead(Refusal),
}

/// What became of the keys of one object in one batch.
#[derive(Debug, Default)]
pub struct Applied {
    /// Every key that was handed in.
    pub keys: Vec<String>,
    /// The keys that were not simply equal or absent on both sides.
    pub outcomes: Vec<(String, Outcome)>,
}

impl Applied {
    /// How many keys had this outcome.
    pub fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> u64 {
        self.outcomes.iter().filter(|(_, outcome)| wanted(outcome)).count() as u64
    }

    /// How many target rows were written.
    pub fn written(&self) -> u64 {
        self.count(|outcome| {
            matches!(outcome, Outcome::Updated | Outcome::Inserted | Outcome::Deleted)
        })
    }
}

/// Tallies outcomes by key; a key with several target rows (no unique index) counts once.
pub fn by_key(outcomes: Vec<(String, Outcome)>) -> Vec<(String, Outcome)> {
    let unique: HashMap<String, Outcome> = outcomes.into_iter().collect();
    unique.into_iter().collect()
}
