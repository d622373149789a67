//! The mapping that the triggers were last installed for.
//!
//! Promise: it is noted when everything was installed, so a `migrate` that follows an interrupted one says the same. Sole
//! owner of `schoolbell.mapping`.

use jiff::Timestamp;

use crate::mapping::{Mapping, Unusable};
use crate::postgres::db::Session;
use crate::postgres::name::{literal, literal_of_lines};
use crate::postgres::template::fill;

const LAST: &str = include_str!("../../sql/mapping_last.sql");
const STORE: &str = include_str!("../../sql/mapping_store.sql");

/// A mapping as it was noted.
#[derive(Debug, Clone)]
pub struct Migrated {
    /// Where it was read from.
    pub file: String,
    /// Its text.
    pub content: String,
    /// When.
    pub migrated_at: Timestamp,
}

impl Migrated {
    /// Whether it is this one, to the letter.
    pub fn is(&self, mapping: &Mapping) -> bool {
        self.file == mapping.file && self.content == mapping.text
    }

    /// The mapping, if this program can read it.
    pub fn mapping(&self) -> Result<Mapping, Unusable> {
        Mapping::parse(&self.file, &self.content)
    }
}

/// The last one; none before the first `migrate`, or when that was an older program's.
pub async fn last(source: &Session) -> Result<Option<Migrated>, tokio_postgres::Error> {
    let there: bool = source
        .row("select pg_catalog.to_regclass('schoolbell.mapping') is not null", &[])
        .await?
        .get(0);
    if !there {
        return Ok(None);
    }
    let rows = source.rows(LAST, &[]).await?;
    Ok(rows.first().map(|row| Migrated {
        file: row.get("file"),
        content: row.get("content"),
        migrated_at: row.get("migrated_at"),
    }))
}

/// The statement that notes it. It is shown by a dry run, so the values are literals.
pub fn store(mapping: &Mapping) -> String {
    let (file, content) = (literal(&mapping.file), literal_of_lines(&mapping.text));
    fill(STORE, &[("{file}", &file), ("{content}", &content)])
}
