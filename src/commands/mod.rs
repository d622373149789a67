//! The commands: one file each, and what they share.
//!
//! Here errors become sentences: each says what was being done, and what helps.

use std::io::{BufRead, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::CommandFactory;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::bell;
use crate::bell::notice;
use crate::capture::schema;
use crate::cli::{Cli, Command, Settings};
use crate::config::Config;
use crate::demo::cluster::ClusterError;
use crate::mapping::{self as mappings, Mapping};
use crate::outbox::pairing::{self, Pair};
use crate::plan::Unplannable;
use crate::postgres::db::{Database, Direct, Evaluator, Session};
use crate::postgres::supported;
use crate::postgres::url::{DatabaseUrl, UnusableSetting};
use crate::service::Fatal;
use crate::visible;

/// `println!` for results: one line, whatever is in the values. The standard one panics when the reader has gone.
macro_rules! say {
    ($($text:tt)*) => { crate::commands::say_line(&format!($($text)*)) };
}

/// The same for stderr, where a closed reader does not matter.
macro_rules! tell {
    ($($text:tt)*) => { crate::commands::tell_line(&format!($($text)*)) };
}

mod adopt;
mod demo;
mod doctor;
mod explain;
mod man;
mod mapping;
mod migrate;
mod parked;
mod resync;
mod run;
mod status;
mod uninstall;
mod verify;

/// How a command ended when it did what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Nothing to act on.
    Clean,
    /// Something was found that somebody should act on.
    Attention,
}

impl Exit {
    /// 0 or 1; 2 is for what could not be done.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Clean => ExitCode::SUCCESS,
            Self::Attention => ExitCode::from(1),
        }
    }

    fn attention_if(needed: bool) -> Self {
        if needed { Self::Attention } else { Self::Clean }
    }
}

/// Runs the command that was typed.
pub async fn dispatch(cli: Cli) -> Result<Exit> {
    refuse_misplaced_urls(std::env::args())?;
    let settings = &cli.settings;
    match cli.command {
        Command::Migrate(options) => migrate::run(settings, &options).await,
        Command::Adopt { yes } => adopt::run(settings, yes).await,
        Command::Uninstall { yes } => uninstall::run(settings, yes).await,
        Command::Run { drain, verify_every, http } => {
            run::run(settings, drain, verify_every.as_deref(), http.as_deref()).await
        }
        Command::Resync(options) => resync::run(settings, &options).await,
        Command::Verify(options) => Box::pin(verify::run(settings, &options)).await,
        Command::Status { watch, json } => status::run(settings, json, watch).await,
        Command::Explain { object, key, no_values, json } => {
            explain::run(settings, &object, &key, no_values, json).await
        }
        Command::Doctor { json } => doctor::run(settings, json).await,
        Command::Parked { action } => parked::run(settings, &action).await,
        Command::Mapping(options) => mapping::run(settings, &options).await,
        Command::Demo(options) => demo::run(options).await,
        Command::Man { command, dir } => man::run(&command, dir.as_deref()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "schoolbell", &mut script);
            say_text(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Clean)
        }
    }
}

