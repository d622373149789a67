//! `migrate`: the schema and the triggers, brought up to date.

use anyhow::{Context, Result};

use super::Outcome;
use crate::capture::{self, NotifyMode};
use crate::cli::Settings;
use crate::{plan, schema, service};

const NOTIFY_MODE: &str = include_str!("../../sql/notify_mode.sql");

pub async fn run(
    settings: &Settings,
    dry_run: bool,
    notify: Option<NotifyMode>,
) -> Result<Outcome> {
    let mapping = super::mapping(settings)?;
    let url = super::source_url(settings)?;
    let mut source = super::direct_source(&url, "migrate").await?;
    // Before anything is changed: a mapping that does not fit must leave the database as it is.
    let source_side = plan::source_side(&source, &mapping).await.with_context(|| {
        format!("the mapping does not fit the source database ({url}); nothing was changed")
    })?;
    if !dry_run {
        schema::lock(&source)
            .await
            .map_err(super::reason)
            .context("another `schoolbell migrate` has been running for minutes; end it first")?;
    }
    let version = schema::version(&source).await.map_err(super::reason)?;
    if let (schema::Version::Newer(_), Some(remedy)) = (version, version.refusal()) {
        anyhow::bail!(remedy);
    }
    let installed = service::installed_mode(&source).await.map_err(super::reason)?;
    let mode = notify.or(installed).unwrap_or(NotifyMode::Doorbell);
    let mode_sql =
        (installed != Some(mode)).then(|| NOTIFY_MODE.replace("{mode}", &mode.to_string()));
    let wanted = capture::render(&source_side.captures, mode);
    let deviations = capture::deviations(&source, &wanted).await.map_err(super::reason)?;
    let ddl = capture::mend(&wanted, &deviations);
    let migrations = schema::pending(version);

    if dry_run {
        if !migrations.is_empty() {
            say!(
                "begin;\nset local {};\ncreate schema if not exists schoolbell;\n",
                schema::OWN_PATH
            )?;
            for (name, sql) in &migrations {
                say!("-- migration {name}\n{}\n", sql.trim_end())?;
            }
            say!("{}commit;\n", schema::history(version))?;
        }
        if let Some(sql) = &mode_sql {
            say!("{};\n", sql.trim_end())?;
        }
        for (table, sql) in &ddl {
            say!("-- triggers on {}\nbegin;\n{sql}commit;\n", table.plain())?;
        }
        eprintln!("dry run: nothing was changed");
        return Ok(Outcome::Clean);
    }

    schema::migrate(&mut source).await.context("cannot migrate schema schoolbell")?;
    for (name, _) in &migrations {
        say!("migrated {name}")?;
    }
    if let Some(sql) = mode_sql {
        source.client().batch_execute(&sql).await.map_err(super::reason)?;
        say!("notify mode: {mode}")?;
    }
    for (table, sql) in &ddl {
        capture::run_ddl(&source, table, sql)
            .await
            .with_context(|| format!("cannot install the triggers of {}", table.plain()))?;
        say!("triggers of {}: up to date", table.plain())?;
    }
    if migrations.is_empty() && ddl.is_empty() {
        say!("nothing to do: schema and triggers are up to date")?;
    }
    Ok(Outcome::Clean)
}
