//! The outbox: claims changes in the order of their transactions, acknowledges what was applied.
//!
//! Promise: every committed change is claimed once per pass, however its transaction overlapped others;
//! claiming never starts over at what was already read. Sole owner of `schoolbell.change`.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use crate::mapping::Object;
use crate::outbox::pairing::DatabaseId;
use crate::outbox::parked::Parking;
use crate::postgres::db::{Parameter, Session, Transaction};
use crate::postgres::failure::Failure;
use crate::postgres::name::{TableName, literal};

const CLAIM: &str = include_str!("../../sql/claim.sql");
const ACKNOWLEDGE: &str = include_str!("../../sql/acknowledge.sql");
const IN_FLIGHT: &str = include_str!("../../sql/change_in_flight.sql");
const TOUCHING: &str = include_str!("../../sql/change_touching.sql");
/// Each may touch many rows, and all of them are asked for at once.
const MOST_TOUCHING: i64 = 10_000;
const PENDING: &str = include_str!("../../sql/pending.sql");
const PENDING_OF: &str = include_str!("../../sql/change_pending_of.sql");
const ORPHANED: &str = include_str!("../../sql/change_orphaned.sql");

/// One captured change.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its name in the outbox.
    pub id: ChangeId,
    /// When its statement began.
    pub changed_at: Timestamp,
    /// The table, plain.
    pub table: String,
    /// The one object it is for, or all that are read from the table.
    pub concerns: Option<String>,
    /// The recorded key columns as a JSON object; none: the table was truncated.
    pub keys: Option<String>,
}

/// The primary key of the outbox: transactions in order of their beginning, then the order within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeId {
    /// The transaction (64 bits: it does not wrap).
    pub xact: u64,
    /// The order within it.
    pub id: i64,
}

/// How far the outbox has been read.
///
/// Transactions commit in another order than they begin, so a position alone would pass over the slow
/// ones. Those that were running when the position passed them are kept by name and asked for again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    after: Option<ChangeId>,
    /// Transactions below the position that were running when it passed, with the last id read of each.
    running: BTreeMap<u64, i64>,
    /// When the server started whose transactions these are.
    server: Option<String>,
}

/// What `pg_current_snapshot()` says: which transactions a statement could see.
#[derive(Debug, PartialEq, Eq)]
struct Snapshot {
    /// The first transaction that had not begun.
    next: u64,
    /// Those that were running.
    running: Vec<u64>,
}

/// Before the first change of a transaction: identities begin at 1.
const BEFORE_FIRST: i64 = 0;

impl Position {
    /// The last change that was read, for the claim's parameters.
    fn after(&self) -> ChangeId {
        self.after.unwrap_or(ChangeId { xact: 0, id: BEFORE_FIRST })
    }

    /// Moves on by what one claim saw. `late` and `fresh` are the ids it returned, in their order.
    fn advance(
        &mut self,
        snapshot: &Snapshot,
        late: &[ChangeId],
        fresh: &[ChangeId],
        limit: usize,
    ) {
        for change in late {
            self.running.insert(change.xact, change.id);
        }
        if late.len() < limit {
            // All their visible changes were read; a transaction that has ended makes no more.
            self.running.retain(|xact, _| snapshot.running.contains(xact));
        }
        let before = self.after().xact;
        let now = match fresh.last() {
            Some(&last) if fresh.len() >= limit => last,
            // Everything that the snapshot saw was read.
            _ => ChangeId { xact: snapshot.next.saturating_sub(1), id: i64::MAX },
        };
        // A restored outbox may hold transaction ids that this server has not reached yet. These
        // changes are claimed again until they are acknowledged; a position ahead of the server
        // would pass over new changes.
        let now = now.min(ChangeId { xact: snapshot.next.saturating_sub(1), id: i64::MAX });
        for &xact in &snapshot.running {
            if xact >= before && xact <= now.xact {
                self.running.entry(xact).or_insert(BEFORE_FIRST);
            }
        }
        self.after = Some(now);
    }
}

impl Snapshot {
    /// Reads `xmin:xmax:xip,xip,…`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let _oldest = parts.next()?;
        let next = parts.next()?.parse().ok()?;
        let running = parts.next()?.split(',').filter(|xact| !xact.is_empty());
        Some(Self { next, running: running.map(|xact| xact.parse().ok()).collect::<Option<_>>()? })
    }
}

