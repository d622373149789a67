//! Which subscribers get our tables by logical replication without having asked for them.
//!
//! A publication for all tables, or for all of schema `schoolbell`, carries the outbox too. A subscriber that lacks
//! these tables stops at the first change, and its slot then keeps WAL on the source without end. So it is found
//! before the tables are made.

use tokio_postgres::Row;

use crate::postgres::db::Session;
use crate::postgres::name::{ident, literal};

const PUBLICATIONS: &str = include_str!("../../sql/publications.sql");
const OF_OUR_SCHEMA: &str = include_str!("../../sql/publications_schema.sql");
const SLOTS: &str = include_str!("../../sql/publication_slots.sql");
/// The server from which on a publication can name schemas.
const NAMES_SCHEMAS: &str =
    "select pg_catalog.to_regclass('pg_catalog.pg_publication_namespace') is not null";

/// A publication that carries our tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its name.
    pub name: String,
    /// How it comes to carry them, for people.
    pub how: &'static str,
    /// SQL that makes it carry everything but our tables.
    pub cure: String,
}

/// All of them, and the slots of their possible subscribers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// In the order of their names; empty: nobody gets our tables.
    pub publications: Vec<Publication>,
    /// The logical slots of this database.
    pub slots: Vec<String>,
}

impl Published {
    /// Their names, with how each comes to carry our tables.
    pub fn names(&self) -> String {
        let names = self.publications.iter().map(|publication| {
            format!("publication {} ({})", ident(&publication.name), publication.how)
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// Which subscribers may be affected, as a sentence.
    pub fn receivers(&self) -> String {
        match self.slots.as_slice() {
            [] => {
                "No logical slot of this database exists now, so nobody may be subscribed.".into()
            }
            slots => format!("Logical slots of this database: {}.", slots.join(", ")),
        }
    }
}

/// Looks which publications carry our tables, or would as soon as there are any.
pub async fn published(source: &Session) -> Result<Published, tokio_postgres::Error> {
    let names_schemas: bool = source.row(NAMES_SCHEMAS, &[]).await?.get(0);
    let of_our_schema: Vec<String> = match names_schemas {
        true => source.rows(OF_OUR_SCHEMA, &[]).await?.iter().map(|row| row.get("name")).collect(),
        false => Vec::new(),
    };
    let rows = source.rows(PUBLICATIONS, &[&of_our_schema]).await?;
    let publications: Vec<Publication> =
        rows.iter().map(|row| publication(row, names_schemas)).collect();
    if publications.is_empty() {
        return Ok(Published::default());
    }
    let slots = source.rows(SLOTS, &[]).await?;
    Ok(Published { publications, slots: slots.iter().map(|row| row.get("name")).collect() })
}

fn publication(row: &Row, names_schemas: bool) -> Publication {
    let name: String = row.get("name");
    let our_tables: Vec<String> = row.get("our_tables");
    let (how, cure) = if row.get("all_tables") {
        ("for all tables", instead_of_all_tables(&name, row, names_schemas))
    } else {
        let publication = ident(&name);
        let mut statements = Vec::new();
        if row.get("our_schema") {
            statements
                .push(format!("alter publication {publication} drop tables in schema schoolbell;"));
        }
        if !our_tables.is_empty() {
            let tables: Vec<String> =
                our_tables.iter().map(|table| format!("schoolbell.{}", ident(table))).collect();
            statements
                .push(format!("alter publication {publication} drop table {};", tables.join(", ")));
        }
        let how = match row.get("our_schema") {
            true => "for tables in schema schoolbell",
            false => "for tables of schema schoolbell",
        };
        (how, statements.join(" "))
    };
    Publication { name, how, cure }
}

/// A publication for all tables cannot leave some out, so it is made again with a list of tables.
/// In one transaction, so no subscriber sees it missing.
fn instead_of_all_tables(name: &str, row: &Row, names_schemas: bool) -> String {
    let schemas: Vec<String> = row.get("other_schemas");
    let tables: Vec<String> = row.get("other_tables");
    let of = match (names_schemas, tables.is_empty()) {
        (_, true) => String::new(),
        (true, false) => {
            let schemas: Vec<String> = schemas.iter().map(|schema| ident(schema)).collect();
            format!(" for tables in schema {}", schemas.join(", "))
        }
        (false, false) => format!(" for table {}", tables.join(", ")),
    };
    let mut settings = vec![format!("publish = {}", literal(row.get("operations")))];
    if row.get("via_root") {
        settings.push("publish_via_partition_root = true".into());
    }
    if row.get("stored_columns") {
        settings.push("publish_generated_columns = stored".into());
    }
    let name = ident(name);
    format!(
        "begin; drop publication {name}; create publication {name}{of} with ({}); commit;",
        settings.join(", ")
    )
}
