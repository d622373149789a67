//! Compares the source, seen through the mapping, with the target, and reports which keys are
//! missing, differ or are left over.
//!
//! Promise: it writes nothing; its memory does not grow with the tables; and a key whose change is on its way, or
//! that is parked, is counted as such and not reported as wrong.
//!
//! Both sides are read in the order of the external ids, of each row only a print of its values. Keys whose prints
//! differ are looked at again, until they are right or nothing on its way explains the difference; only then are their
//! values read.

use crate::outbox::verified::Comparison;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::plan::Route;
use crate::postgres::db::{Evaluator, Session};
use crate::postgres::failure::Failure;
use crate::postgres::template::RenderedStatement;

mod judge;
mod merge;
mod rounds;
mod second;
mod statements;
mod stretches;

use judge::Judge;
use merge::Frontier;
use statements::ComparisonSql;

pub use rounds::keep_verifying;

/// One key that is not as it should be.
#[derive(Debug, Clone, Serialize)]
pub struct RowFinding {
    /// The object.
    pub object: String,
    /// The key; of a row that the source does not have, its external id.
    pub key: String,
    /// What is wrong.
    #[serde(flatten)]
    pub what: What,
}

/// What is wrong with a key.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// The target has no row.
    Missing,
    /// The rows differ.
    Differing {
        /// Their columns that differ.
        columns: Vec<ColumnDifference>,
    },
    /// The source publishes no such row, and `on_delete` says that the target should not have it either.
    Unexpected,
    /// The source publishes no such row, and it stays, as `on_delete` says. Nothing is to be fixed.
    Kept,
    /// The source refuses to compute what the mapping says of its row.
    Unreadable {
        /// The database's message, without the row's contents.
        reason: String,
    },
}

/// A column with what either side has.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnDifference {
    /// The target's column.
    pub column: String,
    /// What the mapping makes of the source's row.
    pub source: Option<String>,
    /// What the target has, in the form in which it is compared.
    pub target: Option<String>,
}

fn count(compared: &mut Comparison, what: &What) {
    *match what {
        What::Kept => &mut compared.kept,
        What::Missing => &mut compared.missing,
        What::Differing { .. } => &mut compared.differing,
        What::Unexpected => &mut compared.unexpected,
        What::Unreadable { .. } => &mut compared.unreadable,
    } += 1;
}

/// The statements of a comparison, to be read by people.
pub fn shown(route: &Route) -> Vec<RenderedStatement> {
    ComparisonSql::new(route).shown()
}

/// The sessions of a comparison.
pub struct Sides {
    /// Holds a snapshot of the source while it is read.
    pub source: Evaluator,
    /// The same of the target.
    pub target: Session,
    /// Looks at single keys of the source.
    pub source_again: Evaluator,
    /// Looks at what is on its way and what is parked.
    pub books: Session,
    /// The same of the target.
    pub target_again: Session,
}

/// What is compared.
#[derive(Debug, Clone, Copy)]
pub enum Scope {
    /// All rows.
    All,
    /// About this many of either side, at random.
    Sample(u64),
}

/// Compares the rows of an object. Each finding goes to `told`, kept rows only with `names_kept`; `progress` is called
/// with the rows read so far.
pub async fn verify(
    sides: &mut Sides,
    route: &Route,
    scope: Scope,
    names_kept: bool,
    told: mpsc::Sender<RowFinding>,
    progress: impl Fn(u64),
) -> Result<Comparison, Failure> {
    let statements = ComparisonSql::new(route);
    let Sides { source, target, source_again, books, target_again } = sides;
    let mut judge = Judge::new(source_again, books, target_again, route, &statements, told);
    judge.names_kept = names_kept;
    let (source, target) = (source.begin().await?, target.begin().await?);
    match scope {
        Scope::Sample(rows) => {
            stretches::sample(&source, &target, route, &mut judge, rows, &progress).await?;
        }
        Scope::All => {
            if let Some(frontier) =
                merge::merge(&source, &target, route, &mut judge, &progress).await?
            {
                tracing::debug!(
                    object = route.object.name,
                    "rows that cannot be read are looked for"
                );
                drop((source, target));
                let no_rest = 0;
                stretches::walk(route, &mut judge, &frontier, no_rest, &progress).await?;
            }
        }
    }
    progress(judge.verdict.rows);
    judge.settle().await?;
    let total = judge.verdict.sample_of.unwrap_or(judge.verdict.rows);
    second::look(&mut judge, route, total).await?;
    Ok(judge.verdict)
}

/// Compares all rows of an object slowly: no statement is long, and after each the sessions rest
/// for `rest` times as long.
pub async fn verify_slowly(
    source: &Evaluator,
    books: &Session,
    target: &Session,
    route: &Route,
    rest: u32,
    told: mpsc::Sender<RowFinding>,
) -> Result<Comparison, Failure> {
    let statements = ComparisonSql::new(route);
    let mut judge = Judge::new(source, books, target, route, &statements, told);
    stretches::walk(route, &mut judge, &Frontier::default(), rest, &|_| ()).await?;
    judge.settle().await?;
    let total = judge.verdict.rows;
    second::look(&mut judge, route, total).await?;
    Ok(judge.verdict)
}

/// How many rows the source publishes of an object, as far as the planner knows.
pub async fn estimate(source: &Evaluator, route: &Route) -> Result<u64, Failure> {
    let explained = source.row(&ComparisonSql::new(route).estimate, &[]).await?;
    Ok(stretches::expected(&explained))
}
