//! `mapping`: prints the mapping in use, or checks it.

use anyhow::{Context, Result};

use super::Outcome;
use crate::cli::Settings;
use crate::db::Database;
use crate::plan;

pub async fn run(settings: &Settings, check: bool) -> Result<Outcome> {
    let mapping = super::mapping(settings)?;
    if !check {
        super::say(format_args!("{}", mapping.text))?;
        return Ok(Outcome::Clean);
    }
    let objects = mapping.objects.len();
    if settings.source_url.is_none() && super::environment("DATABASE_URL").is_none() {
        say!(
            "{}: {objects} objects, sound in itself; set DATABASE_URL to check it against the databases",
            mapping.file
        )?;
        return Ok(Outcome::Clean);
    }
    let config = super::config(settings)?;
    let source = super::source_session(&config.source).await?;
    let source_side = plan::source_side(&source, &mapping).await?;
    let target = Database::new(config.target.clone(), "command")?.session().await;
    let target = target.with_context(|| {
        format!(
            "cannot use the target database ({}); check SALESFORCE_CONNECT_URL or --target-url",
            config.target
        )
    })?;
    let (_, advice) = plan::routes(&source_side, &source, &target, &mapping).await?;
    for finding in &advice {
        say!("{}: {finding}", mapping.file)?;
    }
    say!("{}: {objects} objects fit both databases", mapping.file)?;
    Ok(Outcome::attention_if(!advice.is_empty()))
}
