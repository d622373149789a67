//! `mapping`: prints the mapping in use, or checks it.

use anyhow::Result;

use super::Outcome;
use crate::cli::Settings;
use crate::db::Database;
use crate::plan;

pub async fn run(settings: &Settings, check: bool) -> Result<Outcome> {
    let mapping = super::mapping(settings)?;
    if !check {
        print!("{}", mapping.text);
        return Ok(Outcome::Clean);
    }
    let objects = mapping.objects.len();
    if settings.source_url.is_none() && super::environment("DATABASE_URL").is_none() {
        println!(
            "{}: {objects} objects, sound in itself; set DATABASE_URL to check it against the databases",
            mapping.file
        );
        return Ok(Outcome::Clean);
    }
    let config = super::config(settings)?;
    let source = super::source_session(&config.source).await?;
    let source_side = plan::source_side(&*source, &mapping).await?;
    let target =
        Database::new(config.target.clone(), "command")?.session().await.map_err(super::reason)?;
    let (_, advice) = plan::routes(&source_side, &*source, &*target, &mapping).await?;
    for finding in &advice {
        println!("{}: {finding}", mapping.file);
    }
    println!("{}: {objects} objects fit both databases", mapping.file);
    Ok(Outcome::attention_if(!advice.is_empty()))
}
