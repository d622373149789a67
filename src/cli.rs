//! What can be typed: commands, flags and their help. Parsing does no work; [`crate::commands`] does.

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::capture::NotifyMode;
use crate::demo::DemoOptions;
use crate::logging::LogFormat;
use crate::visible;

/// The variable whose value the parser checks, and repeats.
const LOG_FORMAT: &str = "SCHOOLBELL_LOG_FORMAT";

/// Committed writes to an application's tables reach Salesforce through Heroku Connect.
///
/// Triggers on the source tables record each change; `schoolbell run` applies them to Heroku Connect's tables.
#[derive(Debug, Parser)]
#[command(name = "schoolbell", version, disable_help_subcommand = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done; 1 done, something needs attention; 2 could not do it.\n\
                        Try it without any database: schoolbell demo"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Settings that every command takes.
    #[command(flatten)]
    pub settings: Settings,
}

/// Settings that every command takes. Flag, then environment, then default.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// The application's database, a libpq URL [env: DATABASE_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub source_url: Option<String>,
    /// A file that holds this URL, because every user of the machine can read a command line
    #[arg(long, global = true, value_name = "FILE")]
    pub source_url_file: Option<PathBuf>,
    /// Heroku Connect's database [env: SALESFORCE_CONNECT_URL, HEROKUCONNECT_URL, or SALESFORCE_CONNECT_HOST,
    /// _PORT, _DB, _USER, _PASSWORD] [default: the source database]
    #[arg(long, global = true, value_name = "URL")]
    pub target_url: Option<String>,
    /// A file that holds this URL
    #[arg(long, global = true, value_name = "FILE")]
    pub target_url_file: Option<PathBuf>,
    /// A mapping file, or a mapping that comes with the program: editor-api, editor-api-production [default: editor-api]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SCHOOLBELL_MAPPING",
        hide_env_values = true
    )]
    pub mapping: Option<PathBuf>,
    /// How log lines look
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = LOG_FORMAT,
        hide_env_values = true,
        default_value = "text"
    )]
    pub log_format: LogFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create or upgrade schema schoolbell and the capture triggers in the source database
    ///
    /// Changes the source database: its schema schoolbell, and triggers named schoolbell_* on the tables of the
    /// mapping. Safe to repeat, and to run twice at once; busy tables are not held up.
    #[command(after_help = "Example: schoolbell migrate --dry-run")]
    Migrate(MigrateOptions),
    /// Remove the triggers and schema schoolbell from the source database
    ///
    /// Deletes changes that were not applied yet and parked keys. The target is not touched.
    #[command(after_help = "Example: schoolbell uninstall --yes")]
    Uninstall {
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Confirm that this database is the one that writes, after it was moved, copied or upgraded on purpose
    ///
    /// The first service records its source and its target database. When either one changes, nothing is written
    /// until this command has recorded the new ones.
    #[command(after_help = "Example: schoolbell adopt --yes")]
    Adopt {
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Run the service: apply changes as they are committed
    ///
    /// Writes to the target database when SALESFORCE_ENABLED is true. Any number of copies may run; one writes.
    #[command(after_help = "Example: SALESFORCE_ENABLED=true schoolbell run")]
    Run {
        /// Apply what is due, then exit
        #[arg(long)]
        drain: bool,
        /// Compare all rows in the background at this interval: 30m, 1h, 1d
        ///
        /// It uses at most a tenth of the time of one session on each side. It repairs nothing, and reports what is wrong
        /// in the log and in `schoolbell status`.
        #[arg(long, value_name = "DURATION", conflicts_with = "drain")]
        verify_every: Option<String>,
        /// Where to serve the status page and the metrics: HOST:PORT, or off [default: 127.0.0.1:9417]
        #[arg(long, value_name = "ADDRESS", env = "SCHOOLBELL_HTTP", hide_env_values = true)]
        http: Option<String>,
    },
    /// Write existing rows again: bring the target up to date, parents first
    ///
    /// Writes only rows that differ or are missing. Live changes come first. The running service carries it out, or
    /// this command itself. If it is interrupted, the service continues it, or the same command.
    #[command(after_help = "Example: schoolbell resync school --missing --rate 50")]
    Resync(ResyncOptions),
    /// Compare source and target through the mapping, and report each difference
    ///
    /// Reads both databases row by row and writes to neither, unless --repair is given. Keys with a pending change
    /// and parked keys are counted, but not reported as differences. Exits with 1 when a row is missing, differs or is left over.
    #[command(after_help = "Example: schoolbell verify school --no-values")]
    Verify(VerifyOptions),
    /// Show what is pending, waiting and dead, which process writes, whether capture is installed, and what Salesforce
    /// did with the rows
    ///
    /// Changes nothing. The first line says what is wrong. Exits with 1 when something is.
    #[command(after_help = "Example: schoolbell status --watch")]
    Status {
        /// Refresh the report every N seconds until it is interrupted
        #[arg(
            long,
            value_name = "SECONDS",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "2",
            value_parser = clap::value_parser!(u64).range(1..)
        )]
        watch: Option<u64>,
        /// As JSON; with --watch, one line per report
        #[arg(long)]
        json: bool,
    },
    /// Say why a row is or is not in Salesforce, and what happens next
    ///
    /// Follows one key through both databases and changes nothing. Exits with 1 when the row will not arrive
    /// by itself.
    #[command(after_help = "Example: schoolbell explain role 4711")]
    Explain {
        /// The object
        object: String,
        /// Its key in the source, which is the external id in the target
        key: String,
        /// Name the columns, but do not show their values
        #[arg(long)]
        no_values: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check both databases and everything between them, and say how to fix what is wrong
    ///
    /// Changes nothing: it reads both databases, and sends one notice on channel schoolbell to test whether it
    /// arrives. Exits with 1 when a check failed. It also names what it could not check.
    #[command(after_help = "Example: schoolbell doctor --json")]
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List, retry or drop keys that wait for a parent, are retried, or need a human
    #[command(after_help = "Example: schoolbell parked list role --state waiting")]
    Parked {
        /// What to do with them
        #[command(subcommand)]
        action: ParkedAction,
    },
    /// Print the mapping in use, check one, or draft a first one
    ///
    /// Changes nothing. What a mapping is and how one is written: docs/mapping.md.
    #[command(after_help = "Example: schoolbell mapping --check my-mapping.toml")]
    Mapping(MappingOptions),
    /// Show everything on a temporary Postgres server of its own
    ///
    /// Needs Postgres's server programs. It touches none of your databases.
    #[command(after_help = "Example: schoolbell demo --stay")]
    Demo(DemoOptions),
    /// Print the manual page, for man
    ///
    /// For the program, or for one of its commands. With --dir it writes all of them.
    #[command(after_help = "Example: schoolbell man resync > schoolbell-resync.1")]
    Man {
        /// The command that the page is about [default: the program]
        #[arg(value_name = "COMMAND", conflicts_with = "dir")]
        command: Vec<String>,
        /// Write every page into this folder
        #[arg(long, value_name = "FOLDER")]
        dir: Option<PathBuf>,
    },
    /// Print shell completions
    #[command(
        after_help = "Example: schoolbell completions bash > /etc/bash_completion.d/schoolbell"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How to migrate.
#[derive(Debug, Args)]
pub struct MigrateOptions {
    /// Print the SQL instead of running it
    #[arg(long)]
    pub dry_run: bool,
    /// Print only the SQL of the tables, without triggers and rows: for a subscriber of a publication
    ///
    /// A publication for all tables also carries Schoolbell's tables, and replication stops on a subscriber that lacks
    /// them. Run the output on each subscriber, then run `schoolbell migrate --published`.
    #[arg(long, requires = "dry_run")]
    pub tables_only: bool,
    /// Continue although a publication carries our tables, because each subscriber has them
    #[arg(long)]
    pub published: bool,
    /// When the triggers notify [default: as installed, else doorbell]
    #[arg(long, value_name = "MODE")]
    pub notify: Option<NotifyMode>,
    /// Also store a resync of the rows that the changed mapping affects, for the service with this mapping
    #[arg(long, conflicts_with = "dry_run")]
    pub resync: bool,
}

/// What to resync.
#[derive(Debug, Args)]
pub struct ResyncOptions {
    /// The objects to resync [default: all]
    #[arg(value_name = "OBJECT")]
    pub objects: Vec<String>,
    /// Only this key (repeat it for more); needs exactly one object
    #[arg(long = "key", value_name = "K", conflicts_with_all = ["since", "missing"])]
    pub keys: Vec<String>,
    /// Only rows changed since then: 2026-01-31, 2026-01-31T12:00:00Z (UTC), or an age such as 2h
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only keys that the target lacks
    #[arg(long)]
    pub missing: bool,
    /// At most N target writes per object
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub limit: Option<i64>,
    /// At most N target writes per second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub rate: Option<i64>,
    /// Report what would be written, and write nothing
    #[arg(long, conflicts_with = "detach")]
    pub dry_run: bool,
    /// Store the resync for the running service and return at once
    #[arg(long)]
    pub detach: bool,
    /// Dismiss a failed resync by its number, so that status no longer shows it
    #[arg(long, value_name = "NUMBER", conflicts_with_all = [
        "objects", "keys", "since", "missing", "limit", "rate", "dry_run", "detach", "json",
    ])]
    pub dismiss: Option<i64>,
    /// The result as JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do with the mapping, instead of printing it.
