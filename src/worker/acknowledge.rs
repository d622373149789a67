//! The last step: deletes what was claimed and parks what must wait, in one transaction on the source.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{Batch, Done, Lane, Pause};
use crate::failpoint::{self, Failpoint};
use crate::metrics::Metrics;
use crate::metrics::Tally;
use crate::outbox::change;
use crate::outbox::outcome::{self, Outcome, Outcomes};
use crate::outbox::pairing::DatabaseId;
use crate::outbox::parked::{self, Parking};
use crate::outbox::resync::{self, Page, Progress};
use crate::plan::Route;
use crate::postgres::apart::Apart;
use crate::postgres::db::{Pool, Transaction};
use crate::postgres::failure::{Failure, Refusal};

/// For this many keys it is worth asking first whether anything is parked at all.
const MANY_KEYS: usize = 2_000;

/// The last step, on the source side again.
pub(super) struct Acknowledger {
    lanes: Arc<Vec<Lane>>,
    source: Pool,
    /// The target that changes are acknowledged for.
    target: DatabaseId,
    metrics: Arc<Metrics>,
    doubt: Arc<Notify>,
}

impl Acknowledger {
    pub(super) fn new(
        lanes: Arc<Vec<Lane>>,
        source: Pool,
        target: DatabaseId,
        metrics: Arc<Metrics>,
        doubt: Arc<Notify>,
    ) -> Self {
        Self { lanes, source, target, metrics, doubt }
    }

    /// Deletes what was claimed and parks what must wait, in one transaction; returns how long a
    /// resync must rest.
    pub(super) async fn acknowledge(&self, done: Done) -> Result<(Tally, Option<Pause>), Failure> {
        let mut parking = Vec::new();
        for (lane, outcomes) in self.lanes.iter().zip(&done.outcomes) {
            parking.extend(
                outcomes.iter().filter_map(|(key, outcome)| Parking::of(lane.name(), key, outcome)),
            );
            report(lane, outcomes);
        }
        match self.settle(&done, &parking).await {
            Err(refused) if !matches!(refused, Failure::Reconnect(_)) => {
                let storable = self.storable(parking, refused).await?;
                self.settle(&done, &storable).await
            }
            settled => settled,
        }
    }

    /// Keys that the source refuses to park are found by halving, and parked in the simplest form:
    /// one odd key does not hold up the others.
    async fn storable(
        &self,
        mut parking: Vec<Parking>,
        refused: Failure,
    ) -> Result<Vec<Parking>, Failure> {
        let mut apart = Apart::new(0..parking.len());
        while let Some(part) = apart.next_part() {
            let mut client = self.source.get().await?;
            let transaction = client.begin().await?;
            let tried = &parking[part.clone()];
            match change::acknowledge(&transaction, &[], &[], tried, &self.target).await {
                Ok(()) => apart.through(),
                Err(failure) => apart.refuse(part, failure)?,
            }
            // What was parked is rolled back with the transaction.
        }
        if apart.affects_all || apart.refused.is_empty() {
            return Err(refused);
        }
        for (part, failure) in apart.refused {
            let sqlstate = failure.sqlstate();
            for parking in &mut parking[part] {
                let object = &parking.object;
                tracing::warn!(
                    object,
                    sqlstate,
                    "the reason for parking a key cannot be stored in full"
                );
                parking.simplify();
            }
        }
        Ok(parking)
    }