/// Claims at most twice `limit` changes (late ones and fresh ones) and moves the position past them. Returns
/// `None`, and leaves the position alone, if several of them have more than this many bytes together.
pub async fn claim(
    source: &Session,
    bytes: usize,
    position: &mut Position,
    limit: i64,
) -> Result<Option<Vec<Change>>, Failure> {
    let running: Vec<String> = position.running.keys().map(u64::to_string).collect();
    let after_ids: Vec<i64> = position.running.values().copied().collect();
    let after = position.after();
    let xact = after.xact.to_string();
    let parameters: [&dyn Parameter; 5] = [&running, &after_ids, &xact, &after.id, &limit];
    let Some(rows) = source.rows_within(bytes, CLAIM, &parameters).await? else {
        return Ok(None);
    };
    let snapshot = rows.first().map(|row| row.get::<_, &str>("snapshot")).and_then(Snapshot::parse);
    let Some(snapshot) = snapshot else {
        return Err(Failure::Reconnect("the source did not tell its snapshot".into()));
    };
    let server: String = rows[0].get("server");
    if position.server.get_or_insert_with(|| server.clone()) != &server {
        return Err(Failure::Reconnect("the source was restarted behind this connection".into()));
    }
    let (mut late, mut fresh, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let Some(is_fresh) = row.get::<_, Option<bool>>("fresh") else { continue };
        let xact = row.get::<_, &str>("xact").parse().expect("Postgres writes an xid8 as a number");
        let id = ChangeId { xact, id: row.get("id") };
        if is_fresh { &mut fresh } else { &mut late }.push(id);
        changes.push(Change {
            id,
            changed_at: row.get("changed_at"),
            table: row.get("source_table"),
            concerns: row.get("concerns"),
            keys: row.get("keys"),
        });
    }
    // A union does not promise its order.
    late.sort_unstable();
    fresh.sort_unstable();
    position.advance(&snapshot, &late, &fresh, usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Some(changes))
}

/// Deletes exactly these changes, frees the keys that are done and parks the others, in one
/// statement. Fails, and the transaction must not be committed, when another target was adopted
/// meanwhile.
pub async fn acknowledge(
    source: &Transaction<'_>,
    changes: &[ChangeId],
    done: &[(&str, &str)],
    parking: &[Parking],
    target: &DatabaseId,
) -> Result<(), Failure> {
    let xacts: Vec<String> = changes.iter().map(|change| change.xact.to_string()).collect();
    let ids: Vec<i64> = changes.iter().map(|change| change.id).collect();
    let (objects, keys): (Vec<&str>, Vec<&str>) = done.iter().copied().unzip();
    let strings = |of: fn(&Parking) -> &str| parking.iter().map(of).collect::<Vec<_>>();
    let options = |of: fn(&Parking) -> Option<&str>| parking.iter().map(of).collect::<Vec<_>>();
    let retry_seconds: Vec<i32> = parking.iter().map(|parking| parking.retry_seconds).collect();
    let held: Vec<bool> = parking.iter().map(|parking| parking.held).collect();
    let row = source
        .row(
            ACKNOWLEDGE,
            &[
                &xacts,
                &ids,
                &objects,
                &keys,
                &strings(|parking| &parking.object),
                &strings(|parking| &parking.key),
                &strings(|parking| parking.state),
                &options(|parking| parking.awaits.as_deref()),
                &options(|parking| parking.awaits_key.as_deref()),
                &strings(|parking| &parking.reason),
                &options(|parking| parking.sqlstate.as_deref()),
                &options(|parking| parking.remedy),
                &held,
                &target.system,
                &target.database,
                &retry_seconds,
            ],
        )
        .await?;
    match row.get("paired") {
        true => Ok(()),
        false => {
            Err(Failure::Reconnect("the source's changes were adopted for another target".into()))
        }
    }
}

/// How many changes are not acknowledged, and since when the oldest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Changes in the outbox.
    pub changes: i64,
    /// When the oldest of them was made.
    pub oldest: Option<Timestamp>,
}

/// Counts the outbox. Reads all of it: for reports, not for the loop.
pub async fn pending(source: &Session) -> Result<Pending, tokio_postgres::Error> {
    let row = source.row(PENDING, &[]).await?;
    Ok(Pending { changes: row.get("changes"), oldest: row.get("oldest") })
}

/// Counts the changes of one row of an object.
pub async fn pending_of(
    source: &Session,
    object: &Object,
    key: &str,
) -> Result<Pending, tokio_postgres::Error> {
    let table = object.source.plain();
    let row = source.row(PENDING_OF, &[&object.name, &table, &object.key, &key]).await?;
    Ok(Pending { changes: row.get("changes"), oldest: row.get("oldest") })
}

/// Counts the changes that would never be claimed without an object; `alone`: no other object is
/// read from its table.
pub async fn orphaned(
    source: &Session,
    object: &str,
    table: &TableName,
    alone: bool,
) -> Result<i64, tokio_postgres::Error> {
    Ok(source.row(ORPHANED, &[&object, &table.plain(), &alone]).await?.get(0))
}

