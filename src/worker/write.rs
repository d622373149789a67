//! The second step: applies a batch to the target, in one transaction where possible.
//!
//! Promise: a refused row does not hold up the others; it is found by halving, not by trying every
//! row.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join3, try_join_all};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::leave::{Gate, Leaving};
use super::patience::Patience;
use super::{Batch, Done, Lane};
use crate::apply::{Call, KeyPart, Locked};
use crate::failpoint::{self, Failpoint};
use crate::outbox::outcome::{self, Outcome, Outcomes};
use crate::postgres::apart::Apart;
use crate::postgres::db::{Direct, Pool};
use crate::postgres::failure::{Failure, Refusal};
use crate::project::Projected;

/// A batch that is tried in parts would wait for locked rows at every halving: it waits only this long.
const LOCK_HURRY: &str = "; set local lock_timeout = '100ms'";
/// This long a single row is waited for where somebody else has locked it.
const LOCK_WAIT: &str = "; set local lock_timeout = '50ms'";
/// What helps when a table has changed since it was planned for.
const PLANNED_ANEW: &str =
    "the table has changed; it is retried by itself when the service has seen the change";

/// The step on the target side.
pub(super) struct Writer {
    lanes: Arc<Vec<Lane>>,
    gate: Gate,
    /// Shared with the task that keeps it from falling silent. It takes no statement that leaves
    /// out a schema.
    session: Arc<Mutex<Direct>>,
    /// Sessions that only read, for such statements.
    target: Pool,
    /// The role may have temporary tables.
    may_copy: bool,
    patience: Patience,
    /// The target had no room for a batch of this many rows.
    pub(super) too_many: Option<usize>,
}

impl Writer {
    pub(super) fn new(
        lanes: Arc<Vec<Lane>>,
        gate: Gate,
        session: Arc<Mutex<Direct>>,
        target: Pool,
        may_copy: bool,
        most: Duration,
    ) -> Self {
        let patience = Patience::new(most);
        Self { lanes, gate, session, target, may_copy, patience, too_many: None }
    }

    /// Applies a batch in one transaction, or, where rows are refused, so that the others get through.
    pub(super) async fn apply(&mut self, mut batch: Batch) -> Result<Done, Failure> {
        for (lane, projected) in batch.projected.iter_mut().enumerate() {
            let unkeepable = projected.take_unkeepable().into_iter();
            let refused = unkeepable.map(|(key, refusal)| (lane, key, Outcome::Dead(refusal)));
            batch.refused.extend(refused);
        }
        let leaving = self.gate.leaving(&self.session, &batch).await?;
        let began = Instant::now();
        let mut outcomes = match self.briefly_or_passing_over(&batch, &leaving).await {
            Ok(outcomes) => outcomes,
            Err(Failure::Reconnect(reason)) => return Err(Failure::Reconnect(reason)),
            Err(refused) => {
                let sqlstate = refused.sqlstate();
                tracing::debug!(sqlstate, "the batch is refused as a whole, applying it in parts");
                if refused.is_cancelled() {
                    self.indexes_as_planned(&batch, &leaving).await?;
                }
                if refused.is_lack_of_room() {
                    self.too_many = Some(batch.projected.iter().map(Projected::len).sum());
                }
                let outcomes = self.apart_by_lanes(&batch, &leaving).await?;
                self.patience.came_apart(&refused, began.elapsed(), outcomes.iter().flatten());
                outcomes
            }
        };
        self.gate.correct(&leaving.notes, &outcomes).await?;
        for (lane, held) in leaving.outcomes.into_iter().enumerate() {
            outcomes[lane].extend(held);
        }
        for (lane, key, outcome) in &batch.refused {
            outcomes[*lane].push((key.clone(), outcome.clone()));
        }
        let outcomes = outcomes.into_iter().map(outcome::by_key).collect();
        Ok(Done { batch, outcomes })
    }

    /// A single locked row is waited for, because no other lock is held meanwhile. Among several
    /// rows, locked ones are passed over.
    async fn briefly_or_passing_over(
        &mut self,
        batch: &Batch,
        leaving: &Leaving<'_>,
    ) -> Result<Vec<Outcomes>, Failure> {
        let leave = leaving.keys.iter().map(|keys| keys.len()).sum::<usize>();
        if leave == 0
            && batch.projected.iter().map(|projected| projected.rows.len()).sum::<usize>() == 1
        {
            match self.together(batch, leaving, Locked::Wait).await {
                Err(failure) if failure.sqlstate() == Some(SqlState::LOCK_NOT_AVAILABLE.code()) => {
                }
                done => return done,
            }
        }
        self.together(batch, leaving, Locked::PassOver).await
    }

