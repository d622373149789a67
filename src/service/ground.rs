//! What the work is based on: both databases, and the mapping planned against them.
//!
//! Promise: every obstacle is found and named here, before a row is touched.

use std::fmt;
use std::sync::Arc;

use crate::capture::NotifyMode;
use crate::capture::deviation::{Deviation, deviations};
use crate::capture::installation;
use crate::capture::schema;
use crate::capture::trigger;
use crate::config::Config;
use crate::mapping::Mapping;
use crate::outbox::pairing::Mismatch;
use crate::plan::Captured;
use crate::plan::{self, Route, Unplannable};
use crate::postgres::db::{Database, Evaluator, Session};
use crate::postgres::failure::{self, Failure};
use crate::postgres::supported;
use crate::postgres::url::UnusableSetting;
use crate::worker::Lane;

/// Why the service could not start, or cannot continue.
#[derive(Debug)]
pub enum Fatal {
    /// A setting is wrong.
    Setting(UnusableSetting),
    /// The schema is missing, older, or newer: the remedy.
    Schema(String),
    /// The mapping does not fit the databases.
    Plan(Unplannable),
    /// A database could not be reached at the start.
    Unreachable {
        /// Which one, and where.
        database: String,
        /// Why.
        reason: String,
    },
    /// A server lacks what the program needs.
    TooOld {
        /// Which one, and where.
        database: String,
        /// Its version, and which ones will do.
        reason: String,
    },
    /// A pooler is in front of the target, where the writer's lock needs a session.
    PooledTarget {
        /// Which database, and where.
        database: String,
    },
    /// The databases do not belong together.
    Unpaired(Mismatch),
    /// A database refuses something that a drain cannot do without; a service would wait until it is fixed.
    Refused(Failure),
    /// A task of ours ended, which none may do by itself.
    TaskEnded(String),
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(unusable) => unusable.fmt(f),
            Self::Schema(remedy) => f.write_str(remedy),
            Self::Plan(unplannable) => unplannable.fmt(f),
            Self::Unreachable { database, reason } | Self::TooOld { database, reason } => {
                write!(f, "cannot use {database}: {reason}")
            }
            Self::PooledTarget { database } => write!(
                f,
                "cannot write to {database} through a pooler: the writer's lock belongs to a session; give it a direct \
                 connection in SALESFORCE_CONNECT_URL or --target-url"
            ),
            Self::Unpaired(mismatch) => mismatch.fmt(f),
            Self::Refused(failure) => write!(f, "cannot continue: {failure}"),
            Self::TaskEnded(what) => write!(f, "internal: {what}; please report this"),
        }
    }
}

impl std::error::Error for Fatal {}

impl From<UnusableSetting> for Fatal {
    fn from(unusable: UnusableSetting) -> Self {
        Self::Setting(unusable)
    }
}

/// Both databases, checked against the mapping.
#[derive(Clone)]
pub struct Ground {
    /// The source, for listening.
    pub source: Database,
    /// The target.
    pub target: Database,
    /// A pooler is in front of the source: no notice is heard through it.
    pub pooled: bool,
    /// The mapping, planned.
    pub plan: Plan,
}

/// A mapping, planned for two databases.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The objects with their statements, parents first.
    pub lanes: Arc<Vec<Lane>>,
    /// When the installed triggers ring.
    pub mode: NotifyMode,
    /// The captured tables, with the columns that matter.
    pub captured: Captured,
    /// Advice: it does not hinder the work.
    pub advice: Vec<String>,
}

/// Both databases, after the checks.
pub(super) struct BothReached {
    source: Database,
    target: Database,
    source_session: Session,
    evaluator: Evaluator,
    target_session: Session,
}

impl Ground {
    /// Connects to both databases and checks schema, mapping and triggers.
    pub async fn check(config: &Config, mapping: &Mapping) -> Result<Self, Fatal> {
        let reached = BothReached::both(config).await?;
        let plan = reached.plan(mapping).await?;
        Ok(reached.ground(plan))
    }

    /// The routes, parents first.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.plan.lanes.iter().map(|lane| &lane.route)
    }
}

impl BothReached {
    /// Connects to both.
    pub(super) async fn both(config: &Config) -> Result<Self, Fatal> {
        let source = Database::new(config.source.clone(), "service")?;
        let target = Database::new(config.target.clone(), "service")?;
        let source_name = format!("the source database ({})", config.source);
        let target_name = format!("the target database ({})", config.target);
        let source_session = primary(&source, &source_name).await?;
        let version = schema::version(&source_session)
            .await
            .map_err(|error| unreachable(&source_name, &error))?;
        if let Some(remedy) = version.refusal() {
            return Err(Fatal::Schema(remedy));
        }
        let evaluator = source.evaluator().await.map_err(|failure| Fatal::Unreachable {
            database: source_name.clone(),
            reason: failure.to_string(),
        })?;
        let target_session = primary(&target, &target_name).await?;
        if target_session.is_pooled() {
            return Err(Fatal::PooledTarget { database: target_name });
        }
        Ok(Self { source, target, source_session, evaluator, target_session })
    }

    pub(super) async fn plan(&self, mapping: &Mapping) -> Result<Plan, Fatal> {
        let source = (&self.source_session, &self.evaluator);
        Plan::make(source, &self.target_session, mapping).await.map_err(Fatal::Plan)
    }

    pub(super) fn ground(self, plan: Plan) -> Ground {
        let pooled = self.source_session.is_pooled();
        Ground { source: self.source, target: self.target, pooled, plan }
    }
}

impl Plan {
    /// Holds the mapping against both catalogues and the installed triggers.
    pub async fn make(
        (source, evaluator): (&Session, &Evaluator),
        target: &Session,
        mapping: &Mapping,
    ) -> Result<Self, Unplannable> {
        // On the heap: this future is large, and is part of every start.
        let source_side = Box::pin(plan::source_side(source, evaluator, mapping)).await?;
        let (routes, findings) =
            Box::pin(plan::routes(&source_side, source, target, mapping)).await?;
        let mut advice: Vec<String> = findings.iter().map(ToString::to_string).collect();
        let mode = installation::notify_mode(source).await?.unwrap_or(NotifyMode::Doorbell);
        let wanted = trigger::render(&source_side.captures, mode);
        let deviations = deviations(source, &wanted).await?;
        advice.extend(deviations.iter().map(Deviation::with_advice));
        let lanes = Arc::new(routes.into_iter().map(Lane::new).collect());
        let captured = source_side.captured();
        Ok(Self { lanes, mode, captured, advice })
    }
}

/// Opens a session on a server that can be written; after a failover the old address may be a standby.
async fn primary(database: &Database, name: &str) -> Result<Session, Fatal> {
    let session = database.session().await.map_err(|failure| Fatal::Unreachable {
        database: name.into(),
        reason: failure.to_string(),
    })?;
    let in_recovery = session
        .row("select pg_catalog.pg_is_in_recovery()", &[])
        .await
        .map_err(|error| unreachable(name, &error))?;
    if in_recovery.get(0) {
        return Err(Fatal::Unreachable {
            database: name.into(),
            reason: "it is a standby in recovery; the URL must lead to the primary".into(),
        });
    }
    match supported::refusal(&session).await.map_err(|error| unreachable(name, &error))? {
        Some(reason) => Err(Fatal::TooOld { database: name.into(), reason }),
        None => Ok(session),
    }
}

fn unreachable(name: &str, error: &tokio_postgres::Error) -> Fatal {
    Fatal::Unreachable { database: name.into(), reason: failure::chain(error) }
}