#[derive(Debug, Args)]
pub struct MappingOptions {
    /// What else to do
    #[command(subcommand)]
    pub action: Option<MappingAction>,
    /// Check this file, or the mapping in use, against the databases too where their URLs are set
    ///
    /// Reports everything that does not fit, each with file, line, object and field. Exits with 0 when everything fits,
    /// with 1 when there is advice, and with 2 when the mapping cannot be used or a database cannot be reached. It
    /// still reports what it could check.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub check: Option<Option<PathBuf>>,
    /// What --check finds, as JSON
    #[arg(long, requires = "check")]
    pub json: bool,
    /// Print the JSON schema of the format, with which editors complete and check a file
    #[arg(long, conflicts_with = "check")]
    pub schema: bool,
}

/// What else to do with a mapping.
#[derive(Debug, Subcommand)]
pub enum MappingAction {
    /// Draft a first mapping from the tables of both databases
    ///
    /// Reads both catalogues and prints a mapping: columns are matched by name, type and length. A column
    /// without a match is a comment that names the closest one. Changes nothing.
    #[command(after_help = "Example: schoolbell mapping init schools=editor__c > my-mapping.toml")]
    Init {
        /// Tables that belong together, optionally with a name for the object [default: those with the
        /// same name]
        #[arg(value_name = "[OBJECT:]SOURCE=TARGET")]
        pairs: Vec<String>,
    },
}

