//! Before the second step: which target rows leave with their source rows, and which the brake holds.
//!
//! Promise: a target row is deleted only after its deletion was noted, or a human has released it; and while rows of an
//! object are held, neither that object nor its parents lose another one.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Batch, Lane};
use crate::apply::{self, Asked};
use crate::outbox::brake;
use crate::outbox::outcome::{Outcome, Outcomes};
use crate::postgres::db::{Direct, Pool};
use crate::postgres::failure::Failure;

/// A table is counted again after this long: the share of its rows need not be more exact.
const COUNT_AGAIN: Duration = Duration::from_mins(1);

/// Decides which target rows leave.
pub(super) struct Gate {
    lanes: Arc<Vec<Lane>>,
    source: Pool,
    first: Vec<(usize, usize)>,
    /// By lane: how many rows the target has, and when they were counted.
    standing: Vec<Option<(Instant, i64)>>,
    /// Lanes of which keys of the last batch are held: they may not be parked yet.
    held: BTreeSet<usize>,
}

/// What a batch takes from the target.
pub(super) struct Leaving<'b> {
    /// By lane: the keys whose rows leave.
    pub(super) keys: Vec<Cow<'b, [String]>>,
    /// By lane: the outcomes of the others.
    pub(super) outcomes: Vec<Outcomes>,
    /// What was noted of it.
    pub(super) notes: Vec<BrakeNote>,
}

/// That this many rows of a lane were noted as about to be deleted.
pub(super) struct BrakeNote {
    lane: usize,
    number: i64,
    keys: HashSet<String>,
}

/// The brake's decision about some rows of a lane.
enum BrakeAnswer {
    /// They are noted by this number.
    Noted(i64),
    /// Why they are held.
    Held(String),
}

/// Each lane whose rows are deleted, with every lane below it of which that is true, too: children leave first.
pub(super) fn first(lanes: &[Lane]) -> Vec<(usize, usize)> {
    let deleting = |lane: &&usize| lanes[**lane].deletes();
    let all: Vec<usize> = (0..lanes.len()).collect();
    let pairs = all.iter().filter(deleting).flat_map(|&lane| {
        let mut family = BTreeSet::from([lanes[lane].name()]);
        // Parents come before their children.
        for below in &lanes[lane + 1..] {
            if below.route.parents.iter().any(|parent| family.contains(&*parent.object)) {
                family.insert(below.name());
            }
        }
        let below = move |other: &&usize| **other > lane && family.contains(lanes[**other].name());
        all.iter().filter(deleting).filter(below).map(move |&child| (lane, child))
    });
    pairs.collect()
}

impl Gate {
    pub(super) fn new(lanes: Arc<Vec<Lane>>, source: Pool) -> Self {
        let (first, standing) = (first(&lanes), vec![None; lanes.len()]);
        Self { lanes, source, first, standing, held: BTreeSet::new() }
    }

