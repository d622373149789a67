//! Runs Schoolbell's own commands as a user would: the same program, as a process of its own.
//!
//! The only file of the demo that knows how the program is called.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use super::cluster::{self, Cluster};

/// A stop finishes the batch in hand, which takes well under a second.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Settings of the person who runs the demo, which must not lead it to a database of theirs.
const FOREIGN_SETTINGS: [&str; 5] =
    ["SCHOOLBELL_", "SALESFORCE_", "HEROKUCONNECT_", "PG", "RUST_LOG"];

/// This program, set up for the demo's two databases.
#[derive(Debug)]
pub struct Program {
    program: PathBuf,
    source_url: String,
    target_url: String,
    service_log: PathBuf,
    /// Where the service shows its page.
    http: &'static str,
}

/// A running `schoolbell run`.
#[derive(Debug)]
pub struct RunningService {
    child: Child,
    pid: u32,
}

impl Program {
    /// Finds itself. `page`: its service shows one, on a port that is free.
    pub fn new(cluster: &Cluster, source: &str, target: &str, page: bool) -> Result<Self> {
        Ok(Self {
            program: std::env::current_exe().context("cannot find this program's own file")?,
            source_url: cluster.url(source),
            target_url: cluster.url(target),
            service_log: cluster.folder().join("service.log"),
            http: if page { "127.0.0.1:0" } else { "off" },
        })
    }

    /// Runs a command to its end and returns what it printed.
    pub async fn run(&self, cluster: &Cluster, arguments: &[&str]) -> Result<String> {
        let doing = || format!("cannot run `schoolbell {}`", arguments.join(" "));
        let mut command = self.command();
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().with_context(doing)?;
        let pid = child.id().context("a child that was not waited for has a number")?;
        cluster.kill_with_us(pid).await?;
        let output = child.wait_with_output().await.with_context(doing)?;
        cluster.spare(pid).await?;
        // 1: done, and something was found. Whether that is as it should be is checked at the end.
        if !matches!(output.status.code(), Some(0 | 1)) {
            bail!(
                "`schoolbell {}` failed: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_string())
    }

    /// Starts the service. Its log goes to a file.
    pub async fn start_service(&self, cluster: &Cluster) -> Result<RunningService> {
        let log = File::options().append(true).create(true).mode(0o600).open(&self.service_log);
        let log = log.context("cannot write the service's log")?;
        let child = self
            .command()
            .arg("run")
            .stdout(log.try_clone().context("cannot write the service's log")?)
            .stderr(log)
            .spawn()
            .context("cannot start `schoolbell run`")?;
        let pid = child.id().context("a child that was not waited for has a number")?;
        cluster.kill_with_us(pid).await?;
        Ok(RunningService { child, pid })
    }

    /// The variables that make this program work on the demo's databases.
    pub fn environment(&self) -> [(&'static str, &str); 3] {
        [
            ("DATABASE_URL", &self.source_url),
            ("SALESFORCE_CONNECT_URL", &self.target_url),
            ("SALESFORCE_ENABLED", "true"),
        ]
    }

    /// The file of this program.
    pub fn path(&self) -> &PathBuf {
        &self.program
    }

    /// The service's log.
    pub fn service_log(&self) -> &PathBuf {
        &self.service_log
    }

    /// The last lines of the service's log.
    pub fn service_said(&self, lines: usize) -> String {
        let log = std::fs::read(&self.service_log).unwrap_or_default();
        cluster::tail(&String::from_utf8_lossy(&log), lines)
    }

    /// Where the running service shows its page, as its log says.
    pub fn page(&self) -> Option<String> {
        let log = std::fs::read(&self.service_log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let url = &log[log.rfind("http://")?..];
        url.split_whitespace().next().map(str::to_string)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if FOREIGN_SETTINGS.iter().any(|foreign| name.starts_with(foreign)) {
                command.env_remove(&*name);
            }
        }
        command
            .envs(self.environment())
            .env("SCHOOLBELL_HTTP", self.http)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            // Ctrl-C in a terminal is for us: what runs is stopped in its turn.
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

impl RunningService {
    /// Asks it to leave (SIGTERM) and returns how long that took.
    pub async fn stop(mut self, cluster: &Cluster) -> Result<Duration> {
        let asked = Instant::now();
        // None: it has ended already, and how is seen below.
        if let Some(pid) = self.child.id() {
            cluster::send("TERM", pid).context("cannot stop the service")?;
        }
        let status = tokio::time::timeout(STOP_TIMEOUT, self.child.wait())
            .await
            .context("the service does not stop")?
            .context("cannot wait for the service")?;
        cluster.spare(self.pid).await?;
        if !status.success() {
            bail!("the service ended with {status}");
        }
        Ok(asked.elapsed())
    }

    /// How it ended, if it has, which nobody asked for.
    pub fn has_ended(&mut self) -> Option<String> {
        self.child
            .try_wait()
            .ok()
            .flatten()
            .map(|status| format!("the service ended with {status}"))
    }

    /// Waits for an end that nobody asked for.
    pub async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("the service ended with {status}"),
            Err(error) => format!("the service cannot be watched: {error}"),
        }
    }
}
