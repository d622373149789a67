//! `adopt`: says that this database is the one that writes, and to which target.

use anyhow::Result;

use super::Exit;
use crate::capture::schema;
use crate::cli::Settings;
use crate::outbox::pairing::{self, Pair};
use crate::postgres::db::Database;

pub async fn run(settings: &Settings, yes: bool) -> Result<Exit> {
    let config = super::config(settings)?;
    let source = super::source_session(&config.source).await?;
    if let Some(remedy) = schema::version(&source).await.map_err(super::reason)?.refusal() {
        anyhow::bail!(remedy);
    }
    let target = Database::new(config.target.clone(), "adopt")?.session().await?;
    let pair = Pair::of(&source, &target, config.target.to_string()).await?;
    let noted = pairing::read(&source).await.map_err(super::reason)?;
    match &noted {
        None => say!("nothing is noted yet: the first service that works notes its databases")?,
        Some(noted) if noted.mismatch(&pair).is_none() => {
            say!("these databases belong together since {:.0}; nothing to do", noted.since)?;
            return Ok(Exit::Clean);
        }
        Some(noted) => {
            let noted_pair = &noted.pair;
            say!("noted since {:.0}:", noted.since)?;
            say!("  source  {}", told(&noted_pair.source))?;
            say!("  target  {} ({})", noted_pair.address, told(&noted_pair.target))?;
        }
    }
    say!("from now on:")?;
    say!("  source  {}", told(&pair.source))?;
    say!("  target  {} ({})", pair.address, told(&pair.target))?;
    if !yes && !super::confirmed("adopt it")? {
        say!("nothing was changed")?;
        return Ok(Exit::Attention);
    }
    pairing::adopt(&source, &pair).await.map_err(super::reason)?;
    say!(
        "adopted: a service with these databases continues by itself; any other service writes nothing"
    )?;
    Ok(Exit::Clean)
}

fn told(place: &pairing::DatabaseId) -> String {
    format!("database {}, system {}", place.database, place.system)
}