    async fn settle(
        &self,
        Done { batch, outcomes }: &Done,
        parking: &[Parking],
    ) -> Result<(Tally, Option<Pause>), Failure> {
        let tallies: Vec<Tally> =
            outcomes.iter().enumerate().map(|(lane, came)| tally(batch, lane, came)).collect();
        let mut tally = Tally { changes: batch.changes.len() as u64, ..Tally::default() };
        tallies.iter().for_each(|lane| tally.add(lane));
        failpoint::reach(Failpoint::BeforeAcknowledge).await;
        let mut client = self.source.get().await?;
        let transaction = client.begin().await?;
        if !batch.truncated.is_empty() {
            parked::lock(&transaction).await?;
        }
        let freed = self.freed(&transaction, batch, parking).await?;
        change::acknowledge(&transaction, &batch.changes, &freed, parking, &self.target).await?;
        for (lane, outcomes) in self.lanes.iter().zip(outcomes) {
            circles(&transaction, lane, outcomes).await?;
        }
        if tally.waiting + tally.retrying + tally.dead > 0 {
            failpoint::reach(Failpoint::WhileParking).await;
        }
        self.follow_unnamed_rows(&transaction, batch).await?;
        let pause = match &batch.page {
            Some(page) => note_progress(&transaction, page, &tally).await?,
            None => None,
        };
        transaction.commit().await?;
        self.metrics.acknowledged(tally.changes);
        for (lane, tally) in self.lanes.iter().zip(&tallies) {
            self.metrics.settled(lane.name(), tally);
        }
        if outcomes.iter().flatten().any(|(_, outcome)| raises_doubt(outcome)) {
            self.doubt.notify_one();
        }
        failpoint::reach(Failpoint::AfterAcknowledge).await;
        Ok((tally, pause))
    }

    /// The keys, with their objects, that are parked no longer, if they were.
    async fn freed<'a>(
        &'a self,
        source: &Transaction<'_>,
        batch: &'a Batch,
        parking: &[Parking],
    ) -> Result<Vec<(&'a str, &'a str)>, Failure> {
        let parked: HashSet<(&str, &str)> =
            parking.iter().map(|parking| (&*parking.object, &*parking.key)).collect();
        let mut freed = Vec::new();
        for (index, lane) in self.lanes.iter().enumerate() {
            // A key that was due is freed as it was parked, which may be another spelling of the same key.
            let due = batch.due.iter().filter(|due| due.lane == index);
            let keys = batch.keys(index).chain(due.map(|due| due.key.as_str()));
            let keys = keys.map(|key| (lane.name(), key));
            freed.extend(keys.filter(|key| !parked.contains(key)));
        }
        if freed.len() >= MANY_KEYS {
            let objects: Vec<&str> = self.lanes.iter().map(Lane::name).collect();
            // Only acknowledgements park, one after the other.
            let parked = parked::objects(source, &objects).await?;
            freed.retain(|(object, _)| parked.contains(*object));
        }
        Ok(freed)
    }

    /// Stores resyncs for changes that name no row: of a truncated table, and of tables that touch too many rows.
    async fn follow_unnamed_rows(
        &self,
        source: &Transaction<'_>,
        batch: &Batch,
    ) -> Result<(), Failure> {
        for &(index, reads) in &batch.truncated {
            let lane = &self.lanes[index];
            if reads {
                // No key is named, so the row of every waiting key may be gone.
                parked::all_due(source, lane.name()).await?;
            }
            // The rows that are gone are known only to the target; what a touched object lost, only to the source.
            let walk = match reads {
                true if lane.route.object.update_only => continue,
                true => resync::create_target_walk(source, &lane.route).await?,
                false => resync::create_all(source, &lane.route).await?,
            };
            tracing::warn!(
                object = lane.name(),
                resync = walk,
                "its table was truncated; a resync finds the rows that are gone"
            );
        }
        for &index in &batch.touched {
            let lane = &self.lanes[index];
            let walk = resync::create_all(source, &lane.route).await?;
            tracing::info!(
                object = lane.name(),
                resync = walk,
                "a change in another table affects very many rows, or rows that cannot be found now; a resync checks \
                 all rows"
            );
        }
        Ok(())
    }
}

/// Notes how far a resync has come; returns how long it must rest, if it has a rate.
async fn note_progress(
    source: &Transaction<'_>,
    page: &Page,
    tally: &Tally,
) -> Result<Option<Pause>, Failure> {
    let progress = Progress {
        done: page.rows,
        written: tally.written as i64,
        equal: tally.equal as i64,
        waiting: tally.waiting as i64,
        retrying: tally.retrying as i64,
        dead: tally.dead as i64,
        deleted: tally.deleted as i64,
        kept: tally.kept as i64,
    };
    resync::progress(source, page, &progress).await?;
    failpoint::reach(Failpoint::ResyncProgress).await;
    let writes = (tally.written + tally.deleted) as f64;
    let rate = page.job.request.rate;
    Ok(rate.map(|rate| (page.job.id, Duration::from_secs_f64(writes / rate as f64))))
}

