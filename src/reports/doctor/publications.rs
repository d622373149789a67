//! Whether somebody gets our tables by logical replication.

use super::report::{Diagnosis, Place};
use super::side::{Hindrance, Side};
use crate::capture::publication;

/// It costs decoding, takes keys to another database, and stops a subscriber that lacks the tables.
pub(super) async fn check(source: &Side) -> Result<Diagnosis, Hindrance> {
    let published = source.ask(publication::published).await?;
    if published.publications.is_empty() {
        return Ok(Diagnosis::ok("none carries the tables of schema schoolbell"));
    }
    let found = format!(
        "{} carries the tables of schema schoolbell: a subscriber that lacks them stops, and keys leave this database. {}",
        published.names(),
        published.receivers()
    );
    let cures = published.publications.into_iter().map(|publication| publication.cure);
    Ok(Diagnosis::advice(found)
        .say(
            "a subscriber that has stopped needs the tables, empty and without triggers: `schoolbell migrate --dry-run \
             --tables-only | psql SUBSCRIBER_URL`; then let the publication carry everything but schema schoolbell:",
        )
        .sql(Place::Source, cures))
}
