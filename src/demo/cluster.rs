//! A throw-away Postgres cluster: started in a moment, gone without a trace.
//!
//! Promise: no server process and no file outlives this process, not even when it is killed (see
//! `watchdog`). Nothing that runs on this machine already is touched.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};

use super::programs::{self, User};
use super::watchdog::Watchdog;
use crate::postgres::failure::chain;
use crate::postgres::name::ident;

/// Ports to choose from: below the range that systems use for outgoing connections. Within that
/// range a client that connects to a stopped server may be given the server's own port and end up
/// talking to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Another program may take a port between our look and the server's start.
const PORT_ATTEMPTS: u32 = 10;
/// Crash recovery on a busy machine included.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// After this a clean shutdown becomes an immediate one: a subscriber that does not read can hold
/// it up for ever.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any test or demo can take.
const PASSWORD_BYTES: usize = 24;
/// Between two looks at a server that starts or stops.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What a cluster should be like.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether a commit survives a crash of the machine. Off by default: nothing here is worth a
    /// disk flush. A crash of the server alone, which tests provoke, loses nothing either way.
    pub durable: bool,
    /// More lines of `postgresql.conf`, for example `wal_level = logical`. They win over ours.
    pub settings: Vec<String>,
    /// The folder of the server's programs. None: the one that is found on this machine.
    pub programs: Option<PathBuf>,
    /// Start it even when it is too old to work with, to test how such a server is refused.
    pub too_old: bool,
    /// Let everybody on this machine in without a password, as a superuser: who that is can run programs as the
    /// server's user. For tests, which connect as many roles and keep nothing.
    pub open: bool,
    /// Variables of the server's environment, for example where the system's locales are.
    pub environment: Vec<(String, String)>,
}

impl Options {
    /// For tests: everybody on this machine is let in. Everything else is as by default.
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Connections are ended, data is written out.
    Fast,
    /// As if it had crashed: recovers when it starts again.
    Immediate,
}

/// Why there is no cluster, by what is to be done about it.
#[derive(Debug)]
pub enum ClusterError {
    /// The machine lacks something. The text says what, and how to get it.
    Missing(String),
    /// A step failed. The reason ends with what the server said.
    Failed {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        reason: String,
    },
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => f.write_str(what),
            Self::Failed { doing, reason } => write!(f, "{doing}: {reason}"),
        }
    }
}

impl std::error::Error for ClusterError {}

fn failed<E: fmt::Display>(doing: &'static str) -> impl Fn(E) -> ClusterError {
    move |error| ClusterError::Failed { doing, reason: error.to_string() }
}

fn refused(doing: &'static str) -> impl Fn(tokio_postgres::Error) -> ClusterError {
    move |error| ClusterError::Failed { doing, reason: chain(&error) }
}

/// A running cluster. Dropping it stops it the hard way and removes it, within a moment.
#[derive(Debug)]
pub struct Cluster {
    place: Home,
    port: u16,
    running: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    /// None while it is shut down.
    server: Option<Child>,
    /// Who is to be killed with the server.
    children: Vec<u32>,
    watchdog: Watchdog,
}

/// Where the programs and the files are, and who runs them.
#[derive(Debug)]
struct Home {
    programs: PathBuf,
    user: Option<User>,
    folder: PathBuf,
    /// The superuser's; none where everybody is let in.
    password: Option<Password>,
    environment: Vec<(String, String)>,
}

/// A password, which cannot be printed by mistake.
struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Password {
    /// One that nobody guesses, of characters that mean themselves in a URL.
    fn random() -> Result<Self, ClusterError> {
        let mut bytes = [0; PASSWORD_BYTES];
        let random = ring::default_provider().secure_random;
        random.fill(&mut bytes).map_err(|_| ClusterError::Failed {
            doing: "making a password",
            reason: "the system gives no random numbers".into(),
        })?;
        Ok(Self(bytes.map(|byte| format!("{byte:02x}")).concat()))
    }
}

