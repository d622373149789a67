//! `uninstall`: takes everything of ours out of the source database.

use anyhow::{Context, Result};

use super::Exit;
use crate::capture::deviation::deviations;
use crate::capture::{install, schema};
use crate::cli::Settings;
use crate::outbox::change;
use crate::outbox::parked;
use crate::postgres::name::TableName;

pub async fn run(settings: &Settings, yes: bool) -> Result<Exit> {
    let url = super::source_url(settings)?;
    let source = super::direct_source(&url, "uninstall").await?;
    super::lock_schema(&source).await?;
    let installed = deviations(&source, &[]).await.map_err(super::reason)?;
    let version = schema::version(&source).await.map_err(super::reason)?;
    if installed.is_empty() && version == schema::Version::Missing {
        say!("nothing to do: schoolbell is not installed in {url}")?;
        return Ok(Exit::Clean);
    }
    say!("From {url} this removes:")?;
    for trigger in &installed {
        say!("  trigger {} on {}", trigger.trigger, trigger.table.plain())?;
    }
    if version != schema::Version::Missing {
        let pending = change::pending(&source).await.map_err(super::reason)?;
        let parked = parked::counts(&source).await.map_err(super::reason)?;
        let parked: i64 = parked.iter().map(|count| count.keys).sum();
        say!(
            "  schema schoolbell, with {} changes that are not applied and {parked} parked keys",
            pending.changes
        )?;
    }
    if !yes && !super::confirmed("remove it")? {
        say!("nothing was changed")?;
        return Ok(Exit::Attention);
    }
    for (table, sql) in install::sql(&[], &installed) {
        install::run_ddl(&source, &table, &sql)
            .await
            .with_context(|| format!("cannot remove the triggers of {}", table.plain()))?;
    }
    // Nothing writes to the schema any more once the triggers are gone, but a service may be reading it.
    let schema = TableName { schema: "schoolbell".into(), table: "change".into() };
    install::run_ddl(&source, &schema, "drop schema if exists schoolbell cascade;")
        .await
        .context("cannot drop schema schoolbell; stop the service first")?;
    say!("removed")?;
    Ok(Exit::Clean)
}
