//! Checks of how another role could get in: through the schema, its functions and tables, a search
//! path, or a lock.

use std::collections::BTreeSet;

use super::mapping_fit::Fit;
use super::report::{Diagnosis, Place};
use super::side::{Hindrance, Side};
use super::table::texts;
use crate::bell;
use crate::capture::schema;
use crate::postgres::name::{TableName, ident};
use crate::postgres::stranger::Stranger;

const CREATORS: &str = include_str!("../../../sql/doctor_creators.sql");
const OWN_RIGHTS: &str = include_str!("../../../sql/doctor_own_rights.sql");
const OWN_TRIGGERS: &str = include_str!("../../../sql/doctor_own_triggers.sql");

/// A role that owns the schema or something in it can replace that with its own.
pub(super) async fn owners(source: &Side, fit: &Fit<'_>) -> Result<Diagnosis, Hindrance> {
    let captured: Vec<&TableName> =
        fit.source_side()?.captures.iter().map(|capture| &capture.table).collect();
    let foreign =
        source.ask(async |source| schema::foreign_owners(source, &captured).await).await?;
    let Some(first) = foreign.first() else {
        return Ok(Diagnosis::ok(
            "the schema and all in it belong to the owners of the captured tables",
        ));
    };
    let owners: BTreeSet<&str> = foreign.iter().map(|foreign| foreign.owner.as_str()).collect();
    let details =
        foreign.iter().map(|foreign| format!("{} belongs to {}", foreign.thing, foreign.owner));
    let table = captured.first().map_or_else(String::new, |table| table.plain());
    Ok(Diagnosis::failed(format!(
        "{} belongs to {}, who could replace what the triggers and the service rely on",
        first.thing, first.owner
    ))
    .detail(details.filter(|_| foreign.len() > 1))
    .say(format!(
        "if `schoolbell migrate` was not run by {}: drop the schema as a superuser, and install it again:",
        owners.iter().copied().collect::<Vec<_>>().join(", ")
    ))
    .sql(Place::Source, ["drop schema schoolbell cascade;".to_string()])
    .say(format!("as the owner of {table}:"))
    .command("schoolbell migrate && schoolbell resync"))
}

/// Rights by which another role gains rights of the owner.
pub(super) async fn rights(source: &Side) -> Result<Diagnosis, Hindrance> {
    let rows = source.ask(async |source| source.rows(OWN_RIGHTS, &[]).await).await?;
    let triggers = source.ask(async |source| source.rows(OWN_TRIGGERS, &[]).await).await?;
    if rows.is_empty() && triggers.is_empty() {
        return Ok(Diagnosis::ok(
            "only the owners can run code with their rights, or forge changes",
        ));
    }
    let mut details = Vec::new();
    let mut remedies = Vec::new();
    for row in &rows {
        let (thing, privilege): (&str, &str) = (row.get("thing"), row.get("privilege"));
        let grantee: Option<&str> = row.get("grantee");
        details.push(format!("{} may {privilege} on {thing}", grantee.unwrap_or("everybody")));
        let from = grantee.map_or("public".into(), ident);
        remedies.push(format!("revoke {privilege} on {thing} from {from} cascade;"));
    }
    for row in &triggers {
        details.push(row.get("found"));
        remedies.push(row.get("remedy"));
    }
    let first = details.first().cloned().unwrap_or_default();
    let several = details.len() > 1;
    Ok(Diagnosis::failed(format!("{first}: that gives a share in the owner's rights"))
        .detail(details.into_iter().filter(|_| several))
        .sql(Place::Source, remedies))
}

/// A role that may create in a schema of the search path can put operators and functions there that
/// are used in place of those that a mapping's expression or one of Heroku Connect's triggers
/// means.
pub(super) async fn creators(side: &Side, fit: &Fit<'_>) -> Result<Diagnosis, Hindrance> {
    let setting: String = side
        .evaluate(async |evaluator| {
            evaluator.row("select pg_catalog.current_setting('search_path')", &[]).await
        })
        .await?
        .get(0);
    let path = path(&setting, &side.facts()?.role);
    let objects = &fit.mapping.objects;
    let tables: Vec<&TableName> = match side.place {
        Place::Target => objects.iter().map(|object| &object.target).collect(),
        _ => objects.iter().map(|object| &object.source).collect(),
    };
    let (schemas, names) = texts(&tables);
    let rows =
        side.ask(async |session| session.rows(CREATORS, &[&path, &schemas, &names]).await).await?;
    if rows.is_empty() {
        return Ok(Diagnosis::ok(format!("no other role may create in {}", path.join(", "))));
    }
    let mut details = Vec::new();
    let mut remedies = Vec::new();
    for row in &rows {
        let schema: &str = row.get("schema");
        let grantee: Option<&str> = row.get("grantee");
        let who = grantee.unwrap_or("everybody");
        let from = grantee.map_or("public".into(), ident);
        let database = ident(&side.facts()?.database);
        match row.get("how") {
            "owner" => {
                details.push(format!("{who} owns schema {schema}"));
                remedies.push(format!("alter schema {} owner to current_user;", ident(schema)));
            }
            "database" => {
                details.push(format!(
                    "{who} may create schema {schema}, which is on the path and not there"
                ));
                remedies.push(format!("revoke create on database {database} from {from};"));
            }
            _ => {
                details.push(format!("{who} may create in schema {schema}"));
                remedies.push(format!("revoke create on schema {} from {from};", ident(schema)));
            }
        }
    }
    let what = match side.place {
        Place::Target => "Heroku Connect's triggers may call what is left there",
        _ => "the mapping's expressions may call what is left there",
    };
    let several = details.len() > 1;
    Ok(Diagnosis::failed(format!("{}: {what}", details[0]))
        .detail(details.into_iter().filter(|_| several))
        .say("as a superuser, or the owner; first look at what is in a schema that another role owns:")
        .sql(side.place, remedies))
}

/// The schemas that a search path names, whether they are there or not.
fn path(setting: &str, role: &str) -> Vec<String> {
    let names = setting.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names =
        names.map(|name| match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
            Some("$user") => role.to_string(),
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => name.to_lowercase(),
        });
    names.filter(|name| name != "pg_catalog" && name != "pg_temp").collect()
}

/// Anybody who may connect can take the doorbell's lock.
pub(super) async fn bell(source: &Side) -> Result<Diagnosis, Hindrance> {
    let strangers = source.ask(bell::strangers).await?;
    let Some(first) = strangers.first() else {
        return Ok(Diagnosis::ok("only Schoolbell holds it"));
    };
    Ok(Diagnosis::failed(format!(
        "{first} holds it: the service cannot sleep, or every writer rings, which slows all of them down"
    ))
    .detail(strangers.iter().map(ToString::to_string).filter(|_| strangers.len() > 1))
    .say("find out whose session it is, and end it, as that role, a superuser or a member of pg_signal_backend:")
    .sql(Place::Source, strangers.iter().map(Stranger::end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_postgres_reads_it() {
        let wanted = ["bell", "public", "Odd \"name\""];
        assert_eq!(path("\"$user\", PUBLIC,pg_catalog, \"Odd \"\"name\"\"\"", "bell"), wanted);
        assert!(path("", "bell").is_empty());
    }
}
