//! One throw-away cluster per run, a pair of databases per test, and words for what tests do with them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use schoolbell::config::{Config, Pace};
use schoolbell::demo::cluster::{Cluster, Options};
use schoolbell::demo::stand_in;
use schoolbell::mapping::Mapping;
use schoolbell::metrics::Metrics;
use schoolbell::metrics::Tally;
use schoolbell::postgres::url::DatabaseUrl;
use schoolbell::service::{self, End, Fatal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

pub mod books;
pub mod browser;
pub mod expectation;
pub mod left_out;
pub mod load;
pub mod log;
pub mod program;
pub mod proxy;
pub mod web;
pub mod wire;
pub mod writers;

/// A state that is not reached by then never will be; the longest honest wait is a few seconds.
const DEADLINE: Duration = Duration::from_secs(120);
/// Names the folder of the server programs for the targets; without it they are in the sources' cluster.
const TARGET_BIN_VARIABLE: &str = "SCHOOLBELL_TARGET_POSTGRES_BIN";
/// Between two looks at a state that is waited for.
const LOOK: Duration = Duration::from_millis(5);

/// One object, one field: no trigger on roles, and few columns watched.
pub const SCHOOL_NAMES: &str = r#"
version = 1

[object.school]
source = "schools"
key = "id"
target = "editor__c"
external_id = "editoruuid__c"

[object.school.fields]
name = "name"
"#;

/// The cluster of this run, or the two. They end with the process: their watchdogs see to that.
struct Ground {
    cluster: Cluster,
    /// Of the targets, where these are to be on a server of another version.
    target_cluster: Option<Cluster>,
    /// Names of databases that a test is done with.
    done: std::sync::mpsc::Sender<String>,
}

fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        // What the services of the tests log, shown for a test that failed:
        // RUST_LOG=schoolbell=trace.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        // A runtime of its own: that of the first test ends before the others.
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let (cluster, target_cluster) = runtime.block_on(start_clusters());
            let clusters = std::iter::once(&cluster).chain(&target_cluster);
            let urls: Vec<String> = clusters.map(|cluster| cluster.url("postgres")).collect();
            let (done, names) = std::sync::mpsc::channel::<String>();
            std::thread::spawn(move || runtime.block_on(drop_databases(&urls, &names)));
            Ground { cluster, target_cluster, done }
        })
        .join()
        .unwrap()
    })
}

