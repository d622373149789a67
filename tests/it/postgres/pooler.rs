//! A pooler in transaction mode in front of the source: the service works through it, and leaves nothing of its
//! own in the sessions that the pooler lends to the application next.

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use schoolbell::demo::cluster::{self, Cluster};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use crate::support::left_out::left_out;
use crate::support::program::{Ended, Program};
use crate::support::{TestBell, deleting_mapping, eventually, texts};

/// Debian puts it where only root's PATH leads.
const PLACES: [&str; 3] = ["/usr/sbin", "/opt/homebrew/bin", "/usr/local/bin"];
/// The pooler has this many of the server's sessions.
const POOL: usize = 4;
/// A program that refuses to start does so within a moment; one that does not would run for ever.
const SOON: Duration = Duration::from_secs(30);
/// What the pooler does with the startup parameter that carries our settings.
const BOTH: [Options; 2] = [Options::Refused, Options::Ignored];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Options {
    Refused,
    Ignored,
}

/// A PgBouncer in front of a cluster. It ends with the test.
pub struct Pooler {
    port: u16,
    _process: Child,
}

impl Pooler {
    /// None where PgBouncer is not installed.
    pub async fn start(cluster: &Cluster, options: Options) -> Option<Self> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut folders = path.split(':').chain(PLACES);
        let Some(folder) =
            folders.find(|folder| std::fs::exists(format!("{folder}/pgbouncer")).unwrap())
        else {
            left_out("PgBouncer is not there; scripts/setup pooler installs it");
            return None;
        };
        let port = fastrand::u16(20_000..32_000);
        let ignored = match options {
            Options::Refused => "extra_float_digits",
            Options::Ignored => "extra_float_digits, options",
        };
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = {POOL}\nignore_startup_parameters = {ignored}\n",
            cluster.port()
        );
        // The cluster's folder goes with the cluster.
        let file = cluster.folder().join(format!("pgbouncer-{port}.ini"));
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new(format!("{folder}/pgbouncer"));
        command
            .arg("-q")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Like the server it refuses to run as root, and runs as the same user.
        let owner = std::fs::metadata(cluster.folder()).unwrap();
        if owner.uid() != std::fs::metadata(&file).unwrap().uid() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        let process = command.kill_on_drop(true).spawn().unwrap();
        cluster.kill_with_us(process.id().unwrap()).await.unwrap();
        let pooler = Self { port, _process: process };
        eventually("the pooler answers", || pooler.connect("postgres")).await;
        Some(pooler)
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// As the application connects: it asks for nothing.
    async fn connect(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The state of each of the server's sessions as the application finds it: all settings, and
    /// everything else that a session keeps.
    async fn sessions(&self, database: &str) -> Vec<Vec<String>> {
        let mut clients = Vec::new();
        for _ in 0..POOL {
            let client = self.connect(database).await.unwrap();
            // A transaction keeps its session, so that the next client gets another.
            client.batch_execute("begin").await.unwrap();
            clients.push(client);
        }
        let mut sessions = Vec::new();
        for client in &clients {
            let sql = "select name || ' = ' || setting from pg_settings where name not like 'plpgsql.%' \
                       union all select 'prepared ' || name from pg_prepared_statements \
                       union all select 'listens to ' || pg_listening_channels() \
                       union all select 'locks ' || objid from pg_locks where pid = pg_backend_pid() and locktype = 'advisory' \
                       union all select 'mark ' || current_setting('schoolbell.session', true)";
            let rows = client.simple_query(sql).await.unwrap();
            let mut session: Vec<String> = rows
                .iter()
                .filter_map(|row| match row {
                    tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
                    _ => None,
                })
                .collect();
            session.sort();
            sessions.push(session);
        }
        for client in &clients {
            client.batch_execute("commit").await.unwrap();
        }
        sessions
    }
}

/// Runs the program on this pair of databases.
fn program(bell: &TestBell, source: &str, target: &str, arguments: &[&str]) -> Program {
    let mapping = bell.mapping_file(&deleting_mapping());
    let mut arguments = arguments.to_vec();
    arguments.extend(["--mapping", mapping.to_str().unwrap()]);
    Program::new(&arguments)
        .env("DATABASE_URL", source)
        .env("SALESFORCE_CONNECT_URL", target)
        .env("SALESFORCE_ENABLED", "true")
}

async fn deleting() -> TestBell {
    let mut bell = TestBell::bare().await;
    bell.use_mapping(&deleting_mapping()).await;
    bell
}