/// Rows of one object may be each other's parents: those that wait in a circle are reported by name.
async fn circles(
    source: &Transaction<'_>,
    lane: &Lane,
    outcomes: &Outcomes,
) -> Result<(), Failure> {
    let object = lane.name();
    if !lane.route.parents.iter().any(|parent| parent.object == object) {
        return Ok(());
    }
    let own = Route::awaits_sfid(object);
    let waits = outcomes
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Waits { awaits, .. } if *awaits == own));
    let keys: Vec<&str> = waits.map(|(key, _)| key.as_str()).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let found = parked::circles(source, object, &own, &keys).await?;
    if found > 0 {
        tracing::warn!(
            object,
            keys = found,
            "rows are each other's parents, so none can be written: see `schoolbell parked list`"
        );
    }
    Ok(())
}

/// Whether a key was refused as it is where a table has another form than the one that was planned for: a name, a type or
/// a right is missing, or a value does not fit.
fn raises_doubt(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Dead(refusal) | Outcome::Retries(refusal) => {
            matches!(refusal.class(), "0A" | "22" | "3F" | "42")
        }
        _ => false,
    }
}

/// The outcomes of a lane's keys; the changes are counted for all lanes together.
fn tally(batch: &Batch, lane: usize, outcomes: &Outcomes) -> Tally {
    let count = |wanted: fn(&Outcome) -> bool| outcome::count(outcomes, wanted);
    let keys = batch.keys(lane).count() as u64;
    let other = outcomes.len() as u64;
    // Keys that are absent on both sides are neither equal nor anything else.
    let told: HashSet<&str> = outcomes.iter().map(|(key, _)| key.as_str()).collect();
    let absent = batch.projected[lane].absent.iter();
    let nowhere = absent.filter(|key| !told.contains(key.as_str())).count() as u64;
    let deleted = count(|outcome| matches!(outcome, Outcome::Deleted));
    let kept = count(|outcome| matches!(outcome, Outcome::Kept));
    Tally {
        changes: 0,
        written: count(|outcome| matches!(outcome, Outcome::Updated | Outcome::Inserted)),
        equal: keys.saturating_sub(other).saturating_sub(nowhere),
        waiting: count(|outcome| matches!(outcome, Outcome::Waits { .. })),
        retrying: count(|outcome| matches!(outcome, Outcome::Retries(_))),
        dead: count(|outcome| matches!(outcome, Outcome::Dead(_) | Outcome::Held(_))),
        deleted,
        kept,
    }
}

/// Logs what came of an object's keys: counts, and codes for what was refused, never contents.
fn report(lane: &Lane, outcomes: &Outcomes) {
    let object = lane.name();
    let kept = outcome::count(outcomes, |outcome| *outcome == Outcome::Kept);
    if kept > 0 {
        tracing::info!(
            object,
            kept,
            "target rows are kept although their source row is gone (on_delete = keep)"
        );
    }
    let held = outcome::count(outcomes, |outcome| matches!(outcome, Outcome::Held(_)));
    if held > 0 {
        tracing::warn!(
            object,
            held,
            "the brake holds deletions: see `schoolbell parked list`; `parked retry` releases them"
        );
    }
    let mut refused: HashMap<(&str, &str), u64> = HashMap::new();
    for (_, outcome) in outcomes {
        if let Outcome::Dead(Refusal { sqlstate, remedy, .. })
        | Outcome::Retries(Refusal { sqlstate, remedy, .. }) = outcome
        {
            *refused.entry((sqlstate, remedy)).or_default() += 1;
        }
    }
    for ((sqlstate, remedy), keys) in refused {
        tracing::warn!(
            object,
            keys,
            sqlstate,
            remedy,
            "rows were refused and parked: see `schoolbell parked list`"
        );
    }
    let written = outcome::count(outcomes, |outcome| {
        matches!(outcome, Outcome::Updated | Outcome::Inserted | Outcome::Deleted)
    });
    if written > 0 {
        tracing::debug!(object, written, "applied");
    }
}
