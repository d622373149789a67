//! The processes and the simulated Salesforce that a run works with.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use schoolbell::demo::cluster::Cluster;
use schoolbell::demo::stand_in;
use schoolbell::failpoint::Failpoint;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::support::program;
use crate::support::proxy::Proxy;

/// A running program behind its proxies.
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) source: Proxy,
    pub(super) target: Proxy,
    /// Where its failpoints are armed.
    pub(super) failpoints: PathBuf,
    pub(super) log: PathBuf,
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.child.id().expect("it was not waited for")
    }

    pub(super) fn arm(&self, place: Failpoint, order: &str) {
        _ = std::fs::remove_file(self.reached_file(place));
        std::fs::write(self.failpoints.join(place.name()), order).unwrap();
    }

    pub(super) fn disarm(&self, place: Failpoint) {
        _ = std::fs::remove_file(self.failpoints.join(place.name()));
    }

    pub(super) fn reached_file(&self, place: Failpoint) -> PathBuf {
        self.failpoints.join(format!("{}.reached", place.name()))
    }

    pub(super) fn has_reached(&self, place: Failpoint) -> bool {
        self.reached_file(place).exists()
    }
}

/// Salesforce, simulated for as long as this lives, whatever happens to the server.
pub(super) struct Salesforce {
    pub(super) gate: Arc<Mutex<()>>,
    pub(super) task: JoinHandle<()>,
}

impl Salesforce {
    pub(super) fn start(url: String) -> Self {
        let gate = Arc::new(Mutex::new(()));
        let open = gate.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Ok((client, connection)) =
                    tokio_postgres::connect(&url, tokio_postgres::NoTls).await
                {
                    tokio::spawn(connection);
                    loop {
                        let _open = open.lock().await;
                        if stand_in::accept(&client).await.is_err() && client.is_closed() {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { gate, task }
    }
}

impl Drop for Salesforce {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) async fn process(source: &Cluster, target: &Cluster, folder: &Path) -> Process {
    let (source, target) = (Proxy::start(source.port()).await, Proxy::start(target.port()).await);
    let (failpoints, log) = (folder.join("failpoints"), folder.join("log"));
    std::fs::create_dir_all(&failpoints).unwrap();
    let child = spawn(&source, &target, &failpoints, &log);
    Process { child, source, target, failpoints, log }
}

pub(super) fn spawn(source: &Proxy, target: &Proxy, failpoints: &Path, log: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    Command::new(program::path())
        .arg("run")
        .env_clear()
        .env("DATABASE_URL", source.url("source"))
        .env("SALESFORCE_CONNECT_URL", target.url("target"))
        .env("SALESFORCE_ENABLED", "true")
        .env("FAILPOINTS", failpoints)
        .env("SCHOOLBELL_HTTP", "off")
        .env("RUST_LOG", "schoolbell=debug")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}
