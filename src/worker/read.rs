//! The first step: claims what is due, sorts it by object and projects it.
//!
//! Promise: live changes and due keys come first, a replay only when there are none; a row that the source
//! itself refuses is found among the others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deadpool_postgres::Pool;
use tokio::time::Instant;

use super::{Batch, InHand, Lane, Verdict, verdict};
use crate::apply;
use crate::change::{self, Change, Position};
use crate::config::Pace;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::parked;
use crate::project::{self, Projected, Wanted};
use crate::resync::{self, Page};

/// The steps on the source side: claim and project.
pub(super) struct Reader {
    lanes: Arc<Vec<Lane>>,
    source: Pool,
    target: Pool,
    pace: Pace,
    position: Position,
    strange_tables: HashSet<String>,
    /// Not before this moment does the next page of a replay with a rate begin.
    pub(super) next_page_at: Instant,
}

impl Reader {
    pub(super) fn new(lanes: Arc<Vec<Lane>>, source: Pool, target: Pool, pace: Pace) -> Self {
        Self {
            lanes,
            source,
            target,
            pace,
            position: Position::default(),
            strange_tables: HashSet::new(),
            next_page_at: Instant::now(),
        }
    }

    /// Claims what is due and projects it; none when nothing is.
    pub(super) async fn read(&mut self, in_hand: InHand) -> Result<Option<Batch>, Failure> {
        let source = self.source.get().await?;
        let limit = self.pace.batch_changes;
        let (changes, due) = tokio::try_join!(
            change::claim(&source, &mut self.position, limit),
            due_keys(&source, in_hand.due, limit),
        )?;
        let mut wanted = vec![Wanted::default(); self.lanes.len()];
        for (lane, wanted) in self.lanes.iter().zip(&mut wanted) {
            wanted.touches = vec![Vec::new(); lane.route.touches.len()];
        }
        let mut batch = Batch { has_due: !due.is_empty(), ..Batch::default() };
        for change in changes {
            self.sort(&change, &mut batch, &mut wanted);
        }
        for (object, key) in due {
            if let Some(index) = self.lanes.iter().position(|lane| lane.name() == object) {
                wanted[index].keys.push(key);
            }
        }
        // Replays stand behind: a page is read only when nothing else is due.
        if batch.changes.is_empty() && !batch.has_due {
            batch.page = self.next_page(&source, in_hand.page).await?;
            if let Some(page) = &batch.page
                && let Some(index) =
                    self.lanes.iter().position(|lane| lane.name() == page.job.object)
            {
                wanted[index].keys.extend(page.keys.iter().cloned());
            }
        }
        if batch.changes.is_empty() && !batch.has_due && batch.page.is_none() {
            return Ok(None);
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            unique(&mut wanted[index].keys);
            wanted[index].touches.iter_mut().for_each(unique);
            let (projected, refused) =
                project_lane(&source, lane, std::mem::take(&mut wanted[index])).await?;
            batch.projected.push(projected);
            batch.refused.extend(refused.into_iter().map(|(key, outcome)| (index, key, outcome)));
        }
        if batch.page.as_ref().is_some_and(|page| page.job.request.missing) {
            let target = self.target.get().await?;
            for (lane, projected) in self.lanes.iter().zip(&mut batch.projected) {
                apply::retain_lacking(&target, &lane.statements, projected).await?;
            }
        }
        Ok(Some(batch))
    }