/// A URL given in place of a file, an address or a key would be repeated by the error message, with
/// its password.
fn refuse_misplaced_urls(arguments: impl Iterator<Item = String>) -> Result<()> {
    const OURS: [&str; 2] = ["--source-url", "--target-url"];
    let is_url = |text: &str| {
        ["postgres:", "postgresql:", "postgis:"].iter().any(|scheme| text.contains(scheme))
    };
    let mut is_value_of_ours = false;
    for argument in arguments.skip(1) {
        let flag = argument.split('=').next().unwrap_or_default();
        if is_url(&argument) && !is_value_of_ours && !OURS.contains(&flag) {
            bail!(
                "an argument looks like a database's URL and is not where one belongs, so nothing of it is repeated; \
                 give it in DATABASE_URL or SALESFORCE_CONNECT_URL, or behind --source-url or --target-url"
            );
        }
        is_value_of_ours = OURS.contains(&argument.as_str());
    }
    for name in ["SCHOOLBELL_MAPPING", "SCHOOLBELL_HTTP"] {
        if environment(name).is_some_and(|value| is_url(&value)) {
            bail!("{name} looks like a database's URL; it names a file or an address, see --help");
        }
    }
    Ok(())
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Settings as the contract has them: flag, then environment, then default.
fn config(settings: &Settings) -> Result<Config, UnusableSetting> {
    let source = source_url(settings)?;
    let target = match given_target_url(settings)? {
        Some(given) => given.parse()?,
        None => DatabaseUrl::from_parts(&environment)?.unwrap_or_else(|| source.clone()),
    };
    let enabled = environment("SALESFORCE_ENABLED").as_deref() == Some("true");
    Ok(Config { source, target, enabled })
}

fn source_url(settings: &Settings) -> Result<DatabaseUrl, UnusableSetting> {
    match given_source_url(settings)? {
        Some(given) => given.parse(),
        None => Err(UnusableSetting(
            "which database? Set DATABASE_URL or pass --source-url (postgres://USER:PASSWORD@HOST:PORT/DATABASE)"
                .into(),
        )),
    }
}

fn given_source_url(settings: &Settings) -> Result<Option<GivenUrl>, UnusableSetting> {
    let flags = (&settings.source_url, &settings.source_url_file);
    GivenUrl::find(["--source-url", "--source-url-file"], flags, &["DATABASE_URL"])
}

fn names_a_source(settings: &Settings) -> bool {
    let Settings { source_url, source_url_file, .. } = settings;
    source_url.is_some() || source_url_file.is_some() || environment("DATABASE_URL").is_some()
}

fn given_target_url(settings: &Settings) -> Result<Option<GivenUrl>, UnusableSetting> {
    let flags = (&settings.target_url, &settings.target_url_file);
    let variables = ["SALESFORCE_CONNECT_URL", "HEROKUCONNECT_URL"];
    GivenUrl::find(["--target-url", "--target-url-file"], flags, &variables)
}

/// A URL as it was given, with the flag or variable that it comes from.
struct GivenUrl {
    setting: &'static str,
    url: String,
}

impl GivenUrl {
    fn find(
        [flag, file_flag]: [&'static str; 2],
        (url, file): (&Option<String>, &Option<PathBuf>),
        variables: &[&'static str],
    ) -> Result<Option<Self>, UnusableSetting> {
        match (url, file) {
            (Some(_), Some(_)) => Err(UnusableSetting(format!(
                "{flag} and {file_flag} exclude each other; pass one of them"
            ))),
            (Some(url), None) => Ok(Some(Self { setting: flag, url: url.clone() })),
            (None, Some(file)) => {
                Ok(Some(Self { setting: file_flag, url: url_in(file_flag, file)? }))
            }
            (None, None) => Ok(variables.iter().find_map(|variable| {
                Some(Self { setting: variable, url: environment(variable)? })
            })),
        }
    }

    fn parse(&self) -> Result<DatabaseUrl, UnusableSetting> {
        let url = DatabaseUrl::parse(self.setting, &self.url, &environment)?;
        if let Some(remark) = url.remark() {
            tracing::warn!("{remark}");
        }
        Ok(url)
    }
}

/// The URL in a file, without the white space around it.
fn url_in(flag: &str, file: &Path) -> Result<String, UnusableSetting> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| UnusableSetting(format!("cannot read {flag} {shown}: {error}")))?;
    let url = text.trim();
    if url.is_empty() {
        return Err(UnusableSetting(format!(
            "{flag} {shown} is empty; write the database's URL into it"
        )));
    }
    // A pipe is readable by those who have opened it, whatever its mode says.
    let others = std::fs::metadata(file)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & OTHERS != 0);
    if others {
        tracing::warn!("{flag}: other users of this machine may use {shown}; run chmod 600 on it");
    }
    Ok(url.to_string())
}

/// The rights of a file's group and of everybody.
const OTHERS: u32 = 0o077;