/// What to compare.
#[derive(Debug, Args)]
pub struct VerifyOptions {
    /// The objects to compare [default: all]
    #[arg(value_name = "OBJECT")]
    pub objects: Vec<String>,
    /// Write exactly the keys again that are missing, differ or are left over
    #[arg(long)]
    pub repair: bool,
    /// Name the columns that differ, but do not show their values
    #[arg(long)]
    pub no_values: bool,
    /// Also list the target rows that stay although their source row is gone
    #[arg(long)]
    pub kept: bool,
    /// List at most N keys; all are counted
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// Compare only about N rows of each object, chosen at random
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do with parked keys.
#[derive(Debug, Subcommand)]
pub enum ParkedAction {
    /// List them, the oldest first
    ///
    /// Changes nothing. Exits with 1 when a listed key is dead.
    #[command(after_help = "Example: schoolbell parked list --state dead --json")]
    List {
        /// Only of these objects
        #[arg(value_name = "OBJECT")]
        objects: Vec<String>,
        /// Only this key (repeat it for more)
        #[arg(long = "key", value_name = "K")]
        keys: Vec<String>,
        /// Only in this state
        #[arg(long)]
        state: Option<ParkedState>,
        /// Only with this text in the reason, or with this SQLSTATE
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// At most N keys
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Retry them now, whatever their state
    ///
    /// Makes them due: the running service tries them at once, or the next one does. A key that is refused again is
    /// parked again.
    ///
    /// With --failed it works on rows that Salesforce refused (FAILED). Rows that Salesforce does not know are deleted
    /// from the target and written again; the others get a new entry in Heroku Connect's log. Writes to the target.
    /// First it says what it will do, and asks.
    #[command(after_help = "Example: schoolbell parked retry --failed")]
    Retry {
        /// Which
        #[command(flatten)]
        choice: ParkedChoice,
        /// Rows that Salesforce refused, instead of parked keys
        #[arg(long, conflicts_with = "state")]
        failed: bool,
        /// Do not ask for confirmation before target rows are deleted
        #[arg(long)]
        yes: bool,
    },
    /// Forget them, without writing them
    ///
    /// Deletes them from schoolbell.parked. Their rows reach the target only when they change again, or with
    /// `schoolbell resync`. First it says what it will do, and asks.
    #[command(after_help = "Example: schoolbell parked drop role --key 42 --yes")]
    Drop {
        /// Which
        #[command(flatten)]
        choice: ParkedChoice,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
}

/// Which parked keys are meant: those that all of it is true of.
#[derive(Debug, Args)]
pub struct ParkedChoice {
    /// Of these objects
    #[arg(value_name = "OBJECT")]
    pub objects: Vec<String>,
    /// Only this key (repeat it for more)
    #[arg(long = "key", value_name = "K")]
    pub keys: Vec<String>,
    /// Only in this state
    #[arg(long)]
    pub state: Option<ParkedState>,
    /// Everything that is parked
    #[arg(long, conflicts_with_all = ["objects", "keys", "state"])]
    pub all: bool,
}

/// The states of a parked key.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ParkedState {
    /// For a parent, or for a row that Salesforce creates.
    Waiting,
    /// After a time, by itself.
    Retrying,
    /// Refused for good: for a human.
    Dead,
}

impl ParkedState {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Dead => "dead",
        }
    }
}

