//! `demo`: the whole thing on a Postgres of its own.

use anyhow::Result;

use super::Exit;
use crate::demo::{self, DemoOptions};

pub async fn run(options: DemoOptions) -> Result<Exit> {
    Ok(Exit::attention_if(!demo::run(options).await?))
}