/// The statement, for a human, that deletes them.
pub fn forget(object: &str, table: &TableName, alone: bool) -> String {
    let own = format!("concerns = {}", literal(object));
    let table = literal(&table.plain());
    let all = match alone {
        true => format!("{own} or concerns is null and source_table = {table}"),
        false => own,
    };
    format!("delete from schoolbell.change where {all}")
}

/// Which keys of an object are about to be looked at.
#[derive(Debug)]
pub enum InFlight {
    /// All of them: the table was truncated.
    All,
    /// These.
    Keys(HashSet<String>),
}

impl InFlight {
    /// Whether this key is.
    pub fn has(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Keys(keys) => keys.contains(key),
        }
    }
}

/// Which of these keys of an object have a change of their own row that is not acknowledged.
pub async fn in_flight(
    source: &Session,
    object: &Object,
    keys: &[String],
) -> Result<InFlight, Failure> {
    let table = object.source.plain();
    let rows = source.rows(IN_FLIGHT, &[&object.name, &table, &object.key, &keys]).await?;
    let keys: Option<HashSet<String>> = rows.iter().map(|row| row.get("key")).collect();
    Ok(keys.map_or(InFlight::All, InFlight::Keys))
}

/// The recorded keys (JSON) of an object's changes in a table that touches it and that are not
/// acknowledged. None when every row may be touched: the table was truncated, or there are too many
/// changes to look at each.
pub async fn touching(
    source: &Session,
    object: &str,
    table: &str,
) -> Result<Option<Vec<String>>, tokio_postgres::Error> {
    let rows = source.rows(TOUCHING, &[&object, &table, &MOST_TOUCHING]).await?;
    let all_are_there = (rows.len() as i64) < MOST_TOUCHING;
    Ok(rows.iter().map(|row| row.get("keys")).collect::<Option<_>>().filter(|_| all_are_there))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(xact: u64, id: i64) -> ChangeId {
        ChangeId { xact, id }
    }

    fn snapshot(text: &str) -> Snapshot {
        Snapshot::parse(text).expect("a snapshot")
    }

    #[test]
    fn a_snapshot_is_read_with_and_without_running_transactions() {
        assert_eq!(snapshot("10:10:"), Snapshot { next: 10, running: vec![] });
        assert_eq!(snapshot("5:9:5,7"), Snapshot { next: 9, running: vec![5, 7] });
        assert_eq!(Snapshot::parse("nonsense"), None);
    }

    #[test]
    fn a_transaction_that_was_running_is_asked_for_until_it_has_ended() {
        let mut position = Position::default();

        position.advance(&snapshot("5:9:5,7"), &[], &[id(6, 1), id(8, 2)], 10);
        assert_eq!(position.after, Some(id(8, i64::MAX)));
        assert_eq!(position.running, BTreeMap::from([(5, 0), (7, 0)]));

        // 7 ended without a change, 5 committed two, of which all were read.
        position.advance(&snapshot("9:9:"), &[id(5, 3), id(5, 4)], &[], 10);
        assert!(position.running.is_empty());
    }

    #[test]
    fn a_late_transaction_larger_than_a_claim_is_read_in_parts() {
        let mut position = Position::default();
        position.advance(&snapshot("5:9:5"), &[], &[], 2);
        position.advance(&snapshot("9:9:"), &[id(5, 1), id(5, 2)], &[], 2);
        assert_eq!(position.running, BTreeMap::from([(5, 2)]));
        position.advance(&snapshot("9:9:"), &[id(5, 3)], &[], 2);
        assert!(position.running.is_empty());
    }

    #[test]
    fn a_full_claim_stops_at_its_last_change_and_remembers_who_ran_below() {
        let mut position = Position::default();
        position.advance(&snapshot("5:20:5,15"), &[], &[id(6, 1), id(8, 2)], 2);
        assert_eq!(position.after, Some(id(8, 2)));
        assert_eq!(position.running, BTreeMap::from([(5, 0)]), "15 lies ahead and is met later");
    }

    #[test]
    fn a_position_without_news_stays_where_it_is() {
        let mut position = Position::default();
        position.advance(&snapshot("9:9:"), &[], &[], 10);
        let before = position.clone();
        position.advance(&snapshot("9:9:"), &[], &[], 10);
        assert_eq!(position, before);
    }

    #[test]
    fn restored_changes_from_a_server_that_was_further_do_not_carry_the_position_away() {
        let mut position = Position::default();
        position.advance(&snapshot("9:9:"), &[], &[id(5_000_000, 1), id(5_000_000, 2)], 2);
        assert_eq!(position.after, Some(id(8, i64::MAX)));
    }
}