fn mapping(settings: &Settings) -> Result<Mapping> {
    Ok(Mapping::load(settings.mapping.as_deref())?)
}

/// A session on the source for one command.
async fn source_session(url: &DatabaseUrl) -> Result<Session> {
    let database = Database::new(url.clone(), "command")?;
    let session = database.session().await.map_err(anyhow::Error::from).with_context(|| {
        format!("cannot use the source database ({url}); check {}", url.setting())
    })?;
    match supported::refusal(&session).await.map_err(reason)? {
        Some(refusal) => bail!("cannot use the source database ({url}): {refusal}"),
        None => Ok(session),
    }
}

/// Nothing may be stored where the changes of the source go to another target, or where the source
/// is a copy.
async fn belong_together(config: &Config, source: &Session, target: &Session) -> Result<()> {
    let pair = Pair::of(source, target, config.target.to_string()).await?;
    let noted = pairing::read(source).await.map_err(reason)?;
    match noted.and_then(|noted| noted.mismatch(&pair)) {
        Some(mismatch) => Err(mismatch.into()),
        None => Ok(()),
    }
}

/// A session for the mapping's expressions, on the same database; the other session was opened
/// first.
async fn evaluator(url: &DatabaseUrl) -> Result<Evaluator> {
    let evaluator = Database::new(url.clone(), "command")?.evaluator().await;
    evaluator.with_context(|| format!("cannot use the source database ({url})"))
}

/// The same for a command that keeps a lock while it changes the schema; `what` is its name.
async fn direct_source(url: &DatabaseUrl, what: &str) -> Result<Direct> {
    source_session(url).await?.direct().map_err(|_| {
        anyhow::anyhow!(
            "{what} cannot work through a pooler, because it keeps a lock from transaction to transaction; nothing \
             was changed. Give it a direct connection to the source ({url}) in {}",
            url.setting()
        )
    })
}

/// Takes the lock that excludes other migrations, or reports whose session holds it.
async fn lock_schema(source: &Direct) -> Result<()> {
    match schema::lock(source).await.map_err(reason)? {
        None => Ok(()),
        Some(holder) => bail!(
            "{holder} holds the lock of `schoolbell migrate`, so nothing was changed. If it is no migration that is at \
             work, end it in the source: {}",
            holder.end()
        ),
    }
}

/// A sleeping service should see now what a command made due, not at its next sweep.
async fn ring(source: &Session) -> Result<()> {
    let sql = format!(
        "select pg_catalog.pg_notify('{}', {})",
        bell::CHANNEL,
        notice::retry_payload_sql()
    );
    source.execute(&sql, &[]).await.map_err(reason)?;
    Ok(())
}

/// A driver's error as one line, without the row that a DETAIL would quote.
#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn reason(error: tokio_postgres::Error) -> anyhow::Error {
    anyhow::anyhow!(crate::postgres::failure::chain(&error))
}

/// Why the work could not start or continue, with the setting to look at.
fn stopped(config: &Config) -> impl Fn(Fatal) -> anyhow::Error {
    let (source, target) = (config.source.setting(), config.target.setting());
    move |fatal| match fatal {
        Fatal::Unreachable { .. } if source == target => anyhow::anyhow!("{fatal}; check {source}"),
        Fatal::Unreachable { .. } => {
            anyhow::anyhow!("{fatal}; check {source} for the source, {target} for the target")
        }
        fatal => fatal.into(),
    }
}

/// One line for stdout.
fn say_line(text: &str) -> Result<()> {
    put(&format!("{}\n", visible::line(text)))
}

/// A text of several lines for stdout. Values in it are escaped already, or are to be on several lines.
fn say_text(text: &str) -> Result<()> {
    put(&visible::lines(text))
}

/// SQL that somebody may paste. Names and literals of ours are printable (`name`), but a mapping's own SQL may hold
/// what cannot be printed, and is another statement when it is escaped.
fn say_sql(sql: &str) -> Result<()> {
    if visible::lines(sql) != sql {
        say!("-- {NOT_TO_BE_PASTED}")?;
    }
    say_text(sql)
}

