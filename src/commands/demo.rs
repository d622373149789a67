//! `demo`: the whole thing on a Postgres of its own.

use anyhow::Result;

use super::Outcome;
use crate::demo::{self, DemoOptions};

pub async fn run(options: DemoOptions) -> Result<Outcome> {
    Ok(Outcome::attention_if(!demo::run(options).await?))
}
