//! Notices while the service works that the mapping, a table or a trigger has changed, and plans again.
//!
//! Promise: a plan is replaced only by one that fits. What does not fit is reported by name, once, and the work continues with
//! the plan that it has: what that cannot write any more is parked, and tried again when there is a better one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::ground::{BothReached, Fatal, Ground, Plan};
use crate::mapping::{Mapping, Unusable};
use crate::outbox::shape;
use crate::plan::{Form, Unplannable};
use crate::postgres::db::{Database, Pool};
use crate::postgres::deadline::unless_silent;
use crate::postgres::failure::Failure;
use crate::worker::Lane;

/// Refused rows make it look at once, but not more often than this: a right that is missing is refused all the time.
const DOUBT_PAUSE: Duration = Duration::from_secs(5);

/// Keeps the plan.
pub(super) struct Planner {
    /// What the mapping should be.
    wanted: watch::Receiver<Arc<Mapping>>,
    /// Rows were refused as if the plan were out of date.
    pub(super) doubt: Arc<Notify>,
    /// The plan in use, and the mapping that it is of.
    current: Option<(Plan, Arc<Mapping>)>,
    /// What was reported about the plan in use, or of one that does not fit.
    told: BTreeSet<String>,
    /// The last look found that the mapping does not fit.
    unfit: bool,
}

impl Planner {
    pub(super) fn new(wanted: watch::Receiver<Arc<Mapping>>) -> Self {
        let doubt = Arc::default();
        Self { wanted, doubt, current: None, told: BTreeSet::new(), unfit: false }
    }

    /// The ground at the start: the mapping must fit.
    pub(super) async fn begin(&mut self, reached: BothReached) -> Result<Ground, Fatal> {
        let mapping = self.mapping();
        let plan = reached.plan(&mapping).await?;
        self.take_up(plan.clone(), mapping);
        Ok(reached.ground(plan))
    }

    /// The ground after an interruption: where the mapping does not fit any more, it is worked on with the plan of before.
    pub(super) async fn resume(&mut self, reached: BothReached) -> Result<Ground, Fatal> {
        let mapping = self.mapping();
        match (reached.plan(&mapping).await, &self.current) {
            (Ok(plan), _) => {
                self.take_up(plan.clone(), mapping);
                Ok(reached.ground(plan))
            }
            (Err(Fatal::Plan(Unplannable::Mapping(unusable))), Some((plan, _))) => {
                let plan = plan.clone();
                self.tell_unfit(&unusable, &mapping);
                Ok(reached.ground(plan))
            }
            (Err(fatal), _) => Err(fatal),
        }
    }

    /// Returns when there is another plan that fits; it is in use from then on.
    pub(super) async fn replanned(
        &mut self,
        (source, evaluators): (&Pool, &Database),
        target: &Pool,
        every: Duration,
        silence: Duration,
    ) -> Plan {
        let mut doubted_at = Instant::now() - DOUBT_PAUSE;
        loop {
            tokio::select! {
                () = sleep(every) => {}
                () = changed(&mut self.wanted) => {}
                () = doubted(&self.doubt, doubted_at + DOUBT_PAUSE.min(every)) => {
                    doubted_at = Instant::now();
                }
            }
            let mapping = self.mapping();
            let planning = async {
                let (source, target) = (source.get().await?, target.get().await?);
                // Opened for this look alone: a connection for one use every half minute is not
                // worth keeping.
                let evaluator = evaluators.evaluator().await?;
                Ok(Plan::make((&source, &evaluator), &target, &mapping).await)
            };
            match unless_silent(silence, planning).await {
                Ok(Ok(plan)) if self.is_current(&plan, &mapping) => {
                    let answered = async {
                        let routes: Vec<_> = plan.lanes.iter().map(|lane| &lane.route).collect();
                        let mut source = source.get().await?;
                        shape::answer(&mut source, &routes, &plan.captured).await
                    };
                    if let Err(failure) = unless_silent(silence, answered).await {
                        not_looked_at(&failure);
                    }
                    self.tell(plan.advice);
                }
                Ok(Ok(plan)) => {
                    self.tell_change(&plan, &mapping);
                    self.take_up(plan.clone(), mapping);
                    return plan;
                }
                Ok(Err(Unplannable::Mapping(unusable))) => {
                    self.tell_unfit(&unusable, &mapping);
                }
                // The worker meets the same error, and is interrupted by it.
                Ok(Err(Unplannable::Database(error))) => not_looked_at(&error.into()),
                Err(failure) => not_looked_at(&failure),
            }
        }
    }