/// Every step once: insert, update, wait, arrive, delete, dead, retry, drop, resync.
async fn everything_works(bell: &TestBell, application: &Client, through: &str) {
    let command = async |arguments: &[&str]| {
        let ended = program(bell, through, &bell.target_url(), arguments).run().await;
        assert!(ended.code < 2, "{ended}");
        ended.stdout
    };
    let names = "select name from salesforce.editor__c order by name";
    let school = bell.insert_school("Acme").await;
    bell.target_becomes(names, &["Acme"]).await;

    application.simple_query("update schools set name = 'Acme 2'").await.unwrap();
    bell.target_becomes(names, &["Acme 2"]).await;

    let role = bell.insert_role(&school, 1).await;
    bell.salesforce_has_contact(&bell.user_of(&role).await).await;
    eventually("the role waits", || async {
        let parked = bell.parked().await;
        if parked.iter().any(|line| line.starts_with(&format!("role {role} waiting"))) {
            Ok(())
        } else {
            Err(parked)
        }
    })
    .await;
    assert!(command(&["parked", "list"]).await.contains("waiting"));
    bell.salesforce_accepts_everything().await;
    bell.target_becomes(
        "select count(*)::text from salesforce.contact_editor_affiliation__c",
        &["1"],
    )
    .await;

    bell.target_sql("delete from salesforce.contact_editor_affiliation__c").await;
    bell.target_sql("delete from salesforce.editor__c").await;
    command(&["resync", "school"]).await;
    bell.target_becomes(names, &["Acme 2"]).await;
    assert!(command(&["resync", "--dry-run"]).await.contains("school"));

    bell.target_sql("alter table salesforce.editor__c add constraint no check (name <> 'Bad')")
        .await;
    let bad = bell.insert_school("Bad").await;
    eventually("the bad school is dead", || async {
        let parked = bell.parked().await;
        match parked.iter().any(|line| line == &format!("school {bad} dead")) {
            true => Ok(()),
            false => Err(parked),
        }
    })
    .await;
    bell.target_sql("alter table salesforce.editor__c drop constraint no").await;
    command(&["parked", "retry", "school"]).await;
    bell.target_becomes(names, &["Acme 2", "Bad"]).await;
    let dropped = command(&["parked", "drop", "--all", "--yes"]).await;
    assert!(dropped.contains("forgotten"), "{dropped}");

    application
        .simple_query("delete from roles; delete from schools where name = 'Bad'")
        .await
        .unwrap();
    bell.target_becomes(names, &["Acme 2"]).await;
    application.simple_query("truncate schools cascade").await.unwrap();
    eventually("the brake holds it", || async {
        match bell.source_count("select count(*) from schoolbell.parked where held").await {
            1 => Ok(()),
            held => Err(held),
        }
    })
    .await;
    command(&["parked", "retry", "school", "--yes"]).await;
    bell.target_becomes(names, &[]).await;
    let status = command(&["status"]).await;
    assert!(status.contains("capture    installed"), "{status}");
    command(&["mapping", "--check"]).await;
}

#[tokio::test]
async fn everything_works_through_a_pooler_and_its_sessions_stay_as_they_were() {
    for options in BOTH {
        let mut bell = deleting().await;
        let Some(pooler) = Pooler::start(bell.cluster(), options).await else { return };
        let before = pooler.sessions(&bell.source_name).await;
        bell.source_through(&pooler.url(&bell.source_name));
        let application = pooler.connect(&bell.source_name).await.unwrap();

        bell.service_starts();
        everything_works(&bell, &application, &pooler.url(&bell.source_name)).await;

        assert!(!bell.armed().await, "an armed bell makes writers ring for the deaf");
        let after = pooler.sessions(&bell.source_name).await;
        for (before, after) in before.iter().zip(&after) {
            let left: Vec<&String> = after.iter().filter(|line| !before.contains(line)).collect();
            assert!(left.is_empty(), "{options:?}: left behind: {left:?}");
        }
        bell.service_stops().await;
        let after = pooler.sessions(&bell.source_name).await;
        assert_eq!(after, before, "{options:?}");
    }
}

#[tokio::test]
async fn a_pooled_source_is_told_of_once_whatever_happens_to_its_sessions() {
    let bell = deleting().await;
    let Some(pooler) = Pooler::start(bell.cluster(), Options::Refused).await else { return };
    let through = pooler.url(&bell.source_name);
    let service = program(&bell, &through, &bell.target_url(), &["run"]).spawn();
    let names = "select name from salesforce.editor__c order by name";
    bell.insert_school("A").await;
    bell.target_becomes(names, &["A"]).await;

    // The pooler's sessions end, and with them whatever was on its way.
    let sql = "select pg_terminate_backend(pid)::text from pg_stat_activity \
               where datname = current_database() and pid <> pg_backend_pid()";
    assert!(!texts(&bell.source, sql).await.is_empty());
    bell.insert_school("B").await;
    bell.target_becomes(names, &["A", "B"]).await;

    cluster::send("TERM", service.id().unwrap()).unwrap();
    let log = service.wait_with_output().await.unwrap();
    let log = String::from_utf8_lossy(&log.stderr).into_owned();
    assert_eq!(log.matches("the source is behind a pooler").count(), 1, "{log}");
    assert!(!log.contains("LISTEN"), "{log}");
}

#[tokio::test]
async fn what_needs_a_session_of_its_own_is_refused_through_a_pooler() {
    for options in BOTH {
        let bell = deleting().await;
        let Some(pooler) = Pooler::start(bell.cluster(), options).await else { return };
        let Some(targets) = Pooler::start(bell.target_cluster(), options).await else { return };
        let (source, target) = (bell.source_url(), bell.target_url());
        let (pooled_source, pooled_target) =
            (pooler.url(&bell.source_name), targets.url(&bell.target_name));
        let refused = async |source: &str, target: &str, arguments: &[&str]| {
            let program = program(&bell, source, target, arguments);
            let ended: Ended = timeout(SOON, program.run()).await.expect("it refuses at once");
            assert_eq!(ended.code, 2, "{ended}");
            assert!(ended.stderr.contains("pooler"), "{ended}");
            assert!(ended.stderr.contains("direct connection"), "{ended}");
        };

        refused(&source, &pooled_target, &["run"]).await;
        refused(&source, &pooled_target, &["run", "--drain"]).await;
        refused(&source, &pooled_target, &["resync"]).await;
        refused(&pooled_source, &target, &["migrate"]).await;
        refused(&pooled_source, &target, &["uninstall", "--yes"]).await;

        let installed = "select count(*) from pg_trigger where tgname like 'schoolbell%'";
        assert!(bell.source_count(installed).await > 0, "nothing was uninstalled");
        let status = program(&bell, &pooled_source, &pooled_target, &["status"]).run().await;
        assert_eq!(status.code, 0, "{status}");
    }
}