    async fn together(
        &mut self,
        batch: &Batch,
        leaving: &Leaving<'_>,
        locked: Locked,
    ) -> Result<Vec<Outcomes>, Failure> {
        let mut outcomes = vec![Vec::new(); self.lanes.len()];
        let session = &*self.session.lock().await;
        let (mut calls, mut lanes) = (Vec::new(), Vec::new());
        // Children leave before their parents, and come after them.
        let leaving = leaving.keys.iter().enumerate().rev();
        let leaving = leaving.map(|(index, keys)| (index, KeyPart::Absent(keys)));
        let coming =
            (0..self.lanes.len()).map(|index| (index, KeyPart::Rows(&batch.projected[index].rows)));
        for (index, part) in leaving.chain(coming) {
            if let Some(call) = self.call(session, &self.lanes[index], part, locked).await? {
                calls.push(call);
                lanes.push(index);
            }
        }
        if calls.is_empty() {
            return Ok(outcomes);
        }
        let (limit, began) =
            (self.patience.of_batch(calls.iter().map(Call::rows).sum()), Instant::now());
        let told = match calls.iter().all(Call::is_one_message) {
            true => at_once(session, &calls, &begin(limit, locked)).await?,
            false => in_turn(session, &calls, &begin(limit, locked)).await?,
        };
        self.patience.got_through(began.elapsed());
        failpoint::reach(Failpoint::AfterCommit).await;
        for (lane, told) in lanes.into_iter().zip(told) {
            outcomes[lane].extend(told);
        }
        Ok(outcomes)
    }

    async fn call<'a>(
        &self,
        session: &Direct,
        lane: &'a Lane,
        part: KeyPart<'a>,
        locked: Locked,
    ) -> Result<Option<Call<'a>>, Failure> {
        let Lane { route, statements, .. } = lane;
        Call::prepare(session.client(), route, statements, part, self.may_copy, locked).await
    }

    async fn apart_by_lanes(
        &self,
        batch: &Batch,
        leaving: &Leaving<'_>,
    ) -> Result<Vec<Outcomes>, Failure> {
        let lanes = self.lanes.clone();
        let mut outcomes = vec![Vec::new(); lanes.len()];
        for (index, lane) in lanes.iter().enumerate().rev() {
            let absent = KeyPart::Absent(&leaving.keys[index]);
            outcomes[index].extend(self.in_parts(lane, absent).await?);
        }
        for (index, lane) in lanes.iter().enumerate() {
            let rows = KeyPart::Rows(&batch.projected[index].rows);
            outcomes[index].extend(self.in_parts(lane, rows).await?);
        }
        Ok(outcomes)
    }

    /// Tries smaller and smaller parts until the rows at fault are isolated.
    async fn in_parts(&self, lane: &Lane, whole: KeyPart<'_>) -> Result<Outcomes, Failure> {
        let (mut apart, mut outcomes) = (Apart::new(whole), Vec::new());
        while let Some(part) = apart.next_part() {
            match self.alone(lane, part).await {
                Ok(told) => {
                    apart.through();
                    outcomes.extend(told);
                }
                Err(failure) => apart.refuse(part, failure)?,
            }
        }
        if apart.affects_all {
            self.primary().await?;
            if apart.refused.iter().any(|(_, failure)| failure.is_slow()) {
                self.patience.nothing_got_through();
            }
        }
        let mut refused = apart.refused;
        // A value that must be unique may have been freed by a row that was written after it was asked for.
        let is_taken = |failure: &Failure| matches!(failure.sqlstate(), Some("23505" | "23P01"));
        let mut before = usize::MAX;
        while refused.len() < before {
            before = refused.len();
            for (part, failure) in std::mem::take(&mut refused) {
                match is_taken(&failure) {
                    false => refused.push((part, failure)),
                    true => match self.alone(lane, part).await {
                        Ok(told) => outcomes.extend(told),
                        Err(failure) => refused.push((part, failure)),
                    },
                }
            }
        }
        let mut is_current = None;
        for (part, failure) in refused {
            let outcome = match Outcome::of(failure)? {
                // The row is only looked up, and a key that the target cannot hold is not there.
                Outcome::Dead(_) if matches!(part, KeyPart::Absent(_)) && !lane.deletes() => {
                    continue;
                }
                Outcome::Dead(refusal) if refusal.is_about_a_value() => {
                    // A column may be shorter than when it was planned: then the plan is at fault, not the row.
                    let current = match is_current {
                        Some(current) => current,
                        None => *is_current.insert(self.is_current(lane).await?),
                    };
                    match current {
                        true => Outcome::Dead(refusal),
                        false => Outcome::Retries(refusal.with_remedy(PLANNED_ANEW)),
                    }
                }
                outcome => outcome,
            };
            outcomes.extend(part.keys().map(|key| (key.to_string(), outcome.clone())));
        }
        Ok(outcomes)
    }

    /// Rows that are looked up one by one take for ever where an index was dropped: then it is planned again.
    async fn indexes_as_planned(
        &self,
        batch: &Batch,
        leaving: &Leaving<'_>,
    ) -> Result<(), Failure> {
        let target = self.target.get().await?;
        for (index, lane) in self.lanes.iter().enumerate() {
            let takes_part = !batch.projected[index].is_empty() || !leaving.keys[index].is_empty();
            if takes_part && !lane.route.is_indexed_as_planned(&target).await? {
                return Err(Failure::Reconnect(format!(
                    "an index that finds rows of {}, or of its parents, was dropped or made; planning again",
                    lane.route.object.target.plain()
                )));
            }
        }
        Ok(())
    }

    /// After a failover the server may be a standby, which refuses every row.
    async fn primary(&self) -> Result<(), Failure> {
        let session = self.session.lock().await;
        let row = session.row("select pg_catalog.pg_is_in_recovery()", &[]).await?;
        match row.get(0) {
            true => Err(Failure::Reconnect("the target is a standby in recovery".into())),
            false => Ok(()),
        }
    }

    async fn is_current(&self, lane: &Lane) -> Result<bool, Failure> {
        Ok(lane.route.is_current(&self.target.get().await?).await?)
    }

    /// Applies a part in a transaction of its own.
    async fn alone(&self, lane: &Lane, part: KeyPart<'_>) -> Result<Outcomes, Failure> {
        let session = &*self.session.lock().await;
        let Some(call) = self.call(session, lane, part, Locked::PassOver).await? else {
            return Ok(Vec::new());
        };
        let client = &**session.client();
        let (limit, began) = (self.patience.of_part(part.len()), Instant::now());
        let begin = begin(limit, Locked::PassOver) + LOCK_HURRY;
        let told = transaction(client, &begin, call.run(client)).await;
        match &told {
            Ok(_) => self.patience.got_through(began.elapsed()),
            Err(failure)
                if part.len() == 1 && failure.is_cancelled() && began.elapsed() >= limit =>
            {
                return Err(Failure::Retry(Refusal::slow_in_the_target(limit)));
            }
            Err(_) => {}
        }
        told
    }
}