/// Printed before a statement or command whose text had to be escaped.
const NOT_TO_BE_PASTED: &str =
    "do not paste this: it holds characters that a terminal must not get, here escaped";

/// One line for stderr.
fn tell_line(text: &str) {
    _ = writeln!(std::io::stderr().lock(), "{}", visible::line(text));
}

/// Writes to stdout what is escaped already. A reader who has seen enough (`| head`) does not stop the work; a full
/// disk does.
fn put(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            NOBODY_READS.store(true, Ordering::Relaxed);
            Ok(())
        }
        written => written.context("cannot write the result to standard output"),
    }
}

/// The reader of standard output is gone, as `head` when it has seen enough.
static NOBODY_READS: AtomicBool = AtomicBool::new(false);

/// Whether the reader of standard output is gone. A command that only reports can end then.
fn nobody_reads() -> bool {
    NOBODY_READS.load(Ordering::Relaxed)
}

/// Asks before something is destroyed; true when the answer is yes. `what` is a verb with its object.
fn confirmed(what: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask at; pass --yes to {what}");
    }
    let mut question = what.to_string();
    question[..1].make_ascii_uppercase();
    put(&format!("{}? Type yes: ", visible::line(&question)))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(answer.trim() == "yes")
}

/// Prints a report for a machine.
fn print_json(report: &impl serde::Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(report).context("the report does not fit into JSON")?;
    put(&format!("{}\n", visible::unicode(&json)))
}

/// A table for a terminal, plain where there is none.
struct TextTable(comfy_table::Table);

impl TextTable {
    fn new<const N: usize>(head: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(head.map(str::to_uppercase));
        Self(table)
    }

    /// Here, because a newline within a cell would be a line of the table.
    fn add_row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        let cells = cells.into_iter().map(|cell| visible::line(cell.as_ref()).into_owned());
        self.0.add_row(cells.collect::<Vec<_>>());
    }

    fn print(&self) -> Result<()> {
        say_text(&format!("{}\n", self.0))
    }
}

/// An error with its reasons, as people read it: one line, but for what was made to be several.
pub fn sentence(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(lines_of).collect();
    causes.join(": ")
}

fn lines_of(cause: &(dyn std::error::Error + 'static)) -> String {
    let fatal = cause.downcast_ref::<Fatal>().and_then(|fatal| match fatal {
        Fatal::Plan(unplannable) => Some(unplannable),
        _ => None,
    });
    let unplannable = cause.downcast_ref::<Unplannable>().or(fatal).and_then(|error| match error {
        Unplannable::Mapping(unusable) => Some(unusable),
        Unplannable::Database(_) => None,
    });
    let findings = cause.downcast_ref::<mappings::Unusable>().or(unplannable);
    let lines = match (findings, cause.downcast_ref::<visible::Lines>()) {
        (Some(unusable), _) => {
            let findings = unusable.findings.iter();
            findings.map(|finding| finding.in_file(&unusable.file)).collect()
        }
        (None, Some(visible::Lines(lines))) => lines.clone(),
        // What the programs of a throw-away server said.
        (None, None) if cause.is::<ClusterError>() => {
            cause.to_string().lines().map(str::to_string).collect()
        }
        (None, None) => vec![cause.to_string()],
    };
    let lines: Vec<_> = lines.iter().map(|line| visible::line(line)).collect();
    lines.join("\n")
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn watch() -> Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    /// Returns at the next of them.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Turns true at the first SIGINT or SIGTERM; the second one ends the process where it is, which loses nothing.
fn stop_signal() -> Result<watch::Receiver<bool>> {
    let mut signals = Signals::watch()?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("stopping after the current batch; a second signal stops at once");
        stop.send_replace(true);
        signals.next().await;
        tracing::warn!("stopped at once; the current batch will be applied again");
        std::process::exit(2);
    });
    Ok(stopped)
}