    /// What leaves of a batch, children before their parents.
    pub(super) async fn leaving<'b>(
        &mut self,
        target: &Mutex<Direct>,
        batch: &'b Batch,
    ) -> Result<Leaving<'b>, Failure> {
        let lanes = self.lanes.clone();
        let held_before = std::mem::take(&mut self.held);
        let keys = batch.projected.iter().map(|projected| Cow::Borrowed(&*projected.absent));
        let mut leaving = Leaving {
            keys: keys.collect(),
            outcomes: vec![Vec::new(); batch.projected.len()],
            notes: Vec::new(),
        };
        for (index, lane) in lanes.iter().enumerate().rev() {
            let absent = &batch.projected[index].absent;
            if !lane.deletes() || absent.is_empty() {
                continue;
            }
            let (there, mut outcomes) = there(&*target.lock().await, lane, absent).await?;
            let released = batch.released(index);
            let (mut leave, asked): (Vec<String>, Vec<String>) =
                there.into_iter().partition(|key| released.contains(key.as_str()));
            if !asked.is_empty() {
                let rows = asked.len() as i64;
                match self.ask(target, batch, index, rows, &held_before).await {
                    Ok(BrakeAnswer::Noted(number)) => {
                        leave.extend(asked.iter().cloned());
                        let keys = asked.into_iter().collect();
                        leaving.notes.push(BrakeNote { lane: index, number, keys });
                    }
                    Ok(BrakeAnswer::Held(reason)) => {
                        self.held.insert(index);
                        let held = asked.into_iter();
                        outcomes.extend(held.map(|key| (key, Outcome::Held(reason.clone()))));
                    }
                    // A missing right, or a table that takes too long to count: no row of another
                    // object is at fault.
                    Err(failure) => {
                        let outcome = match Outcome::of(failure)? {
                            Outcome::Dead(refusal) => Outcome::Retries(refusal),
                            outcome => outcome,
                        };
                        let refused = asked.into_iter();
                        outcomes.extend(refused.map(|key| (key, outcome.clone())));
                    }
                }
            }
            leaving.keys[index] = Cow::Owned(leave);
            leaving.outcomes[index] = outcomes;
        }
        Ok(leaving)
    }

    /// Takes back what was noted of rows that were not deleted.
    pub(super) async fn correct(
        &self,
        notes: &[BrakeNote],
        outcomes: &[Outcomes],
    ) -> Result<(), Failure> {
        for BrakeNote { lane, number, keys } in notes {
            let left = outcomes[*lane].iter();
            let deleted: HashSet<&String> = left
                .filter(|(key, outcome)| *outcome == Outcome::Deleted && keys.contains(key))
                .map(|(key, _)| key)
                .collect();
            if deleted.len() < keys.len() {
                brake::correct(&self.source.get().await?, *number, deleted.len() as i64).await?;
            }
        }
        Ok(())
    }

    /// Asks the brake whether this many rows of a lane may be deleted now.
    async fn ask(
        &mut self,
        target: &Mutex<Direct>,
        batch: &Batch,
        index: usize,
        rows: i64,
        held_before: &BTreeSet<usize>,
    ) -> Result<BrakeAnswer, Failure> {
        let lanes = self.lanes.clone();
        let object = &lanes[index].route.object;
        let held = |why: &str| Ok(BrakeAnswer::Held(format!("held by the brake: {why}")));
        // Only where nobody knows which rows are gone does a resync walk through the target.
        if batch.page.as_ref().is_some_and(|page| page.job.walks_target) {
            return held(
                "after a TRUNCATE, or a change that touches very many rows, nothing is deleted unasked",
            );
        }
        let below = self.first.iter().filter(|(lane, _)| *lane == index);
        let family: Vec<usize> = below.map(|(_, child)| *child).chain([index]).collect();
        let is_held = |lane: &usize| held_before.contains(lane) || self.held.contains(lane);
        let note = match family.iter().any(is_held) {
            true => None,
            false => {
                let names: Vec<&str> = family.iter().map(|lane| lanes[*lane].name()).collect();
                let standing = self.standing(target, index).await?;
                brake::note(&self.source.get().await?, object, rows, standing, &names).await?
            }
        };
        match note {
            Some(number) => Ok(BrakeAnswer::Noted(number)),
            None => held(&format!(
                "at most {} are deleted unasked, and none while others are held",
                object.brake
            )),
        }
    }

    /// How many rows a lane's table has, or had a moment ago.
    async fn standing(&mut self, target: &Mutex<Direct>, lane: usize) -> Result<i64, Failure> {
        match self.standing[lane] {
            Some((at, rows)) if at.elapsed() < COUNT_AGAIN => Ok(rows),
            _ => {
                let Lane { route, statements, .. } = &self.lanes[lane];
                let enough = route.object.brake.enough_rows();
                let rows = apply::rows_standing(&*target.lock().await, statements, enough).await?;
                self.standing[lane] = Some((Instant::now(), rows));
                Ok(rows)
            }
        }
    }
}

impl Batch {
    /// The keys of a lane whose deletion a human has released.
    fn released(&self, lane: usize) -> HashSet<&str> {
        let released = self.due.iter().filter(|due| due.lane == lane && due.released);
        released.map(|due| due.key.as_str()).collect()
    }
}

/// Of these keys those that have a target row, and what becomes of those that the target refuses to look for.
async fn there(
    target: &Direct,
    lane: &Lane,
    keys: &[String],
) -> Result<(Vec<String>, Outcomes), Failure> {
    let Asked { found, refused } = apply::keys_there(target, &lane.statements, keys).await?;
    let mut outcomes = Vec::new();
    for (key, failure) in refused {
        // What the target cannot hold is not there.
        if !matches!(failure, Failure::Dead(_)) {
            outcomes.push((key, Outcome::of(failure)?));
        }
    }
    Ok((found, outcomes))
}