/// The folder of the server programs for the targets, where these are to be of another version than the sources'.
pub fn target_programs() -> Option<PathBuf> {
    std::env::var_os(TARGET_BIN_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
}

async fn start_clusters() -> (Cluster, Option<Cluster>) {
    let start = async |programs| {
        let settings = ["max_connections = 400", "max_prepared_transactions = 20"];
        let settings = settings.map(str::to_string).to_vec();
        Cluster::start(Options { settings, programs, ..Options::open() }).await.unwrap()
    };
    let cluster = start(None).await;
    let target_cluster = match target_programs() {
        Some(programs) => {
            let targets = start(Some(programs)).await;
            let versions = [major_version(&cluster).await, major_version(&targets).await];
            assert_ne!(versions[0], versions[1], "both sides are on the same version");
            Some(targets)
        }
        None => None,
    };
    for name in ["bare_source", "migrated_source"] {
        cluster.create_database(name, None).await.unwrap();
        stand_in::install_application(&cluster.connect(name).await.unwrap()).await.unwrap();
    }
    let targets = target_cluster.as_ref().unwrap_or(&cluster);
    targets.create_database("bare_target", None).await.unwrap();
    stand_in::install_heroku_connect(&targets.connect("bare_target").await.unwrap()).await.unwrap();
    let migrated = std::process::Command::new(program::path())
        .args(["migrate", "--source-url", &cluster.url("migrated_source")])
        .output()
        .unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    (cluster, target_cluster)
}

async fn major_version(cluster: &Cluster) -> i32 {
    let client = cluster.connect("postgres").await.unwrap();
    let number = texts(&client, "show server_version_num").await.remove(0);
    number.parse::<i32>().unwrap() / 10_000
}

/// Only what a test created; the cluster takes the rest with it. A name is one of either cluster.
async fn drop_databases(urls: &[String], names: &std::sync::mpsc::Receiver<String>) {
    while let Ok(name) = names.recv() {
        for url in urls {
            let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
            let Ok((client, connection)) = connected else { continue };
            tokio::spawn(connection);
            _ = client.batch_execute(&format!("drop database if exists {name} with (force)")).await;
        }
    }
}

/// The columns that Heroku Connect gives each table that it maps.
pub const HEROKU_CONNECT: &str = "sfid varchar(18), systemmodstamp timestamp, isdeleted boolean, createddate timestamp, \
                                  _hc_lastop varchar(32), _hc_err text, id serial primary key";

/// A pair of databases with the triggers installed, and the service as long as a test wants it.
pub struct TestBell {
    /// The application's database.
    pub source: Client,
    /// Heroku Connect's database.
    pub target: Client,
    pub source_name: String,
    pub target_name: String,
    pub mapping: Mapping,
    pub pace: Pace,
    /// What the services of this test count.
    pub metrics: Arc<Metrics>,
    service: Option<Service>,
    /// How the service reaches the source and the target, where it is not the plain way.
    detours: [Option<String>; 2],
    /// None: the shared one.
    own_cluster: Option<Cluster>,
}

struct Service {
    stop: watch::Sender<bool>,
    wanted: watch::Sender<Arc<Mapping>>,
    task: JoinHandle<Result<End, Fatal>>,
}

/// Fast enough that a test waits for nothing, slow enough that two cores serve eight of them.
pub fn pace() -> Pace {
    Pace {
        sweep: Duration::from_millis(200),
        wait_sweep: Duration::from_millis(50),
        standby: Duration::from_millis(50),
        ..Pace::default()
    }
}

impl TestBell {
    /// Triggers installed, service running.
    pub async fn start() -> Self {
        let mut bell = Self::installed().await;
        bell.service_starts();
        bell
    }

    /// Triggers installed, no service.
    pub async fn installed() -> Self {
        Self::cloned("migrated_source", "bare_target").await
    }

    /// Triggers installed, service running, and a school that is deleted leaves Salesforce: every operation
    /// can be seen in the target.
    pub async fn that_deletes() -> Self {
        let mut bell = Self::bare().await;
        bell.use_mapping(&deleting_mapping()).await;
        bell.service_starts();
        bell
    }

    /// The application's tables and Heroku Connect's, nothing of ours.
    pub async fn bare() -> Self {
        Self::cloned("bare_source", "bare_target").await
    }

    async fn cloned(source_template: &str, target_template: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (source_name, target_name) = (format!("source_{number}"), format!("target_{number}"));
        let sources = &ground().cluster;
        let targets = ground().target_cluster.as_ref().unwrap_or(sources);
        sources.create_database(&source_name, Some(source_template)).await.unwrap();
        targets.create_database(&target_name, Some(target_template)).await.unwrap();
        Self {
            source: sources.connect(&source_name).await.unwrap(),
            target: targets.connect(&target_name).await.unwrap(),
            source_name,
            target_name,
            mapping: Mapping::load(None).unwrap(),
            pace: pace(),
            metrics: Arc::default(),
            service: None,
            detours: [None, None],
            own_cluster: None,
        }
    }

    /// Triggers installed and service running, in a cluster that a test may restart or measure. Both databases are in
    /// it, also where the targets are to be on a server of another version.
    pub async fn in_a_cluster_of_its_own(settings: &[&str]) -> Self {
        let settings = settings.iter().map(|line| (*line).to_string()).collect();
        let mut bell = Self::in_a_cluster_with(Options { settings, ..Options::open() }).await;
        bell.service_starts();
        bell
    }

    /// Triggers installed, no service, in a cluster that was started with these options.
    pub async fn in_a_cluster_with(options: Options) -> Self {
        let bell = Self::bare_in_a_cluster_with(options).await;
        bell.run_ok(&["migrate"]).await;
        bell
    }

    /// The application's tables and Heroku Connect's, nothing of ours, in a cluster that was started with these options.
    pub async fn bare_in_a_cluster_with(options: Options) -> Self {
        let cluster = Cluster::start(options).await.unwrap();
        let (source_name, target_name) = ("source".to_string(), "target".to_string());
        for name in [&source_name, &target_name] {
            cluster.create_database(name, None).await.unwrap();
        }
        let source = cluster.connect(&source_name).await.unwrap();
        let target = cluster.connect(&target_name).await.unwrap();
        stand_in::install_application(&source).await.unwrap();
        stand_in::install_heroku_connect(&target).await.unwrap();
        Self {
            source,
            target,
            source_name,
            target_name,
            mapping: Mapping::load(None).unwrap(),
            pace: pace(),
            metrics: Arc::default(),
            service: None,
            detours: [None, None],
            own_cluster: Some(cluster),
        }
    }

    /// The cluster of the source.
    pub fn cluster(&self) -> &Cluster {
        self.own_cluster.as_ref().unwrap_or(&ground().cluster)
    }

    /// The cluster of the target, mostly the same one.
    pub fn target_cluster(&self) -> &Cluster {
        match &ground().target_cluster {
            Some(targets) if self.own_cluster.is_none() => targets,
            _ => self.cluster(),
        }
    }

    /// The test's own connections, after the cluster was restarted.
    pub async fn reconnect(&mut self) {
        self.source = self.cluster().connect(&self.source_name).await.unwrap();
        self.target = self.target_cluster().connect(&self.target_name).await.unwrap();
    }

    /// Installs the triggers for another mapping and uses it from now on.
    pub async fn use_mapping(&mut self, text: &str) {
        let file = self.mapping_file(text);
        self.run_ok(&["migrate", "--mapping", file.to_str().unwrap()]).await;
        self.mapping = Mapping::load(Some(&file)).unwrap();
    }

    /// A file with this text, in the folder of the cluster.
    pub fn mapping_file(&self, text: &str) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // The cluster's folder goes with the cluster.
        let file =
            self.cluster().folder().join(format!("mapping-{}-{number}.toml", self.source_name));
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Lets the service reach the source through a proxy.
    pub fn source_through(&mut self, url: &str) {
        self.detours[0] = Some(url.to_string());
    }

    /// Lets the service reach the target through a proxy.
    pub fn target_through(&mut self, url: &str) {
        self.detours[1] = Some(url.to_string());
    }

    pub fn source_url(&self) -> String {
        self.cluster().url(&self.source_name)
    }

    pub fn target_url(&self) -> String {
        self.target_cluster().url(&self.target_name)
    }

    pub fn config(&self) -> Config {
        let url = |url: &str| DatabaseUrl::parse("test", url, &|_| None).unwrap();
        let [source, target] = self.detours.clone();
        let source = source.unwrap_or_else(|| self.source_url());
        let target = target.unwrap_or_else(|| self.target_url());
        Config { source: url(&source), target: url(&target), enabled: true }
    }

    /// One more connection to the source.
    pub async fn source_session(&self) -> Client {
        self.cluster().connect(&self.source_name).await.unwrap()
    }

    /// One more connection to the target.
    pub async fn target_session(&self) -> Client {
        self.target_cluster().connect(&self.target_name).await.unwrap()
    }

    pub fn service_starts(&mut self) {
        assert!(self.service.is_none(), "the service runs already");
        let (stop, stopped) = watch::channel(false);
        let (wanted, mapping) = watch::channel(Arc::new(self.mapping.clone()));
        let (config, pace, metrics) = (self.config(), self.pace.clone(), self.metrics.clone());
        let task = tokio::spawn(async move {
            service::run_with(&config, pace, mapping, stopped, false, &metrics).await
        });
        self.service = Some(Service { stop, wanted, task });
    }

    /// As SIGHUP does: the running service gets another mapping.
    pub fn service_gets(&mut self, text: &str) {
        self.mapping = Mapping::parse("test.toml", text).unwrap();
        let service = self.service.as_ref().expect("the service runs");
        service.wanted.send_replace(Arc::new(self.mapping.clone()));
    }

    /// As SIGTERM does: the batch in hand is finished.
    pub async fn service_stops(&mut self) -> Tally {
        let service = self.service.take().expect("the service runs");
        service.stop.send_replace(true);
        tally(service.task.await.unwrap())
    }

    /// As SIGKILL does, as far as the databases can see: its connections end in the middle of whatever it did.
    pub async fn service_is_killed(&mut self) {
        let service = self.service.take().expect("the service runs");
        service.task.abort();
        _ = service.task.await;
    }

    /// Applies what is due, in this process.
    pub async fn drain(&self) -> Tally {
        let (_stop, stopped) = watch::channel(false);
        tally(
            service::run(
                &self.config(),
                self.pace.clone(),
                &self.mapping,
                stopped,
                true,
                &Arc::default(),
            )
            .await,
        )
    }

    /// Runs the program and expects it to succeed; returns what it printed.
    pub async fn run_ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, 0, "{ended}");
        ended.stdout
    }

    /// Runs the program with this pair of databases.
    pub async fn run(&self, arguments: &[&str]) -> program::Ended {
        self.program(arguments).run().await
    }

    /// The program with this pair of databases.
    pub fn program(&self, arguments: &[&str]) -> program::Program {
        program::Program::new(arguments)
            .env("DATABASE_URL", &self.source_url())
            .env("SALESFORCE_CONNECT_URL", &self.target_url())
            .env("SALESFORCE_ENABLED", "true")
    }

    /// Runs SQL on the source.
    pub async fn source_sql(&self, sql: &str) {
        self.source.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Runs SQL about what a server's databases share, such as roles: once, or on each of the two servers.
    pub async fn on_every_server(&self, sql: &str) {
        self.source_sql(sql).await;
        if self.target_cluster().port() != self.cluster().port() {
            self.target_sql(sql).await;
        }
    }

    /// Runs SQL on the target, as a user of it (Heroku Connect would send it to Salesforce).
    pub async fn target_sql(&self, sql: &str) {
        self.target.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The first column of the rows, as text.
    pub async fn source_texts(&self, sql: &str) -> Vec<String> {
        texts(&self.source, sql).await
    }

    /// The first column of the rows, as text.
    pub async fn target_texts(&self, sql: &str) -> Vec<String> {
        texts(&self.target, sql).await
    }

    /// A single number.
    pub async fn source_count(&self, sql: &str) -> i64 {
        self.source.query_one(&format!("select ({sql})::int8"), &[]).await.unwrap().get(0)
    }

    /// A single number.
    pub async fn target_count(&self, sql: &str) -> i64 {
        self.target.query_one(&format!("select ({sql})::int8"), &[]).await.unwrap().get(0)
    }

    /// A school of that name, by somebody new. Returns its id.
    pub async fn insert_school(&self, name: &str) -> String {
        let sql = "insert into schools (name, address_line_1, municipality, country_code, website, creator_id, \
                   created_at, updated_at) values ($1, '1 Road', 'Town', 'GB', 'https://school.example', \
                   gen_random_uuid(), '2026-01-02 03:04:05.678901', '2026-01-02 03:04:05.678901') returning id::text";
        self.source.query_one(sql, &[&name]).await.unwrap().get(0)
    }

    /// A role (0 student, 1 teacher, 2 owner) of somebody new in a school. Returns its id.
    pub async fn insert_role(&self, school: &str, role: i32) -> String {
        let sql = "insert into roles (user_id, school_id, role, created_at, updated_at) values (gen_random_uuid(), \
                   $1::text::uuid, $2, '2026-01-02 03:04:05.6', '2026-01-02 03:04:05.6') returning id::text";
        self.source.query_one(sql, &[&school, &role]).await.unwrap().get(0)
    }

    /// The person of a role.
    pub async fn user_of(&self, role: &str) -> String {
        let sql = "select user_id::text from roles where id = $1::text::int8";
        self.source.query_one(sql, &[&role]).await.unwrap().get(0)
    }

    /// Salesforce gives the row an sfid.
    pub async fn salesforce_accepts(&self, table: &str, external_id: &str, key: &str) {
        let sql = format!(
            "begin; set local xmlbinary = 'hex'; update salesforce.{table} set sfid = 'S' || id, _hc_lastop = 'INSERTED' \
             where {external_id} = '{key}'; commit"
        );
        self.target_sql(&sql).await;
    }

    /// Salesforce has a contact of this person.
    pub async fn salesforce_has_contact(&self, key: &str) {
        stand_in::create_contact(&self.target, key).await.unwrap();
    }

    /// Heroku Connect sends everything, until nothing is left to send.
    pub async fn salesforce_accepts_everything(&self) {
        while stand_in::accept(&self.target).await.unwrap() > 0 {}
    }

    /// How many writes Heroku Connect would send to Salesforce, or has sent.
    pub async fn salesforce_writes(&self) -> i64 {
        self.target_count("select count(*) from salesforce._trigger_log").await
    }

    /// The external ids of a mapped table, sorted.
    pub async fn mirrored(&self, table: &str, external_id: &str) -> Vec<String> {
        self.target_texts(&format!("select {external_id}::text from salesforce.{table} order by 1"))
            .await
    }

    /// What is parked, one sentence each.
    pub async fn parked(&self) -> Vec<String> {
        self.source_texts(
            "select concat_ws(' ', object, key, state, 'for ' || awaits, awaits_key) from schoolbell.parked order by 1",
        )
        .await
    }

    /// Nothing is left to claim: no change, no key that is due, no resync.
    pub async fn caught_up(&self) {
        let sql = "select (select count(*) from schoolbell.change) \
                   + (select count(*) from schoolbell.parked where due_at is not null and (state <> 'dead' or held)) \
                   + (select count(*) from schoolbell.resync where finished_at is null)";
        eventually("the service has caught up", || async {
            match self.source_count(sql).await {
                0 => Ok(()),
                left => Err(format!("{left} left, parked: {:?}", self.parked().await)),
            }
        })
        .await;
    }

    /// Waits until the brake holds this many deletions, which is what a TRUNCATE leads to, and releases them.
    pub async fn released(&self, deletions: i64) {
        self.caught_up().await;
        let held = "select count(*) from schoolbell.parked where held";
        assert_eq!(self.source_count(held).await, deletions, "{:?}", self.parked().await);
        self.run_ok(&["parked", "retry", "school", "--yes"]).await;
    }

    /// Waits until the query on the target returns exactly these texts.
    pub async fn target_becomes(&self, sql: &str, wanted: &[&str]) {
        eventually(sql, || async {
            let found = self.target_texts(sql).await;
            if found == wanted { Ok(()) } else { Err(format!("{found:?} instead of {wanted:?}")) }
        })
        .await;
    }

    /// Every row of the target is as an expectation of its own says, written without the mapping.
    pub async fn every_row_is_right(&self) {
        expectation::check(&self.source, &self.target).await;
    }

    /// Waits until the bell is armed: the service sleeps, and writers ring.
    pub async fn asleep(&self) {
        eventually("the bell is armed", || async {
            if self.armed().await { Ok(()) } else { Err("it is not") }
        })
        .await;
    }

    /// Whether somebody holds the bell's lock.
    pub async fn armed(&self) -> bool {
        self.source_count(&format!("select count(*) from pg_locks where {}", armed_bell())).await
            > 0
    }
}

/// The condition for the bell's lock in `pg_locks`.
pub fn armed_bell() -> String {
    format!(
        "locktype = 'advisory' and objid = {} and mode = 'ExclusiveLock' and granted and database = \
         (select oid from pg_database where datname = current_database())",
        schoolbell::bell::BELL_LOCK & 0xffff_ffff
    )
}

impl Drop for TestBell {
    fn drop(&mut self) {
        if let Some(service) = &self.service {
            service.task.abort();
        }
        if self.own_cluster.is_none() {
            for name in [&self.source_name, &self.target_name] {
                _ = ground().done.send(name.clone());
            }
        }
    }
}

/// The built-in mapping, but a school that is gone at the source is deleted, with a brake that only a TRUNCATE meets.
pub fn deleting_mapping() -> String {
    let kept = "external_id = \"editoruuid__c\"\non_delete = \"keep\"";
    let text = schoolbell::mapping::BUILT_IN;
    assert!(text.contains(kept));
    text.replace(
        kept,
        "external_id = \"editoruuid__c\"\non_delete = \"delete\"\n\
                        brake = { rows = 1000000, share = 1 }",
    )
}

fn tally(end: Result<End, Fatal>) -> Tally {
    match end.unwrap() {
        End::Done(tally) => tally,
        End::LeftTo(writer) => panic!("{writer} is the writer"),
        End::Blocked(stranger) => panic!("{stranger} holds the lock"),
    }
}

pub async fn texts(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter()
        .map(|row| row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".into()))
        .collect()
}

/// How cases are drawn, and where the failed ones of a module are kept. An environment that says otherwise is obeyed.
pub fn drawn(cases: u32, module: &str) -> proptest::test_runner::Config {
    let mut config = proptest::test_runner::Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if std::env::var_os("PROPTEST_MAX_SHRINK_TIME").is_none() {
        config.max_shrink_time = 60_000;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/proptest-regressions");
    let file: &'static str = format!("{folder}/{module}.txt").leak();
    let kept = proptest::test_runner::FileFailurePersistence::Direct(file);
    config.failure_persistence = Some(Box::new(kept));
    config
}

/// Looks repeatedly until the state is there; reports what was found instead when it never is.
pub async fn eventually<F, T, E>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
    E: Debug,
{
    let started = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        match look().await {
            Ok(found) => return found,
            Err(found) if started.elapsed() > load::stretched(DEADLINE) => {
                panic!("waited in vain until {what}: {found:?}")
            }
            Err(_) => {}
        }
    }
}

/// A row as text, by column.
pub type Row = BTreeMap<String, Option<String>>;

/// All rows of a query whose columns are all text.
pub async fn rows(client: &Client, sql: &str) -> Vec<Row> {
    let found = client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    found
        .iter()
        .map(|row| {
            let names = row.columns().iter().map(|column| column.name().to_string());
            names.enumerate().map(|(index, name)| (name, row.get(index))).collect()
        })
        .collect()
}
