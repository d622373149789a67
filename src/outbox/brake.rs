//! The brake on deletions: how many target rows of an object were deleted lately, and whether more may be.
//!
//! Promise: rows are noted before they are deleted. So neither a crash nor any number of short runs
//! deletes more of them than the mapping allows. Sole owner of `schoolbell.deletion`.

use crate::mapping::Object;
use crate::postgres::db::Session;
use crate::postgres::failure::Failure;

const NOTE: &str = include_str!("../../sql/brake_note.sql");

const CORRECT: &str = include_str!("../../sql/brake_correct.sql");

/// Notes that this many rows of an object are about to be deleted, and how many the target has;
/// returns the number of the note. None: they must not be deleted; so it is, too, while keys of an
/// object among `held_by` are held.
pub async fn note(
    source: &Session,
    object: &Object,
    rows: i64,
    standing: i64,
    held_by: &[&str],
) -> Result<Option<i64>, Failure> {
    let brake = object.brake;
    let (within, at_most) = (brake.within.as_secs_f64(), i64::from(brake.rows));
    let noted = source
        .rows(NOTE, &[&object.name, &rows, &standing, &within, &at_most, &brake.share, &held_by])
        .await?;
    Ok(noted.first().map(|row| row.get("id")))
}

/// Only this many rows of a note were deleted.
pub async fn correct(source: &Session, note: i64, deleted: i64) -> Result<(), Failure> {
    source.execute(CORRECT, &[&note, &deleted]).await?;
    Ok(())
}
