//! Runs the built program as a user would, and shows everything about it when it fails.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Stdio;

use tokio::process::{Child, Command};

/// The program that cargo built for this test run.
pub fn path() -> &'static str {
    env!("CARGO_BIN_EXE_schoolbell")
}

/// A command line with its environment. Nothing is inherited that could name a database.
pub struct Program {
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    address_space: Option<u32>,
}

/// How it ended.
pub struct Ended {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "$ {command}\nexit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

impl Program {
    pub fn new(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_string()).collect();
        // Many run at a time, and one address is not enough for all.
        let environment = BTreeMap::from([("SCHOOLBELL_HTTP".into(), "off".into())]);
        Self { arguments, environment, address_space: None }
    }

    /// It may have this many MiB of memory, mapped or used.
    pub fn within(mut self, mebibytes: u32) -> Self {
        self.address_space = Some(mebibytes);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    fn command(&self) -> Command {
        let mut arenas = None;
        let mut command = match self.address_space {
            None => Command::new(path()),
            Some(mebibytes) => {
                let mut command = Command::new("/bin/sh");
                let limit = format!("ulimit -v {} && exec \"$0\" \"$@\"", mebibytes * 1024);
                command.args(["-c", &limit, path()]);
                // What the allocator keeps in reserve for each thread is not what is measured.
                arenas = Some(("MALLOC_ARENA_MAX", "1"));
                command
            }
        };
        command.args(&self.arguments).env_clear().envs(&self.environment).envs(arenas);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    pub async fn run(&self) -> Ended {
        let output = self.command().output().await.unwrap();
        Ended {
            command: format!("schoolbell {}", self.arguments.join(" ")),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts it and leaves it running; it is killed when the handle is dropped.
    pub fn spawn(&self) -> Child {
        self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Sends a signal, such as `TERM`, to a process that was started here.
pub fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status();
    assert!(sent.unwrap().success(), "kill -{name} {pid}");
}
