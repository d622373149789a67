//! What a database says about a table: its columns, their types and lengths, its keys.

use tokio_postgres::types::Oid;

use crate::postgres::db::Session;
use crate::postgres::name::{self, TableName};
use crate::postgres::qualified::SqlType;

const PARTS: &str =
    concat!(include_str!("../../sql/parts_of.sql"), include_str!("../../sql/parts.sql"));
const COLUMNS: &str = include_str!("../../sql/columns.sql");
const TABLES: &str = include_str!("../../sql/tables.sql");

/// A table as the catalogue has it.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// In the order of the table.
    pub columns: Vec<Column>,
    /// Its database takes every character.
    pub is_unicode: bool,
    /// A crash of the server empties it.
    pub is_unlogged: bool,
}

/// A column as the catalogue has it.
#[derive(Debug, Clone)]
pub struct Column {
    /// Unquoted.
    pub name: String,
    /// The type's number, the same in every database for built-in types.
    pub type_oid: Oid,
    /// The type for people, without its length.
    pub type_name: String,
    /// The type for statements.
    pub sql_type: SqlType,
    /// Postgres's type category; `S` is text.
    pub category: char,
    /// The length of `varchar(n)`, in characters.
    pub max_chars: Option<i32>,
    /// Its values are written alike in every session, whatever its settings.
    pub is_steady: bool,
    /// Equal values may be written in several ways, apart from the case of letters: 1.0 and 1.00.
    pub is_written_in_several_ways: bool,
    /// It tells a time or a day.
    pub is_moment: bool,
    /// It is computed when it is read: a trigger finds nothing in it.
    pub is_virtual: bool,
    /// The columns that a generated column is computed from.
    pub computed_from: Vec<String>,
    /// An index that begins with this column finds every row by it.
    pub indexed: bool,
    /// An index that begins with this column has some of the rows.
    pub partly_indexed: bool,
    /// No two rows have the same value.
    pub unique: bool,
    /// Its place in the primary key.
    primary_key_position: Option<i32>,
}

/// The tables of a database.
pub async fn tables(client: &Session) -> Result<Vec<TableName>, tokio_postgres::Error> {
    let rows = client.rows(TABLES, &[]).await?;
    let tables =
        rows.iter().map(|row| TableName { schema: row.get("schema"), table: row.get("table") });
    Ok(tables.collect())
}

/// The existing table that was probably meant: one with a similar name, or of that name in another schema.
pub async fn nearest_table(
    client: &Session,
    wanted: &TableName,
) -> Result<Option<TableName>, tokio_postgres::Error> {
    let tables = tables(client).await?;
    let beside = tables.iter().filter(|table| table.schema == wanted.schema);
    let similar = name::nearest(&wanted.table, beside.map(|table| table.table.as_str()));
    let elsewhere = tables.iter().find(|table| table.table == wanted.table);
    Ok(match similar {
        Some(table) => Some(TableName { schema: wanted.schema.clone(), table: table.into() }),
        None => elsewhere.cloned(),
    })
}

/// A table that holds rows of another one: its partition, or its child by inheritance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub table: TableName,
    /// Triggers on rows are cloned to it; those on statements are not.
    pub is_partition: bool,
    /// Why no trigger of ours sees its changes.
    pub unseen: Option<String>,
    /// A crash of the server empties it.
    pub is_unlogged: bool,
}

/// The parts of a table, of every level.
pub async fn parts(
    client: &Session,
    table: &TableName,
) -> Result<Vec<Part>, tokio_postgres::Error> {
    let rows = client.rows(PARTS, &[&table.schema, &table.table]).await?;
    let unseen = |row: &tokio_postgres::Row| match () {
        () if !row.get::<_, bool>("has_triggers") => Some("is a foreign table".to_string()),
        () if row.get("same_owner") || row.get("is_partition") => None,
        () => Some(format!("belongs to another role, {}", row.get::<_, &str>("owner"))),
    };
    Ok(rows
        .iter()
        .map(|row| Part {
            table: TableName { schema: row.get("schema"), table: row.get("table") },
            is_partition: row.get("is_partition"),
            unseen: unseen(row),
            is_unlogged: row.get("is_unlogged"),
        })
        .collect())
}

impl Table {
    /// Reads the catalogue; `None` when there is no such table, or it is out of sight.
    pub async fn read(
        client: &Session,
        name: &TableName,
    ) -> Result<Option<Self>, tokio_postgres::Error> {
        let rows = client.rows(COLUMNS, &[&name.schema, &name.table]).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let columns = rows
            .iter()
            .map(|row| Column {
                name: row.get("name"),
                type_oid: row.get("type_oid"),
                type_name: row.get("type_name"),
                sql_type: SqlType {
                    name: row.get("type_sql"),
                    operators: row.get("operators"),
                    is_domain: row.get("is_domain"),
                    is_text: row.get::<_, &str>("category") == "S",
                    folds: row.get("folds"),
                },
                category: row.get::<_, &str>("category").chars().next().unwrap_or('X'),
                max_chars: row.get("max_chars"),
                is_steady: row.get("steady"),
                is_written_in_several_ways: row.get("is_written_in_several_ways"),
                is_moment: row.get("is_moment"),
                is_virtual: row.get("is_virtual"),
                computed_from: row.get("computed_from"),
                indexed: row.get("indexed"),
                partly_indexed: row.get("partly_indexed"),
                unique: row.get("unique_index"),
                primary_key_position: row.get("primary_key_position"),
            })
            .collect();
        let is_unicode = rows[0].get::<_, &str>("encoding") == "UTF8";
        let is_unlogged = rows[0].get("is_unlogged");
        Ok(Some(Self { name: name.clone(), columns, is_unicode, is_unlogged }))
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The columns of the primary key, in its order; none when the table has none.
    pub fn primary_key(&self) -> Vec<&Column> {
        let mut key: Vec<&Column> =
            self.columns.iter().filter(|column| column.primary_key_position.is_some()).collect();
        key.sort_by_key(|column| column.primary_key_position);
        key
    }

    /// The existing column whose name is closest, for messages about one that does not exist.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        name::nearest(name, self.columns.iter().map(|column| column.name.as_str()))
    }
}
