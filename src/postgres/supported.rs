//! Which versions of PostgreSQL the program works with.
//!
//! Promise: an older server is refused in one sentence, before anything is done on it.

use std::ops::RangeInclusive;

use crate::postgres::db::Session;

/// The major versions that the tests run on. What older ones lack is listed in docs/limits.md.
pub const VERSIONS: RangeInclusive<i32> = 14..=18;

/// SQL_ASCII: such a database does not know its own encoding, so its texts cannot be converted.
const NO_ENCODING: &str = "SQL_ASCII";

const VERSION: &str = "
    select
        pg_catalog.getdatabaseencoding() as encoding,
        pg_catalog.current_database()::text as database,
        pg_catalog.current_setting('server_version_num')::int4 / 10000 as major,
        pg_catalog.split_part(pg_catalog.current_setting('server_version'), ' ', 1) as version
";

/// Why the program does not work with the server of this session. A server newer than the tested
/// ones is accepted.
pub async fn refusal(session: &Session) -> Result<Option<String>, tokio_postgres::Error> {
    let row = session.row(VERSION, &[]).await?;
    let without_encoding = || {
        let database: &str = row.get("database");
        (row.get::<_, &str>("encoding") == NO_ENCODING).then(|| {
            format!(
                "database {database} has encoding {NO_ENCODING}, which does not say what its bytes mean; move it into one \
                 with encoding UTF8 (pg_dump, createdb -E UTF8, psql)"
            )
        })
    };
    Ok(too_old(row.get("major"), row.get("version")).or_else(without_encoding))
}

/// The same for a server whose version is known: the number, and how it is called.
pub fn too_old(major: i32, version: &str) -> Option<String> {
    let (oldest, newest) = (VERSIONS.start(), VERSIONS.end());
    (major < *oldest).then(|| {
        format!("PostgreSQL {version} is too old: Schoolbell works with {oldest} to {newest}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_older_servers_are_refused() {
        let refusal = too_old(13, "13.23").unwrap();
        assert_eq!(refusal, "PostgreSQL 13.23 is too old: Schoolbell works with 14 to 18");
        assert_eq!(too_old(14, "14.23"), None);
        assert_eq!(too_old(19, "19beta1"), None);
    }
}