impl Cluster {
    /// Makes a cluster and waits until it accepts connections.
    pub async fn start(options: Options) -> Result<Self, ClusterError> {
        let programs = match &options.programs {
            Some(folder) => programs::checked("the folder of the programs", folder.clone()),
            None => programs::find(),
        };
        let programs = programs.map_err(ClusterError::Missing)?;
        let folder = tempfile::Builder::new()
            .prefix("schoolbell-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(reachable_temp_folder())
            .map_err(failed("making a temporary folder"))?;
        let user = programs::other_user(folder.path()).map_err(ClusterError::Missing)?;
        if let Some(user) = user {
            chown(folder.path(), Some(user.uid), Some(user.gid))
                .map_err(failed("giving the temporary folder to the server's user"))?;
        }
        let mut watchdog =
            Watchdog::start(folder.path()).map_err(failed("starting the watchdog (sh)"))?;
        // From here on the watchdog removes it, after the server has ended.
        let password = (!options.open).then(Password::random).transpose()?;
        let environment = options.environment.clone();
        let place = Home { programs, user, folder: folder.keep(), password, environment };

        place.make_data(&options, &mut watchdog).await?;
        let mut running = Running { server: None, children: Vec::new(), watchdog };
        let port = place.launch_on_some_port(&mut running).await?;
        let cluster = Self { place, port, running: Mutex::new(running) };
        if !options.too_old {
            cluster.check_version().await?;
        }
        Ok(cluster)
    }

    /// A libpq URL of one of its databases, for a superuser, with the password if there is one.
    pub fn url(&self, database: &str) -> String {
        let password = self.password().map(|password| format!(":{password}")).unwrap_or_default();
        format!("postgres://postgres{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The same without the password: for a command line, which every user of the machine can read.
    pub fn url_without_password(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The superuser's password; none where everybody is let in.
    pub fn password(&self) -> Option<&str> {
        self.place.password.as_ref().map(|password| password.0.as_str())
    }

    /// The TCP port on 127.0.0.1. It stays the same over a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the server's programs, `psql` among them where it is installed.
    pub fn programs(&self) -> &Path {
        &self.place.programs
    }

    /// Its folder: data, server log, socket. It vanishes with the cluster.
    pub fn folder(&self) -> &Path {
        &self.place.folder
    }

    /// Opens a connection, driven by a task of its own on the current runtime until the client is dropped.
    pub async fn connect(&self, database: &str) -> Result<Client, ClusterError> {
        let opened = self.place.connect(self.port, database).await;
        opened.map_err(refused("connecting to the throw-away server"))
    }

    /// Creates a database, as a copy of `template` where one is named. Nobody may be connected to that one.
    pub async fn create_database(
        &self,
        name: &str,
        template: Option<&str>,
    ) -> Result<(), ClusterError> {
        let mut sql = format!("create database {}", ident(name));
        if let Some(template) = template {
            sql.push_str(&format!(" template {}", ident(template)));
        }
        self.administer(&sql, "creating a database").await
    }

    /// Drops a database, and ends the connections to it. One that is not there is no mistake.
    pub async fn drop_database(&self, name: &str) -> Result<(), ClusterError> {
        let sql = format!("drop database if exists {} with (force)", ident(name));
        self.administer(&sql, "dropping a database").await
    }

    async fn administer(&self, sql: &str, doing: &'static str) -> Result<(), ClusterError> {
        self.connect("postgres").await?.batch_execute(sql).await.map_err(refused(doing))
    }

    /// Stops the server and starts it again, with the same data on the same port.
    pub async fn restart(&self, how: Shutdown) -> Result<(), ClusterError> {
        self.shut_down(how).await?;
        self.start_up().await
    }

    /// Stops the server and leaves it stopped; the data stays. Stopping it twice is no mistake.
    pub async fn shut_down(&self, how: Shutdown) -> Result<(), ClusterError> {
        self.running.lock().await.shut_down(how).await
    }

    /// Starts a server that was shut down. Starting it twice is no mistake.
    pub async fn start_up(&self) -> Result<(), ClusterError> {
        let mut running = self.running.lock().await;
        match running.server {
            Some(_) => Ok(()),
            None => self.place.launch(&mut running, self.port).await.map_err(ClusterError::from),
        }
    }

    /// Should this process end without ending its child `pid`, the child is killed with the server.
    pub async fn kill_with_us(&self, pid: u32) -> Result<(), ClusterError> {
        let mut running = self.running.lock().await;
        running.children.push(pid);
        running.tell_of_children()
    }

    /// Undoes [`Cluster::kill_with_us`]. To be called once the child was waited for, because its
    /// process id may be reused from then on.
    pub async fn spare(&self, pid: u32) -> Result<(), ClusterError> {
        let mut running = self.running.lock().await;
        running.children.retain(|child| *child != pid);
        running.tell_of_children()
    }

    /// Stops the server in good order and removes everything.
    pub async fn stop(self) -> Result<(), ClusterError> {
        self.shut_down(Shutdown::Fast).await
        // The watchdog removes the folder when it is dropped, and the drop waits for that.
    }

    /// Old servers lack functions that we use; one clear sentence here is better than a strange
    /// error later.
    async fn check_version(&self) -> Result<(), ClusterError> {
        let client = self.connect("postgres").await?;
        let row = client
            .query_one("select current_setting('server_version_num')::integer / 10000", &[])
            .await
            .map_err(refused("asking for the server's version"))?;
        let version: i32 = row.get(0);
        if version < programs::OLDEST as i32 {
            return Err(ClusterError::Missing(format!(
                "{} has PostgreSQL {version}, needed is {} or newer: install one, or name its folder in {}",
                self.place.programs.display(),
                programs::OLDEST,
                programs::BIN_VARIABLE
            )));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watchdog.finish();
        // The watchdog is not the server's parent. Its parent must ask for its exit code, or a
        // zombie stays.
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Why a server did not come up.
enum Launch {
    /// Another one may do.
    PortTaken,
    Failed(ClusterError),
}

impl From<ClusterError> for Launch {
    fn from(error: ClusterError) -> Self {
        Self::Failed(error)
    }
}

impl From<Launch> for ClusterError {
    fn from(launch: Launch) -> Self {
        match launch {
            Launch::Failed(error) => error,
            Launch::PortTaken => Self::Failed {
                doing: "starting the throw-away server",
                reason: "another program has taken its port".into(),
            },
        }
    }
}

impl Home {
    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// A server program, run by a user who may run it, in a group of its own: Ctrl-C in a terminal
    /// is for us to handle, in the right order.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(&self.folder).stdin(Stdio::null()).process_group(0);
        // Settings meant for clients (PGDATESTYLE, PGOPTIONS…) would otherwise become the server's.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    async fn make_data(
        &self,
        options: &Options,
        watchdog: &mut Watchdog,
    ) -> Result<(), ClusterError> {
        let doing = "making the data folder (initdb)";
        let mut initdb = self.program("initdb");
        // Locale C is on every machine and the same on all.
        initdb
            .args(["--no-sync", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"])
            .arg(self.data());
        match &self.password {
            None => _ = initdb.args(["-A", "trust"]),
            Some(password) => {
                self.write_password(password).map_err(failed(doing))?;
                initdb.args(["-A", "scram-sha-256", "--pwfile"]).arg(self.password_file());
            }
        }
        let child =
            initdb.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed(doing))?;
        watchdog.others(&[child.id()]).map_err(failed(doing))?;
        let output: Output = tokio::task::spawn_blocking(|| child.wait_with_output())
            .await
            .expect("waiting does not panic")
            .map_err(failed(doing))?;
        watchdog.others(&[]).map_err(failed(doing))?;
        if self.password.is_some() {
            fs::remove_file(self.password_file()).map_err(failed(doing))?;
        }
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_string();
            return Err(ClusterError::Failed { doing, reason });
        }

        let configuration = self.data().join("postgresql.conf");
        let text = fs::read_to_string(&configuration).map_err(failed(doing))?;
        // The last mention of a setting wins.
        fs::write(&configuration, text + &self.settings(options)).map_err(failed(doing))
    }

    /// Where initdb reads the password from: what is on a command line can be read by every user of the machine.
    fn password_file(&self) -> PathBuf {
        self.folder.join("password")
    }

    fn write_password(&self, password: &Password) -> io::Result<()> {
        let file = self.password_file();
        let mut open = fs::File::options().write(true).create_new(true).mode(0o600).open(&file)?;
        open.write_all(password.0.as_bytes())?;
        match self.user {
            Some(user) => chown(&file, Some(user.uid), Some(user.gid)),
            None => Ok(()),
        }
    }

    fn settings(&self, options: &Options) -> String {
        let mut lines = vec![
            "listen_addresses = '127.0.0.1'".to_string(),
            // Debian's default folder is not ours to write to.
            format!("unix_socket_directories = '{}'", self.folder.display()),
            "unix_socket_permissions = 0700".to_string(),
            "log_destination = 'stderr'".to_string(),
            "logging_collector = off".to_string(),
        ];
        if !options.durable {
            // Not synchronous_commit = off: then a commit may be lost when the server crashes,
            // which tests provoke, and without fsync it would save nothing.
            lines.extend(["fsync = off", "full_page_writes = off"].map(String::from));
        }
        lines.extend(options.settings.iter().cloned());
        format!("\n{}\n", lines.join("\n"))
    }

    async fn launch_on_some_port(&self, running: &mut Running) -> Result<u16, ClusterError> {
        for _ in 0..PORT_ATTEMPTS {
            let Some(port) = free_port() else { continue };
            match self.launch(running, port).await {
                Ok(()) => return Ok(port),
                Err(Launch::PortTaken) => {}
                Err(Launch::Failed(error)) => return Err(error),
            }
        }
        Err(Launch::PortTaken.into())
    }

    async fn launch(&self, running: &mut Running, port: u16) -> Result<(), Launch> {
        let doing = "starting the throw-away server";
        let log = fs::File::options().append(true).create(true).mode(0o600).open(self.log());
        let log = log.map_err(failed(doing))?;
        let server = self
            .program("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-p", &port.to_string()])
            .stdout(log.try_clone().map_err(failed(doing))?)
            .stderr(log)
            .spawn()
            .map_err(failed(doing))?;
        let pid = server.id();
        let server = running.server.insert(server);
        running.watchdog.server(Some(pid)).map_err(failed(doing))?;

        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = server.try_wait().map_err(failed(doing))? {
                running.server = None;
                running.watchdog.server(None).map_err(failed(doing))?;
                let log = self.log_tail();
                return Err(match log.contains("Address already in use") {
                    true => Launch::PortTaken,
                    false => {
                        let reason = format!("it ended with {status}; it said:\n{log}");
                        ClusterError::Failed { doing, reason }.into()
                    }
                });
            }
            // Only then is the port certainly ours and not that of a server that was there before.
            if self.says_ready(pid) {
                match self.connect(port, "postgres").await {
                    Ok(_) => return Ok(()),
                    Err(error) if Instant::now() >= deadline => {
                        return Err(refused(doing)(error).into());
                    }
                    Err(_) => {}
                }
            } else if Instant::now() >= deadline {
                let reason = format!(
                    "not ready after {} s; it said:\n{}",
                    START_TIMEOUT.as_secs(),
                    self.log_tail()
                );
                return Err(ClusterError::Failed { doing, reason }.into());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// What `pg_ctl` goes by: the lock file's first line is the process, its eighth the state. A server in
    /// recovery that answers is a standby.
    fn says_ready(&self, pid: u32) -> bool {
        let Ok(text) = fs::read_to_string(self.data().join("postmaster.pid")) else {
            return false;
        };
        let mut lines = text.lines().map(str::trim);
        lines.next() == Some(&pid.to_string()) && matches!(lines.nth(6), Some("ready" | "standby"))
    }

    async fn connect(&self, port: u16, database: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).user("postgres").dbname(database);
        config.application_name("demo");
        if let Some(password) = &self.password {
            config.password(&password.0);
        }
        let (client, connection) = config.connect(NoTls).await?;
        // Ends with the client or the server; the client's user sees the error.
        tokio::spawn(connection);
        Ok(client)
    }

    fn log_tail(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        tail(&String::from_utf8_lossy(&text), 10)
    }
}

impl Running {
    fn tell_of_children(&mut self) -> Result<(), ClusterError> {
        self.watchdog
            .others(&self.children)
            .map_err(failed("telling the watchdog of a child process"))
    }

    async fn shut_down(&mut self, how: Shutdown) -> Result<(), ClusterError> {
        let doing = "stopping the throw-away server";
        let Some(server) = &mut self.server else { return Ok(()) };
        let signals: &[&str] = match how {
            Shutdown::Fast => &["INT", "QUIT", "KILL"],
            Shutdown::Immediate => &["QUIT", "KILL"],
        };
        for signal in signals {
            send(signal, server.id()).map_err(failed(doing))?;
            let deadline = Instant::now() + STOP_TIMEOUT;
            while Instant::now() < deadline {
                if server.try_wait().map_err(failed(doing))?.is_some() {
                    self.server = None;
                    return self.watchdog.server(None).map_err(failed(doing));
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Err(ClusterError::Failed { doing, reason: "it does not end".into() })
    }
}

/// Sends a signal to a child of ours that has not been waited for, so that the number is still its own.
pub fn send(signal: &str, pid: u32) -> io::Result<()> {
    // The standard library sends SIGKILL only, and not every system has a program `kill`; every shell has one.
    let pid = pid.to_string();
    let status = Command::new("sh")
        .args(["-c", r#"kill -s "$0" "$1""#, signal, &pid])
        .stderr(Stdio::null())
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("could not send SIG{signal} to process {pid}"))),
    }
}

/// The system's folder for temporary files, or `/tmp` where that one is inside root's private folder: then we
/// are root, and the server runs as somebody else.
fn reachable_temp_folder() -> PathBuf {
    let folder = std::env::temp_dir();
    let only_for_root = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|found| found.uid() == 0 && found.mode() & 0o001 == 0)
    };
    match folder.ancestors().any(only_for_root) {
        true => "/tmp".into(),
        false => folder,
    }
}

fn free_port() -> Option<u16> {
    let port = fastrand::u16(PORTS);
    TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_end_of_the_log() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("", 2), "");
    }
}
