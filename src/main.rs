//! Parse, log, dispatch, exit code. Nothing in this file knows that Postgres exists.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use schoolbell::cli::{self, Cli};
use schoolbell::commands;
use schoolbell::logging;

/// One thread: the databases do the work, and a notice that is handed from thread to thread arrives later.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::explain(&error),
    };
    logging::init(cli.settings.log_format);
    match Box::pin(commands::dispatch(cli)).await {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            // Results go to stdout, reasons to stderr; nobody is left to hear that stderr is closed.
            _ = writeln!(std::io::stderr(), "schoolbell: {}", commands::sentence(&error));
            ExitCode::from(2)
        }
    }
}
