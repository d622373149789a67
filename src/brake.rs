//! The brake on deletions: how many target rows of an object were deleted lately, and whether more may be.
//!
//! Promise: rows are noted before they are deleted. So neither a crash nor any number of short runs lets more of them
//! go than the mapping allows. Sole owner of `schoolbell.deletion`.

use crate::db::Session;
use crate::failure::Failure;
use crate::mapping::Object;

const NOTE: &str = include_str!("../sql/brake_note.sql");

/// Notes that so many rows of an object are about to be deleted, of so many that stand in the target. False: they must
/// not be, and nothing is noted; that is the case, too, while keys of an object among `held_by` are held.
pub async fn note(
    source: &Session,
    object: &Object,
    rows: i64,
    standing: i64,
    held_by: &[&str],
) -> Result<bool, Failure> {
    let brake = object.brake;
    let (within, at_most) = (brake.within.as_secs_f64(), i64::from(brake.rows));
    let noted = source
        .row(NOTE, &[&object.name, &rows, &standing, &within, &at_most, &brake.share, &held_by])
        .await?;
    Ok(noted.get("passes"))
}
