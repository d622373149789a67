//! Tables as a session's role sees them: whether it owns them, and whether it sees every row.

use super::side::{Hindrance, Side};
use crate::postgres::name::TableName;

const TABLES: &str = include_str!("../../../sql/doctor_tables.sql");

/// A table that is there.
pub(super) struct TableAccess {
    pub name: TableName,
    /// It belongs to the role, or to one that it is a member of.
    pub is_owner: bool,
    /// It has row security.
    pub has_policies: bool,
    /// And that applies to the role.
    pub hides_rows: bool,
}

/// Those of the tables that are there.
pub(super) async fn read(side: &Side, names: &[&TableName]) -> Result<Vec<TableAccess>, Hindrance> {
    let (schemas, tables) = texts(names);
    let rows = side.ask(async |session| session.rows(TABLES, &[&schemas, &tables]).await).await?;
    Ok(rows
        .iter()
        .map(|row| TableAccess {
            name: TableName { schema: row.get("schema"), table: row.get("name") },
            is_owner: row.get("is_owner"),
            has_policies: row.get("has_policies"),
            hides_rows: row.get("hides_rows"),
        })
        .collect())
}

/// Names as two parameters.
pub(super) fn texts<'a>(names: &[&'a TableName]) -> (Vec<&'a str>, Vec<&'a str>) {
    let schemas = names.iter().map(|name| name.schema.as_str());
    (schemas.collect(), names.iter().map(|name| name.table.as_str()).collect())
}
