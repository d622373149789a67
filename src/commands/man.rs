//! `man`: the manual pages, from the same source as `--help`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::CommandFactory;

use super::Exit;
use crate::cli::Cli;

pub fn run(path: &[String], dir: Option<&Path>) -> Result<Exit> {
    let mut program = Cli::command();
    program.build();
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(program, dir))
            .with_context(|| format!("cannot write the pages into {}", dir.display()))?;
        return Ok(Exit::Clean);
    }
    let mut command = &program;
    for name in path {
        let Some(found) = command.find_subcommand(name) else {
            let known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            bail!("there is no command {name}; there are {}", known.join(", "));
        };
        command = found;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).context("cannot make the page")?;
    super::say_text(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Clean)
}