    fn mapping(&mut self) -> Arc<Mapping> {
        self.wanted.borrow_and_update().clone()
    }

    fn is_current(&self, plan: &Plan, mapping: &Arc<Mapping>) -> bool {
        !self.unfit
            && self.current.as_ref().is_some_and(|(current, of)| {
                Arc::ptr_eq(of, mapping) && current.lanes == plan.lanes && current.mode == plan.mode
            })
    }

    fn take_up(&mut self, plan: Plan, mapping: Arc<Mapping>) {
        self.unfit = false;
        self.tell(plan.advice.clone());
        self.current = Some((plan, mapping));
    }

    /// Reports what was not reported before.
    fn tell(&mut self, now: Vec<String>) {
        for news in now.iter().filter(|one| !self.told.contains(*one)) {
            tracing::warn!("{news}");
        }
        self.told = now.into_iter().collect();
    }

    fn tell_unfit(&mut self, unusable: &Unusable, mapping: &Arc<Mapping>) {
        let known = self.current.as_ref().is_some_and(|(_, of)| Arc::ptr_eq(of, mapping));
        let consequence = match known {
            true => {
                "rows of this object that cannot be written are parked and retried; other rows are written"
            }
            false => "the mapping from before stays in use until this one fits",
        };
        self.unfit = true;
        let findings = unusable.findings.iter().map(|finding| finding.in_file(&unusable.file));
        self.tell(findings.map(|finding| format!("{finding}; {consequence}")).collect());
    }

    fn tell_change(&self, plan: &Plan, mapping: &Mapping) {
        let Some((before, of)) = &self.current else { return };
        let changes = changes(&before.lanes, &plan.lanes).join("; ");
        let (file, changes) = (&mapping.file, (!changes.is_empty()).then_some(changes));
        match std::ptr::eq(&**of, mapping) {
            true => tracing::info!(
                changes,
                "the tables have changed and fit the mapping; planned again"
            ),
            false => tracing::info!(file, changes, "now using this mapping"),
        }
    }
}

/// A sender that is gone changes nothing any more.
async fn changed(wanted: &mut watch::Receiver<Arc<Mapping>>) {
    if wanted.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn doubted(doubt: &Notify, not_before: Instant) {
    doubt.notified().await;
    sleep_until(not_before).await;
}

fn not_looked_at(failure: &Failure) {
    tracing::debug!(reason = %failure, "cannot check now whether the mapping still fits");
}

/// What is written differently from now on, in a few words each.
fn changes(before: &[Lane], now: &[Lane]) -> Vec<String> {
    let mut changes = Vec::new();
    for lane in before {
        let route = &lane.route;
        let name = &route.object.name;
        let Some(later) = now.iter().find(|later| later.route.object.name == *name) else {
            changes.push(format!("object {name} is gone"));
            continue;
        };
        for column in &later.route.columns {
            let field = &column.field.column;
            match route.columns.iter().find(|former| former.field.column == *field) {
                None => changes.push(format!("{name}.{field} is new")),
                Some(former)
                    if former.form != column.form || former.type_name != column.type_name =>
                {
                    let (was, is) = (
                        shape(&former.type_name, former.form),
                        shape(&column.type_name, column.form),
                    );
                    changes.push(format!("{name}.{field} was {was} and is {is}"));
                }
                Some(_) => {}
            }
        }
        let gone = route.columns.iter().map(|former| &former.field.column).filter(|former| {
            !later.route.columns.iter().any(|column| column.field.column == **former)
        });
        changes.extend(gone.map(|field| format!("{name}.{field} is gone")));
    }
    let new = now.iter().map(|lane| &lane.route.object.name);
    let new = new.filter(|name| !before.iter().any(|lane| lane.route.object.name == **name));
    changes.extend(new.map(|name| format!("object {name} is new")));
    changes
}

fn shape(type_name: &str, form: Form) -> String {
    match form {
        Form::Text(Some(length)) => format!("{type_name}({length})"),
        _ => type_name.to_string(),
    }
}
