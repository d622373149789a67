//! The second step: applies a batch to the target, in one transaction where possible.
//!
//! Promise: a refused row holds up no other; it is found by halving, not by trying every row.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_postgres::Row;

use super::{Batch, Done, Lane, Verdict};
use crate::apply;
use crate::db::Direct;
use crate::failpoint::{self, Failpoint};
use crate::failure::Failure;
use crate::outcome::{self, Applied, Outcome};
use crate::project;

/// The step on the target side.
pub(super) struct Writer {
    lanes: Arc<Vec<Lane>>,
    /// Whoever keeps it from falling silent has it, too.
    session: Arc<Mutex<Direct>>,
}

impl Writer {
    pub(super) fn new(lanes: Arc<Vec<Lane>>, session: Arc<Mutex<Direct>>) -> Self {
        Self { lanes, session }
    }

    /// Applies a batch in one transaction, or, where rows are refused, so that the others get through.
    pub(super) async fn apply(&mut self, batch: Batch) -> Result<Done, Failure> {
        let outcomes = match self.together(&batch).await {
            Ok(outcomes) => outcomes,
            Err(Failure::Reconnect(reason)) => return Err(Failure::Reconnect(reason)),
            Err(refused) => {
                // Not the reason: a trigger's own message may quote the row.
                let sqlstate = refused.sqlstate();
                tracing::debug!(sqlstate, "the batch is refused as a whole, applying it in parts");
                self.apart(&batch).await?
            }
        };
        let mut outcomes = outcomes;
        for (lane, key, outcome) in &batch.refused {
            outcomes[*lane].push((key.clone(), outcome.clone()));
        }
        let applied = outcomes.into_iter().zip(&batch.projected).enumerate();
        let applied = applied.map(|(index, (outcomes, projected))| {
            let rows = projected.rows.iter().map(|row| project::key(row).to_string());
            let refused = batch
                .refused
                .iter()
                .filter(|(lane, ..)| *lane == index)
                .map(|(_, key, _)| key.clone());
            Applied {
                keys: rows.chain(projected.absent.iter().cloned()).chain(refused).collect(),
                outcomes: outcome::by_key(outcomes),
            }
        });
        let applied = applied.collect();
        Ok(Done { batch, applied })
    }

    async fn together(&mut self, batch: &Batch) -> Result<Vec<Vec<(String, Outcome)>>, Failure> {
        let mut outcomes = vec![Vec::new(); self.lanes.len()];
        if batch.projected.iter().all(|part| part.rows.is_empty() && part.absent.is_empty()) {
            return Ok(outcomes);
        }
        let mut session = self.session.lock().await;
        let transaction = session.client_mut().transaction().await?;
        // Children leave before their parents, and come after them.
        for (index, lane) in self.lanes.iter().enumerate().rev() {
            let absent = &batch.projected[index].absent;
            let left =
                apply::leave_rows(&transaction, &lane.route, &lane.statements, absent).await?;
            outcomes[index].extend(left);
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            let rows = &batch.projected[index].rows;
            let written =
                apply::write_rows(&transaction, &lane.route, &lane.statements, rows).await?;
            outcomes[index].extend(written);
        }
        failpoint::reach(Failpoint::BeforeCommit).await;
        transaction.commit().await?;
        failpoint::reach(Failpoint::AfterCommit).await;
        Ok(outcomes)
    }

    async fn apart(&mut self, batch: &Batch) -> Result<Vec<Vec<(String, Outcome)>>, Failure> {
        let lanes = self.lanes.clone();
        let mut outcomes = vec![Vec::new(); lanes.len()];
        for (index, lane) in lanes.iter().enumerate().rev() {
            let absent = Part::Absent(&batch.projected[index].absent);
            outcomes[index].extend(self.halve(lane, absent).await?);
        }
        for (index, lane) in lanes.iter().enumerate() {
            let rows = Part::Rows(&batch.projected[index].rows);
            outcomes[index].extend(self.halve(lane, rows).await?);
        }
        Ok(outcomes)
    }

    /// Halves what is refused until the rows at fault stand alone: a few bad rows among thousands cost a
    /// few statements each, not one for every row.
    async fn halve(
        &mut self,
        lane: &Lane,
        whole: Part<'_>,
    ) -> Result<Vec<(String, Outcome)>, Failure> {
        let mut outcomes = Vec::new();
        let mut parts = vec![whole];
        while let Some(part) = parts.pop() {
            match self.alone(lane, part).await {
                Ok(through) => outcomes.extend(through),
                Err(failure) => match failure.verdict(part.len())? {
                    Verdict::Split => parts.extend(part.halves()),
                    Verdict::All(outcome) => {
                        outcomes.extend(part.keys().map(|key| (key.to_string(), outcome.clone())));
                    }
                },
            }
        }
        Ok(outcomes)
    }

    /// Applies a part in a transaction of its own.
    async fn alone(
        &mut self,
        lane: &Lane,
        part: Part<'_>,
    ) -> Result<Vec<(String, Outcome)>, Failure> {
        let mut session = self.session.lock().await;
        let transaction = session.client_mut().transaction().await?;
        apply::hurry(&transaction).await?;
        let tried = part.apply(&transaction, lane).await;
        match tried {
            Ok(outcomes) => {
                transaction.commit().await?;
                Ok(outcomes)
            }
            Err(failure) => transaction.rollback().await.map_err(Failure::from).and(Err(failure)),
        }
    }
}

/// Some keys of one object: rows to write, or keys whose row is gone.
#[derive(Clone, Copy)]
enum Part<'a> {
    Rows(&'a [Row]),
    Absent(&'a [String]),
}

impl<'a> Part<'a> {
    fn len(self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Absent(keys) => keys.len(),
        }
    }

    /// The second half first: what is pushed last is tried first.
    fn halves(self) -> [Self; 2] {
        let middle = self.len() / 2;
        match self {
            Self::Rows(rows) => [Self::Rows(&rows[middle..]), Self::Rows(&rows[..middle])],
            Self::Absent(keys) => [Self::Absent(&keys[middle..]), Self::Absent(&keys[..middle])],
        }
    }

    fn keys(self) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Self::Rows(rows) => Box::new(rows.iter().map(project::key)),
            Self::Absent(keys) => Box::new(keys.iter().map(String::as_str)),
        }
    }

    async fn apply(
        self,
        target: &deadpool_postgres::Transaction<'_>,
        lane: &Lane,
    ) -> Result<Vec<(String, Outcome)>, Failure> {
        match self {
            Self::Rows(rows) => {
                apply::write_rows(target, &lane.route, &lane.statements, rows).await
            }
            Self::Absent(keys) => {
                apply::leave_rows(target, &lane.route, &lane.statements, keys).await
            }
        }
    }
}