    /// Adds the keys that a change is about.
    fn sort(&mut self, change: &Change, batch: &mut Batch, wanted: &mut [Wanted]) {
        let mut known = false;
        let keys: Option<HashMap<String, serde_json::Value>> =
            change.keys.as_ref().map(|keys| serde_json::from_str(keys).unwrap_or_default());
        for (index, lane) in self.lanes.iter().enumerate() {
            let object = &lane.route.object;
            match &change.concerns {
                None if object.source.plain() == change.table => {
                    known = true;
                    match &keys {
                        Some(keys) => {
                            wanted[index].keys.extend(keys.get(&object.key).and_then(text));
                        }
                        None => _ = batch.truncated.insert((index, true)),
                    }
                }
                Some(concerns) if *concerns == object.name => {
                    for (touch, recorded) in
                        lane.route.touches.iter().zip(&mut wanted[index].touches)
                    {
                        if touch.table == change.table {
                            known = true;
                            match &change.keys {
                                Some(keys) => recorded.push(keys.clone()),
                                None => _ = batch.truncated.insert((index, false)),
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        if known {
            batch.changes.push(change.id);
        } else if self.strange_tables.insert(change.table.clone()) {
            tracing::warn!(
                table = %change.table,
                "the outbox has changes that no object of this mapping is read from; they stay there: start with the \
                 mapping that captured them, or delete them from schoolbell.change"
            );
        }
    }

    async fn next_page(
        &self,
        source: &deadpool_postgres::Client,
        in_hand: Option<Page>,
    ) -> Result<Option<Page>, Failure> {
        if Instant::now() < self.next_page_at {
            return Ok(None);
        }
        let Some(mut job) = resync::next(source).await? else { return Ok(None) };
        if let Some(page) = in_hand.filter(|page| page.job.id == job.id) {
            // What is still allowed is known only when the page in hand is done.
            if page.last || job.request.limit.is_some() || job.request.rate.is_some() {
                return Ok(None);
            }
            job.position = page.position.or(job.position);
        }
        let Some(lane) = self.lanes.iter().find(|lane| lane.name() == job.object) else {
            tracing::warn!(object = %job.object, "a replay is for an object that this mapping lacks; it is skipped");
            return Ok(Some(Page { job, keys: Vec::new(), position: None, last: true }));
        };
        let target = self.target.get().await?;
        Ok(Some(resync::page(source, &target, &lane.route, job, self.pace.page_rows).await?))
    }

    /// Whether a replay goes on later although nothing is due at this moment (its rate makes it wait).
    pub(super) async fn replays_later(&self, claim: bool) -> Result<bool, Failure> {
        let source = self.source.get().await?;
        Ok(claim && resync::next(&source).await?.is_some())
    }
}

async fn due_keys(
    source: &deadpool_postgres::Client,
    in_hand: bool,
    limit: i64,
) -> Result<Vec<(String, String)>, Failure> {
    match in_hand {
        // They are still due until they are acknowledged; one at a time is enough.
        true => Ok(Vec::new()),
        false => parked::due(source, limit).await,
    }
}

fn text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn unique(keys: &mut Vec<String>) {
    let mut seen = HashSet::with_capacity(keys.len());
    keys.retain(|key| seen.insert(key.clone()));
}

/// Projects one object's keys; where the source refuses a row's values, finds that row and goes on without it.
async fn project_lane(
    source: &deadpool_postgres::Client,
    lane: &Lane,
    wanted: Wanted,
) -> Result<(Projected, Vec<(String, Outcome)>), Failure> {
    let mut all = Projected::default();
    let mut refused = Vec::new();
    let mut parts = vec![wanted];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let failure = match project::project(source, &lane.project, &part).await {
            Ok(mut projected) => {
                all.rows.append(&mut projected.rows);
                all.absent.append(&mut projected.absent);
                continue;
            }
            Err(failure) => failure,
        };
        // What changes of other tables touch is asked for first, to find the row at fault among it.
        if let Some((keys, touching)) = part.apart() {
            parts.push(keys);
            match project::resolve(source, &lane.resolve, &touching).await {
                Ok(keys) => parts.push(Wanted::of(keys, &touching)),
                // A recorded key that does not fit its column (any more); the others do.
                Err(Failure::Dead(refusal)) => match touching.halves() {
                    Some(halves) => parts.extend(halves),
                    None => {
                        let recorded = touching.touches.into_iter().flatten();
                        refused.extend(recorded.map(|key| (key, Outcome::Dead(refusal.clone()))));
                    }
                },
                // Whom the change touches cannot be known now, so it must not be acknowledged.
                Err(failure) => return Err(failure),
            }
            continue;
        }
        match verdict(Err(failure), part.keys.len())? {
            Verdict::Split => parts.extend(part.halves().into_iter().flatten()),
            Verdict::All(outcome) => {
                refused.extend(part.keys.into_iter().map(|key| (key, outcome.clone())));
            }
            Verdict::Through(_) => unreachable!("a failure is not a success"),
        }
    }
    Ok((all, refused))
}