/// Says what is wrong with a command line, or prints the help that was asked for.
pub fn explain(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let typed = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        let set = std::env::var(LOG_FORMAT).ok();
        // The parser's own way to leave out its styles would take words apart that look like styles.
        let message = printable(&error.render().ansi().to_string(), typed.chain(set));
        // Nobody is left to hear that stderr is closed.
        _ = write!(std::io::stderr(), "{message}");
        return ExitCode::from(2);
    }
    // A reader who has closed stdout does not want the help any more.
    _ = error.print();
    ExitCode::SUCCESS
}

/// A message of the parser, which repeats what was typed: without what may hold a password, and escaped.
///
/// It repeats a word, or what is before or after the `=` of one.
fn printable(message: &str, typed: impl Iterator<Item = String>) -> String {
    let mut printable = message.to_string();
    for word in typed {
        let parts = word.split_once('=');
        for part in [Some(&*word), parts.map(|(name, _)| name), parts.map(|(_, value)| value)] {
            let Some(part) = part.filter(|part| !part.is_empty()) else { continue };
            let shown = match may_hold_a_password(part) {
                true => Cow::Borrowed("…"),
                false => visible::line(part),
            };
            if shown != part {
                printable = printable.replace(part, &shown);
            }
        }
    }
    visible::lines(&unstyled(&printable)).into_owned()
}

/// Without the sequences by which the parser sets off words. No other ones are left.
fn unstyled(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default();
    let styled = parts.map(|part| part.split_once('m').map_or(part, |(_, rest)| rest));
    std::iter::once(first).chain(styled).collect()
}

/// A URL, a `key=value` string, or what a shell has left of one.
fn may_hold_a_password(word: &str) -> bool {
    let word = word.to_lowercase().replace(char::is_whitespace, "");
    word.contains("://") || word.contains('@') || word.contains("password=")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// An option that shuts out all others would shut out those that a variable of the environment sets.
    #[test]
    fn no_option_is_at_odds_with_a_variable_of_the_environment() {
        let mut commands = vec![Cli::command()];
        while let Some(mut command) = commands.pop() {
            command.build();
            for option in command.get_arguments() {
                assert!(!option.is_exclusive_set(), "{option}");
                let shut_out = command.get_arg_conflicts_with(option);
                assert!(shut_out.iter().all(|other| other.get_env().is_none()), "{option}");
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn a_url_in_the_wrong_place_is_not_repeated() {
        for word in [
            "postgres://me:hunter2@host/db",
            "--sauce=postgres://me:hunter2@host/db",
            "host=h password=hunter2",
            "host=h PASSWORD = 'hunter2 x'",
            "hunter2@host",
        ] {
            let message = format!("error: unexpected argument '{word}' found\n\n  tip: '{word}'\n");
            let said = printable(&message, [word.to_string()].into_iter());
            assert_eq!(said, "error: unexpected argument '…' found\n\n  tip: '…'\n");
        }
    }

    #[test]
    fn a_word_that_was_typed_makes_no_line_of_its_own() {
        let word = "--limit=a\nerror: \x1b[2Jb";
        let message = format!("error: invalid value '{}' for '--limit'\n", &word[8..]);
        let said = printable(&message, [word.to_string()].into_iter());
        assert_eq!(said, "error: invalid value 'a\\nerror: \\x1b[2Jb' for '--limit'\n");
    }

    #[test]
    fn the_commands_and_flags_are_consistent() {
        Cli::command().debug_assert();
    }
}
