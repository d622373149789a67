//! The program under measurement: its commands, and the running service.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use schoolbell::demo::cluster::send;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::processor;
use crate::stage::Pair;

/// Where the program is.
pub const PATH: &str = env!("CARGO_BIN_EXE_schoolbell");

fn program(pair: &Pair, arguments: &[&str]) -> Command {
    let mut command = Command::new(PATH);
    command
        .args(arguments)
        .env("DATABASE_URL", format!("{}?sslmode=disable", pair.source_url))
        .env("SALESFORCE_CONNECT_URL", format!("{}?sslmode=disable", pair.target_url))
        .env("SALESFORCE_ENABLED", "true")
        .env("NO_COLOR", "1")
        .env("SCHOOLBELL_HTTP", "off")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end, and returns how long it took.
pub async fn command(pair: &Pair, arguments: &[&str]) -> Result<Duration> {
    let began = Instant::now();
    let output = program(pair, arguments).output().await?;
    let took = began.elapsed();
    ensure!(
        output.status.success(),
        "schoolbell {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(took)
}

/// `schoolbell run`.
pub struct Bridge {
    child: Child,
}

impl Bridge {
    /// Started, and the writer.
    pub async fn start(pair: &Pair) -> Result<Self> {
        let mut child =
            program(pair, &["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("its stderr is ours")?).lines();
        loop {
            let line = lines.next_line().await?.context("the service has ended")?;
            if line.contains("working as the writer") {
                break;
            }
        }
        // Everything else that it prints is shown.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("   {line}");
            }
        });
        Ok(Self { child })
    }

    fn pid(&self) -> Result<u32> {
        self.child.id().context("the service has ended")
    }

    /// Most memory it ever held, in KiB. None where the system does not tell in /proc.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().ok()?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Processor time so far. None where the system does not tell in /proc.
    pub fn processor_time(&self) -> Option<Duration> {
        processor::time_of(self.pid().ok()?)
    }

    /// As SIGTERM does: what is in hand is finished.
    pub async fn stop(mut self) -> Result<()> {
        send("TERM", self.pid()?)?;
        let status = self.child.wait().await?;
        ensure!(status.success(), "the service ended with {status}");
        Ok(())
    }
}

/// Waits until the outbox is empty. Not to be used while something is timed: it costs the source.
pub async fn caught_up(pair: &Pair) -> Result<()> {
    while crate::stage::number(&pair.source, "select count(*) from schoolbell.change").await? > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
