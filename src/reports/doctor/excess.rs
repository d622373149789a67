//! Checks of rights that the service does not need: a bug or a stolen password cannot use a right
//! that is not there.
//!
//! Where a single role does everything, as on the smallest plans, it owns the tables. That is
//! reported, but not as advice.

use std::collections::BTreeSet;

use super::mapping_fit::Fit;
use super::report::Diagnosis;
use super::side::{Hindrance, Side};
use super::table::{self, TableAccess};
use crate::postgres::name::{TableName, ident};

const MEMBERSHIPS: &str = include_str!("../../../sql/doctor_memberships.sql");
const EXCESS: &str = include_str!("../../../sql/doctor_excess.sql");

/// A table, and what nobody needs of it.
struct Spare {
    table: TableName,
    privileges: Vec<&'static str>,
}

/// The source's tables are only read.
pub(super) async fn source(source: &Side, fit: &Fit<'_>) -> Result<Diagnosis, Hindrance> {
    let written = vec!["insert", "update", "delete", "truncate", "trigger"];
    let captured = fit.source_side()?.captures.iter().map(|capture| &capture.table);
    // Rights on our own tables have a check of their own.
    let spares: Vec<Spare> =
        captured.map(|table| Spare { table: table.clone(), privileges: written.clone() }).collect();
    check(source, &spares).await
}

/// The target's tables are never emptied, and nothing is inserted or deleted where Salesforce creates the rows.
pub(super) async fn target(target: &Side, fit: &Fit<'_>) -> Result<Diagnosis, Hindrance> {
    let mut spares: Vec<Spare> = Vec::new();
    for object in &fit.mapping.objects {
        let mut privileges = vec!["truncate", "trigger"];
        // Of other tables rows are deleted where the mapping says so, and by `parked retry --failed`.
        let same = fit.mapping.objects.iter().filter(|other| other.target == object.target);
        if same.into_iter().all(|other| other.update_only) {
            privileges.extend(["insert", "delete"]);
        }
        spares.push(Spare { table: object.target.clone(), privileges });
    }
    check(target, &spares).await
}

async fn check(side: &Side, spares: &[Spare]) -> Result<Diagnosis, Hindrance> {
    let facts = side.facts()?;
    let role = &facts.role;
    if facts.is_superuser {
        // Every right follows from that. No statement to paste: it may be the only superuser.
        return Ok(Diagnosis::advice(format!("{role} is a superuser")).say(
            "let the service have a role of its own, with the grants of docs/roles-and-grants.md",
        ));
    }
    let names: Vec<&TableName> = spares.iter().map(|spare| &spare.table).collect();
    let tables = table::read(side, &names).await?;
    // Where tables have policies, the service should have a role that these do not apply to.
    let has_policies = tables.iter().any(|table| table.has_policies);
    let attributes = facts.attributes.iter().filter(|name| !(has_policies && *name == "bypassrls"));
    let own = ident(role);
    let mut may: Vec<String> = attributes.cloned().collect();
    let mut revokes: Vec<String> =
        may.iter().map(|attribute| format!("alter role {own} no{attribute};")).collect();
    let mut shared = Vec::new();
    for Granted { table, privilege, grantee } in granted(side, &names).await? {
        let needless =
            |spare: &Spare| spare.table == table && spare.privileges.contains(&privilege.as_str());
        if !spares.iter().any(needless) {
            continue;
        }
        may.push(format!("{privilege} on {}", table.plain()));
        match grantee {
            None => shared.push(format!("revoke {privilege} on {table} from public;")),
            Some(grantee) if grantee == *role => {
                revokes.push(format!("revoke {privilege} on {table} from {own};"));
            }
            Some(group) => shared.push(format!("revoke {} from {own};", ident(&group))),
        }
    }
    for row in side.ask(async |session| session.rows(MEMBERSHIPS, &[]).await).await? {
        let group: &str = row.get("role");
        may.push(format!("membership of {group}"));
        shared.push(format!("revoke {} from {own};", ident(group)));
    }
    if may.is_empty() {
        return settled(role, &tables, &names);
    }
    may.dedup();
    shared.sort();
    shared.dedup();
    let diagnosis = Diagnosis::advice(format!("{role} has without need: {}", may.join(", ")))
        .sql(side.place, revokes);
    Ok(match shared.is_empty() {
        true => diagnosis,
        false => diagnosis
            .say("it has this together with others; if nothing else is needed of that:")
            .sql(side.place, shared),
    })
}

/// None of the existing rights is superfluous.
fn settled(
    role: &str,
    tables: &[TableAccess],
    wanted: &[&TableName],
) -> Result<Diagnosis, Hindrance> {
    let there = |name: &TableName| tables.iter().any(|table| table.name == *name);
    if let Some(absent) = wanted.iter().find(|name| !there(name)) {
        return Err(Hindrance::new(format!("{} is not there yet", absent.plain())));
    }
    let owned = tables.iter().filter(|table| table.is_owner);
    let owned: BTreeSet<String> = owned.map(|table| table.name.plain()).collect();
    Ok(Diagnosis::ok(match owned.is_empty() {
        true => "none".to_string(),
        false => {
            let owned = owned.into_iter().collect::<Vec<_>>().join(", ");
            format!("{role} owns {owned}; the service could have a smaller role")
        }
    }))
}

/// A right that the role has by a grant.
struct Granted {
    table: TableName,
    privilege: String,
    /// None: everybody.
    grantee: Option<String>,
}

async fn granted(side: &Side, names: &[&TableName]) -> Result<Vec<Granted>, Hindrance> {
    let (schemas, tables) = table::texts(names);
    let rows = side.ask(async |session| session.rows(EXCESS, &[&schemas, &tables]).await).await?;
    Ok(rows
        .iter()
        .map(|row| Granted {
            table: TableName { schema: row.get("schema"), table: row.get("name") },
            privilege: row.get("privilege"),
            grantee: row.get("grantee"),
        })
        .collect())
}