/// The outcomes of each call.
type CallOutcomes = Vec<Outcomes>;

/// One transaction whose statements are sent without waiting for each other's answers: one round trip. Where one is
/// refused, the server refuses those after it, and what was to be the commit ends the transaction.
async fn at_once(
    session: &Direct,
    calls: &[Call<'_>],
    begin: &str,
) -> Result<CallOutcomes, Failure> {
    let client = &**session.client();
    let commit = async {
        failpoint::reach(Failpoint::BeforeCommit).await;
        client.batch_execute("commit").await
    };
    let statements = try_join_all(calls.iter().map(|call| call.run(client)));
    // Polled in this order, and each sends when it is first polled.
    let (begun, told, committed) = join3(client.batch_execute(begin), statements, commit).await;
    begun?;
    let told = told?;
    committed?;
    Ok(told)
}

/// One transaction with rows that are streamed.
async fn in_turn(
    session: &Direct,
    calls: &[Call<'_>],
    begin: &str,
) -> Result<CallOutcomes, Failure> {
    let client = &**session.client();
    let told = transaction(client, begin, async {
        let mut told = Vec::new();
        for call in calls {
            told.push(call.run(client).await?);
        }
        failpoint::reach(Failpoint::BeforeCommit).await;
        Ok(told)
    });
    told.await
}

/// A transaction each statement of which is broken off after this long.
fn begin(limit: Duration, locked: Locked) -> String {
    let waits = match locked {
        Locked::Wait => LOCK_WAIT,
        Locked::PassOver => "",
    };
    format!("begin; set local statement_timeout = {}{waits}", limit.as_millis())
}

/// Commits what was done, or rolls it back. If this is cancelled in the middle, the transaction
/// ends with the session: a caller that cancels must give the session up.
async fn transaction<T>(
    client: &Client,
    begin: &str,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    client.batch_execute(begin).await?;
    match work.await {
        Ok(done) => {
            client.batch_execute("commit").await?;
            Ok(done)
        }
        Err(error) => {
            client.batch_execute("rollback").await?;
            Err(error.into())
        }
    }
}
