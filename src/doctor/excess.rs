//! Checks of the rights that the service does not need: what it may not do, no mistake can make it do.
//!
//! Where a single role does everything, as the smallest plans have it, it owns the tables. That is said, and is no
//! reason for advice.

use super::mapping_fit::Fit;
use super::report::Diagnosis;
use super::side::{Facts, Hindrance, Side};
use crate::mapping::OnDelete;
use crate::name::{TableName, ident};

const EXCESS: &str = include_str!("../../sql/doctor_excess.sql");
const OWNED: &str = include_str!("../../sql/doctor_owned.sql");

/// A table, and what nobody needs of it.
struct Spare {
    table: TableName,
    privileges: Vec<&'static str>,
}

/// The source's tables are read, and never written.
pub(super) async fn source(source: &Side, fit: &Fit<'_>) -> Result<Diagnosis, Hindrance> {
    let written = vec!["insert", "update", "delete", "truncate", "trigger"];
    let captured = fit.source_side()?.captures.iter().map(|capture| &capture.table);
    let mut spares: Vec<Spare> =
        captured.map(|table| Spare { table: table.clone(), privileges: written.clone() }).collect();
    // The triggers write the outbox with their owner's rights.
    let outbox = TableName { schema: "schoolbell".into(), table: "change".into() };
    spares
        .push(Spare { table: outbox, privileges: vec!["insert", "update", "truncate", "trigger"] });
    check(source, &spares).await
}

/// The target's tables are never emptied, and rows deleted only where the mapping says so.
pub(super) async fn target(target: &Side, fit: &Fit<'_>) -> Result<Diagnosis, Hindrance> {
    let mut spares: Vec<Spare> = Vec::new();
    for object in &fit.mapping.objects {
        let of_table = || fit.mapping.objects.iter().filter(|other| other.target == object.target);
        let mut privileges = vec!["truncate", "trigger"];
        if of_table().all(|other| other.update_only) {
            privileges.push("insert");
        }
        if of_table().all(|other| other.on_delete == OnDelete::Keep) {
            privileges.push("delete");
        }
        spares.push(Spare { table: object.target.clone(), privileges });
    }
    check(target, &spares).await
}

async fn check(side: &Side, spares: &[Spare]) -> Result<Diagnosis, Hindrance> {
    let facts = side.facts()?;
    let role = &facts.role;
    if facts.is_superuser {
        // Every right follows from that. Nothing to paste: it may be the only superuser.
        return Ok(Diagnosis::advice(format!("{role} is a superuser")).say(
            "let the service have a role of its own, with the grants of \"Roles and grants\" in the README",
        ));
    }
    let schemas: Vec<&str> = spares.iter().map(|spare| spare.table.schema.as_str()).collect();
    let tables: Vec<&str> = spares.iter().map(|spare| spare.table.table.as_str()).collect();
    let granted =
        side.ask(async |session| session.rows(EXCESS, &[&schemas, &tables]).await).await?;
    let owned = side.ask(async |session| session.row(OWNED, &[&schemas, &tables]).await).await?;
    let (mut revokes, mut may) = (attributes(facts), facts.attributes.clone());
    for row in &granted {
        let table = TableName { schema: row.get("schema"), table: row.get("name") };
        let privilege: &str = row.get("privilege");
        let needless =
            |spare: &Spare| spare.table == table && spare.privileges.contains(&privilege);
        if !spares.iter().any(needless) {
            continue;
        }
        let grantee: Option<&str> = row.get("grantee");
        let from = grantee.map_or("public".to_string(), ident);
        let (revoke, what) = (
            format!("revoke {privilege} on {table} from {from};"),
            format!("{privilege} on {}", table.plain()),
        );
        if !revokes.contains(&revoke) {
            revokes.push(revoke);
            may.push(what);
        }
    }
    if may.is_empty() {
        return Ok(Diagnosis::ok(match owned.get::<_, Option<String>>(0) {
            None => "none".to_string(),
            Some(tables) => format!("{role} owns {tables}; the service could have a smaller role"),
        }));
    }
    may.dedup();
    Ok(Diagnosis::advice(format!("{role} has without need: {}", may.join(", ")))
        .sql(side.place, revokes))
}

/// The statements that take the role's needless attributes away.
fn attributes(facts: &Facts) -> Vec<String> {
    let role = ident(&facts.role);
    facts.attributes.iter().map(|attribute| format!("alter role {role} no{attribute};")).collect()
}
