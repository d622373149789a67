//! The fault matrix: whatever dies, wherever the program is at that moment, every row is right in the end.
//!
//! Two real programs (one writes, one stands by), each behind proxies of its own; a cluster for either
//! database; applications that write at random and a played Salesforce throughout. A cell of the matrix stops
//! the writer at a failpoint, injects a fault there, and waits until a new change gets through. Then the
//! writers pause until nothing is left to do, and every row is compared. `make torture` runs all of it for ten
//! minutes; SCHOOLBELL_SEED repeats a run's faults in their order.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use schoolbell::demo::cluster::{Cluster, Options, Shutdown, send};
use schoolbell::demo::stand_in;
use schoolbell::failpoint::Failpoint;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::support::proxy::{Cut, Proxy};
use crate::support::writers::{self, Writers};
use crate::support::{eventually, expectation, program, target_programs, texts};

/// What is done to a program that stands at a failpoint, or to what is around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The writer is killed, the other takes over.
    Kill,
    /// The writer ends by itself in that moment, its other steps in the middle of what they do.
    Exit,
    /// Both are killed and started again.
    KillBoth,
    SourceCut,
    SourceHalfClosed,
    SourceStalls,
    TargetCut,
    TargetHalfClosed,
    TargetStalls,
    SourceRestarts,
    TargetRestarts,
    /// The writer is stopped, its target connections end without its knowledge, the other takes over and writes
    /// something newer, and the writer goes on with what it had in hand.
    Pause,
    /// Heroku Connect reads a table again, and the operator replays what is missing.
    Reload,
    /// The same while a full replay runs.
    ReloadDuringResync,
    /// An administrator changes the databases' settings, and every session begins anew with them.
    Settings,
    /// Others lock rows of both databases, and Heroku Connect updates many at once.
    ForeignLocks,
    /// Keys come that are longer than an index holds, and that no column of the target takes.
    LongKeys,
}

/// What an administrator may set for a database, but for a search path, without which the applications find nothing.
const ODD_SETTINGS: [&str; 16] = [
    "datestyle = 'SQL, DMY'",
    "intervalstyle = 'sql_standard'",
    "timezone = 'Asia/Kolkata'",
    "bytea_output = 'escape'",
    "extra_float_digits = -10",
    "xmlbinary = 'hex'",
    "default_transaction_isolation = 'serializable'",
    "synchronous_commit = 'off'",
    "row_security = off",
    "statement_timeout = '300ms'",
    "lock_timeout = '50ms'",
    "idle_in_transaction_session_timeout = '200ms'",
    "plan_cache_mode = 'force_generic_plan'",
    "quote_all_identifiers = on",
    "enable_indexscan = off",
    "work_mem = '64kB'",
];
/// Only in the target: the writers' new sessions would write nothing.
const READ_ONLY: &str = "default_transaction_read_only = on";

impl Fault {
    const ALL: [Self; 17] = [
        Self::Kill,
        Self::Exit,
        Self::KillBoth,
        Self::SourceCut,
        Self::SourceHalfClosed,
        Self::SourceStalls,
        Self::TargetCut,
        Self::TargetHalfClosed,
        Self::TargetStalls,
        Self::SourceRestarts,
        Self::TargetRestarts,
        Self::Pause,
        Self::Reload,
        Self::ReloadDuringResync,
        Self::Settings,
        Self::ForeignLocks,
        Self::LongKeys,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Exit => "exit in mid-step",
            Self::KillBoth => "kill -9 both",
            Self::SourceCut => "source cut",
            Self::SourceHalfClosed => "source half-closed",
            Self::SourceStalls => "source stalls",
            Self::TargetCut => "target cut",
            Self::TargetHalfClosed => "target half-closed",
            Self::TargetStalls => "target stalls",
            Self::SourceRestarts => "source crashes",
            Self::TargetRestarts => "target crashes",
            Self::Pause => "SIGSTOP, take-over, SIGCONT",
            Self::Reload => "reload",
            Self::ReloadDuringResync => "reload during resync",
            Self::Settings => "settings changed",
            Self::ForeignLocks => "foreign locks",
            Self::LongKeys => "long keys",
        }
    }
}

type Cell = (Failpoint, Fault);

/// What a run has done.
#[derive(Default)]
struct Report {
    cells: BTreeMap<Fault, BTreeMap<Failpoint, u64>>,
    /// From a kill until the other process holds the lock.
    take_overs: Vec<Duration>,
    /// From the end of a fault until a change made after it is written.
    recoveries: Vec<Duration>,
    transactions: u64,
    checks: u64,
    rows: u64,
    reloaded_away: i64,
}

impl Report {
    fn add(&mut self, other: Self) {
        for (fault, places) in other.cells {
            for (place, count) in places {
                *self.cells.entry(fault).or_default().entry(place).or_default() += count;
            }
        }
        self.take_overs.extend(other.take_overs);
        self.recoveries.extend(other.recoveries);
        self.transactions += other.transactions;
        self.checks += other.checks;
        self.rows += other.rows;
        self.reloaded_away += other.reloaded_away;
    }

    fn faults(&self) -> u64 {
        self.cells.values().flat_map(BTreeMap::values).sum()
    }

    /// As Markdown: where it ran, the matrix, what was measured.
    fn markdown(&mut self, seed: u64, seconds: u64, server: &str) -> String {
        let mut text = format!(
            "{} faults in {seconds} s, SCHOOLBELL_SEED={seed}, {server}, {} cores, {:.0}\n\n| fault |",
            self.faults(),
            std::thread::available_parallelism().map_or(0, usize::from),
            jiff::Timestamp::now(),
        );
        for place in Failpoint::ALL {
            _ = write!(text, " {} |", place.name());
        }
        text.push_str(" all |\n|---|");
        text.push_str(&"---:|".repeat(Failpoint::ALL.len() + 1));
        for fault in Fault::ALL {
            let places = self.cells.remove(&fault).unwrap_or_default();
            _ = write!(text, "\n| {} |", fault.name());
            for place in Failpoint::ALL {
                _ = write!(text, " {} |", places.get(&place).unwrap_or(&0));
            }
            _ = write!(text, " {} |", places.values().sum::<u64>());
        }
        text.push_str("\n\n| measured | |\n|---|---:|");
        for (what, count) in [
            ("transactions committed by the writers", self.transactions),
            ("times that everything was compared", self.checks),
            ("rows compared", self.rows),
            ("rows lost by a reload and brought back", self.reloaded_away.unsigned_abs()),
        ] {
            _ = write!(text, "\n| {what} | {count} |");
        }
        for (what, times) in [
            ("take-over after a kill", &mut self.take_overs),
            ("fault to new change written", &mut self.recoveries),
        ] {
            times.sort_unstable();
            if let (Some(middle), Some(longest)) = (times.get(times.len() / 2), times.last()) {
                _ = write!(
                    text,
                    "\n| {what}, median / longest of {} | {:.2} s / {:.2} s |",
                    times.len(),
                    middle.as_secs_f64(),
                    longest.as_secs_f64()
                );
            }
        }
        text
    }
}

/// Puts the report into RELIABILITY.md, in the place of the one before.
fn keep(report: &str) {
    const BEGIN: &str = "<!-- written by SCHOOLBELL_BLESS=1 make torture -->\n";
    const END: &str = "<!-- end of what was written -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/RELIABILITY.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the place is marked");
    let (_, after) = rest.split_once(END).expect("its end is marked");
    std::fs::write(path, format!("{before}{BEGIN}{report}\n{END}{after}")).unwrap();
}

/// A running program behind its proxies.
struct Process {
    child: Child,
    source: Proxy,
    target: Proxy,
    /// Where its failpoints are armed.
    failpoints: PathBuf,
    log: PathBuf,
}

impl Process {
    fn pid(&self) -> u32 {
        self.child.id().expect("it was not waited for")
    }

    fn arm(&self, place: Failpoint, order: &str) {
        _ = std::fs::remove_file(self.reached_file(place));
        std::fs::write(self.failpoints.join(place.name()), order).unwrap();
    }

    fn disarm(&self, place: Failpoint) {
        _ = std::fs::remove_file(self.failpoints.join(place.name()));
    }

    fn reached_file(&self, place: Failpoint) -> PathBuf {
        self.failpoints.join(format!("{}.reached", place.name()))
    }

    fn has_reached(&self, place: Failpoint) -> bool {
        self.reached_file(place).exists()
    }
}

/// Salesforce, played for as long as this lives, whatever happens to the server.
struct Salesforce {
    gate: Arc<Mutex<()>>,
    task: JoinHandle<()>,
}

impl Salesforce {
    fn start(url: String) -> Self {
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

/// Two clusters, two programs, writers, Salesforce.
struct Stage {
    source: Cluster,
    target: Cluster,
    processes: [Process; 2],
    writers: Writers,
    salesforce: Salesforce,
    random: Rng,
    probes: u32,
    folder: PathBuf,
    report: Report,
}

impl Stage {
    async fn start(seed: u64) -> Self {
        let cluster =
            async |programs| Cluster::start(Options { programs, ..Options::open() }).await.unwrap();
        let (source, target) = tokio::join!(cluster(None), cluster(target_programs()));
        source.create_database("source", None).await.unwrap();
        target.create_database("target", None).await.unwrap();
        let application = source.connect("source").await.unwrap();
        stand_in::install_application(&application).await.unwrap();
        let heroku = target.connect("target").await.unwrap();
        stand_in::install_heroku_connect(&heroku).await.unwrap();
        let migrated = program::Program::new(&["migrate"])
            .env("DATABASE_URL", &source.url("source"))
            .run()
            .await;
        assert_eq!(migrated.code, 0, "{migrated}");
        application
            .batch_execute(
                "insert into schools (id, name, address_line_1, municipality, country_code, website, created_at, \
                 updated_at) values (md5('probe')::uuid, '', 'Road', 'Town', 'GB', 'w', now(), now())",
            )
            .await
            .unwrap();
        // Half of the people have a contact; the others' roles wait.
        for person in 0..writers::PEOPLE / 2 {
            let sql = format!("select {}::text", writers::person(person));
            let key = texts(&heroku, &sql).await.remove(0);
            stand_in::create_contact(&heroku, &key).await.unwrap();
        }
        let folder = source.folder().to_path_buf();
        let processes = [
            process(&source, &target, &folder.join("first")).await,
            process(&source, &target, &folder.join("second")).await,
        ];
        let writers = Writers::start(&source.url("source"), 3, seed);
        let salesforce = Salesforce::start(target.url("target"));
        Self {
            source,
            target,
            processes,
            writers,
            salesforce,
            random: Rng::with_seed(seed),
            probes: 0,
            folder,
            report: Report::default(),
        }
    }

    /// Runs cells until they or the time are used up, and compares everything after each of them.
    async fn run(mut self, cells: impl IntoIterator<Item = Cell>, until: Instant) -> Report {
        for (place, fault) in cells {
            if Instant::now() > until {
                break;
            }
            let told = format!("{} at {}", fault.name(), place.name());
            let cell = tokio::time::timeout(Duration::from_secs(400), self.cell(place, fault));
            if cell.await.is_err() {
                panic!("{told}: it does not end\n{}", self.logs());
            }
            self.settle(&told).await;
        }
        for index in 0..2 {
            self.stop(index).await;
        }
        self.report.transactions = self.writers.committed();
        self.report
    }

    async fn server(&self) -> String {
        let client = self.source.connect("source").await.unwrap();
        format!("PostgreSQL {}", texts(&client, "show server_version").await.remove(0))
    }

    async fn cell(&mut self, place: Failpoint, fault: Fault) {
        self.a_pair_is_there().await;
        if std::env::var_os("SCHOOLBELL_TORTURE_VERBOSE").is_some() {
            println!("{} at {}", fault.name(), place.name());
        }
        let reloads = matches!(fault, Fault::Reload | Fault::ReloadDuringResync);
        let salesforce = match reloads {
            true => Some(self.rows_without_sfid().await),
            false => None,
        };
        if fault == Fault::ReloadDuringResync {
            self.command(&["resync", "--detach"]).await;
        }
        let struck = match fault {
            Fault::Exit => self.reach(place, "exit").await,
            Fault::Pause => self.reach_with_a_probe(place).await,
            _ => self.reach(place, "stop").await,
        };
        self.strike(place, fault, struck).await;
        self.processes[struck].disarm(place);
        if reloads {
            drop(salesforce);
            // A replay reads its pages when no change is due, which on a busy machine with three writers may be never.
            let _silence = self.writers.pause().await;
            self.command(&["resync", "--missing"]).await;
        }
        let ended = Instant::now();
        self.probe().await;
        self.report.recoveries.push(ended.elapsed());
        match fault {
            Fault::Settings => self.settings(&["reset all"]).await,
            Fault::LongKeys => self.long_keys_are_dead().await,
            _ => {}
        }
        *self.report.cells.entry(fault).or_default().entry(place).or_default() += 1;
    }

    /// What the fault does while the program `struck` stands at the failpoint.
    async fn strike(&mut self, place: Failpoint, fault: Fault, struck: usize) {
        let cut = self.random.choice([Cut::Reset, Cut::Close]).unwrap();
        let half = self.random.choice([Cut::HalfToServer, Cut::HalfToClient]).unwrap();
        match fault {
            Fault::Kill | Fault::Exit => {
                let killed = self.processes[struck].pid();
                let at = Instant::now();
                if fault == Fault::Kill {
                    self.processes[struck].child.start_kill().unwrap();
                }
                self.processes[struck].child.wait().await.unwrap();
                self.taken_over_from(killed).await;
                self.report.take_overs.push(at.elapsed());
                assert!(
                    at.elapsed() < Duration::from_secs(3),
                    "take-over after {:?}",
                    at.elapsed()
                );
                self.restart(struck).await;
            }
            Fault::KillBoth => {
                for process in &mut self.processes {
                    process.child.kill().await.unwrap();
                }
                for index in 0..2 {
                    self.restart(index).await;
                }
            }
            Fault::SourceCut => self.processes[struck].source.cut(cut),
            Fault::TargetCut => self.processes[struck].target.cut(cut),
            Fault::SourceHalfClosed => self.processes[struck].source.cut(half),
            Fault::TargetHalfClosed => self.processes[struck].target.cut(half),
            Fault::SourceStalls | Fault::TargetStalls => {
                let (millis, cuts) = (self.random.u64(300..1_500), self.random.bool());
                let process = &self.processes[struck];
                let proxy =
                    if fault == Fault::SourceStalls { &process.source } else { &process.target };
                proxy.stall();
                process.disarm(place);
                tokio::time::sleep(Duration::from_millis(millis)).await;
                if cuts {
                    proxy.cut(cut);
                }
                proxy.pass();
            }
            Fault::SourceRestarts => self.source.restart(Shutdown::Immediate).await.unwrap(),
            Fault::TargetRestarts => self.target.restart(Shutdown::Immediate).await.unwrap(),
            Fault::Pause => self.pause(place, struck).await,
            Fault::Reload | Fault::ReloadDuringResync => {
                let table =
                    self.random.choice(["editor__c", "editor__c", RELATED, "contact"]).unwrap();
                let client = self.target.connect("target").await.unwrap();
                let reloading = tokio::spawn(async move { reload(&client, table).await });
                // It may have to wait for rows that the stopped program has locked.
                tokio::time::sleep(Duration::from_millis(self.random.u64(0..200))).await;
                self.processes[struck].disarm(place);
                self.report.reloaded_away += reloading.await.unwrap();
            }
            Fault::Settings => {
                let mut set: Vec<&str> =
                    ODD_SETTINGS.iter().copied().filter(|_| self.random.bool()).collect();
                if self.random.bool() {
                    set.push(READ_ONLY);
                }
                let set: Vec<String> = set.iter().map(|setting| format!("set {setting}")).collect();
                self.settings(&set.iter().map(String::as_str).collect::<Vec<_>>()).await;
                for process in &self.processes {
                    process.source.cut(cut);
                    process.target.cut(cut);
                }
            }
            Fault::ForeignLocks => self.foreign_locks(place, struck).await,
            Fault::LongKeys => {
                let source = self.source.connect("source").await.unwrap();
                source.batch_execute(LONG_KEYS).await.unwrap();
            }
        }
    }

    async fn settings(&self, changes: &[&str]) {
        for (cluster, name) in [(&self.source, "source"), (&self.target, "target")] {
            // A session of its own database would have the settings already.
            let client = cluster.connect("postgres").await.unwrap();
            for change in
                changes.iter().filter(|change| name == "target" || !change.ends_with(READ_ONLY))
            {
                client.batch_execute(&format!("alter database {name} {change}")).await.unwrap();
            }
        }
    }

    /// Nobody is the victim of a deadlock, whoever locks what and in whatever order. The others have none among themselves:
    /// one locks a single row.
    async fn foreign_locks(&mut self, place: Failpoint, struck: usize) {
        let millis = self.random.u64(300..1_500);
        let mut tasks = Vec::new();
        for (cluster, database, sql) in [
            (
                &self.source,
                "source",
                "select from schools where id <> md5('probe')::uuid order by random() limit 50 for update",
            ),
            (
                &self.target,
                "target",
                "select from salesforce.editor__c where editoruuid__c <> md5('probe')::uuid::text \
              order by random() limit 1 for update",
            ),
        ] {
            let client = cluster.connect(database).await.unwrap();
            tasks.push(tokio::spawn(async move {
                let sql = format!("begin; {sql}; select pg_sleep({millis} / 1000.0); commit");
                client.batch_execute(&sql).await.unwrap();
            }));
        }
        let heroku = self.target.connect("target").await.unwrap();
        tasks.push(tokio::spawn(async move {
            for _ in 0..20 {
                let sql = "begin; set local xmlbinary = 'hex'; update salesforce.editor__c set isdeleted = false \
                           where id in (select id from salesforce.editor__c order by random() limit 500); \
                           update salesforce.contact_editor_affiliation__c set isdeleted = false; commit";
                heroku.batch_execute(sql).await.unwrap();
            }
        }));
        self.processes[struck].disarm(place);
        for task in tasks {
            task.await.unwrap();
        }
    }

    async fn long_keys_are_dead(&self) {
        let source = self.source.connect("source").await.unwrap();
        eventually("the long keys are parked", || async {
            let dead = "select count(*)::text from schoolbell.parked where state = 'dead' and length(key) > 3000";
            let dead = texts(&source, dead).await.remove(0);
            if dead == "3" { Ok(()) } else { Err(dead) }
        })
        .await;
        source
            .batch_execute("delete from schoolbell.parked where length(key) > 3000")
            .await
            .unwrap();
    }

    /// The paused process must not write over its successor.
    async fn pause(&mut self, place: Failpoint, struck: usize) {
        let pid = self.processes[struck].pid();
        send("STOP", pid).unwrap();
        self.processes[struck].target.stall();
        self.processes[struck].target.cut(Cut::BehindTheClientsBack);
        self.taken_over_from(pid).await;
        self.probe().await;
        self.processes[struck].target.pass();
        self.goes_on(place, struck).await;
    }

    /// Nobody ends the sessions of a stopped process but the server, by its silence.
    async fn stopped(&mut self, place: Failpoint) -> Duration {
        self.a_pair_is_there().await;
        let struck = self.reach_with_a_probe(place).await;
        let pid = self.processes[struck].pid();
        send("STOP", pid).unwrap();
        let at = Instant::now();
        self.taken_over_from(pid).await;
        let succeeded = at.elapsed();
        self.probe().await;
        self.goes_on(place, struck).await;
        succeeded
    }

    /// A process that was stopped goes on with what it had in hand, and must not write it.
    async fn goes_on(&mut self, place: Failpoint, struck: usize) {
        let written = self.probes;
        send("CONT", self.processes[struck].pid()).unwrap();
        self.processes[struck].disarm(place);
        let target = self.target.connect("target").await.unwrap();
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            assert_eq!(texts(&target, PROBE).await, [written.to_string()], "written over");
            assert!(writers_of(&target).await.len() <= 1, "two writers");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The writer cannot reach one of its databases any more, and its successor must be the only one that writes.
    async fn one_side_is_lost(&mut self, place: Failpoint, side: fn(&Process) -> &Proxy) {
        self.a_pair_is_there().await;
        let struck = self.reach(place, "stop").await;
        let lost = self.processes[struck].pid();
        let proxy = side(&self.processes[struck]);
        proxy.refuse();
        proxy.cut(Cut::Close);
        self.processes[struck].disarm(place);

        let at = Instant::now();
        self.taken_over_from(lost).await;
        assert!(at.elapsed() < Duration::from_secs(3), "take-over after {:?}", at.elapsed());
        self.probe().await;
        let target = self.target.connect("target").await.unwrap();
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            let writers = writers_of(&target).await;
            assert_eq!(writers.len(), 1, "{writers:?}");
            assert!(!writers[0].ends_with(&format!("/{lost}")), "{writers:?}");
            assert_eq!(texts(&target, PROBE).await, [self.probes.to_string()]);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        side(&self.processes[struck]).pass();
    }

    /// Stops the writer at the failpoint, or ends it there; provokes what leads to it.
    async fn reach(&mut self, place: Failpoint, order: &str) -> usize {
        let deadline = Instant::now() + Duration::from_secs(120);
        for process in &self.processes {
            process.arm(place, order);
        }
        for round in 0.. {
            match place {
                Failpoint::WhileArming | Failpoint::WhileDisarming => {
                    // Silence, so that the bell is armed; then noise again.
                    let silence = self.writers.pause().await;
                    for _ in 0..40 {
                        if self.whoever_reached(place).is_none() {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                    drop(silence);
                }
                Failpoint::ResyncPage | Failpoint::ResyncProgress if round % 100 == 0 => {
                    self.command(&["resync", "--detach"]).await;
                }
                _ => {}
            }
            for _ in 0..10 {
                if let Some(index) = self.whoever_reached(place) {
                    self.processes[1 - index].disarm(place);
                    return index;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if Instant::now() > deadline {
                panic!("nobody reaches {}\n{}", place.name(), self.logs());
            }
        }
        unreachable!()
    }

    /// Stops the writer at the failpoint with one change in hand, where changes lead to it: the probe, which is
    /// old by the time the writer goes on.
    async fn reach_with_a_probe(&mut self, place: Failpoint) -> usize {
        if matches!(
            place,
            Failpoint::ResyncPage
                | Failpoint::WhileParking
                | Failpoint::ResyncProgress
                | Failpoint::WhileArming
                | Failpoint::WhileDisarming
        ) {
            return self.reach(place, "stop").await;
        }
        let _silence = self.writers.pause().await;
        self.nothing_is_left("the one before").await;
        for process in &self.processes {
            process.arm(place, "stop");
        }
        self.write_probe().await;
        let index = eventually("the probe is in hand", || async {
            self.whoever_reached(place).ok_or("it is not")
        })
        .await;
        self.processes[1 - index].disarm(place);
        index
    }

    fn whoever_reached(&self, place: Failpoint) -> Option<usize> {
        self.processes.iter().position(|process| process.has_reached(place))
    }

    /// One writes and one stands by; whoever has backed off for too long is started again.
    async fn a_pair_is_there(&mut self) {
        let since = Instant::now();
        let mut restarted = false;
        loop {
            if let Ok(target) = self.target.connect("target").await
                && writers_of(&target).await.len() == 1
                && !texts(&target, STANDING_BY).await.is_empty()
            {
                return;
            }
            if since.elapsed() > Duration::from_millis(1_500) && !restarted {
                restarted = true;
                for index in 0..2 {
                    self.stop(index).await;
                    self.restart(index).await;
                }
            }
            if since.elapsed() > Duration::from_secs(20) {
                panic!("there is no pair\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(&mut self, index: usize) {
        send("TERM", self.processes[index].pid()).unwrap();
        let ended = self.processes[index].child.wait();
        match tokio::time::timeout(Duration::from_secs(20), ended).await {
            Ok(status) => assert_eq!(status.unwrap().code(), Some(0), "{}", self.logs()),
            Err(_) => panic!("SIGTERM does not end it\n{}", self.logs()),
        }
    }

    async fn restart(&mut self, index: usize) {
        let process = &mut self.processes[index];
        _ = std::fs::remove_dir_all(&process.failpoints);
        std::fs::create_dir_all(&process.failpoints).unwrap();
        process.child = spawn(&process.source, &process.target, &process.failpoints, &process.log);
    }

    async fn taken_over_from(&self, pid: u32) {
        eventually("another process is the writer", || async {
            let target =
                self.target.connect("target").await.map_err(|error| vec![error.to_string()])?;
            let writers = writers_of(&target).await;
            match writers.len() == 1 && !writers[0].ends_with(&format!("/{pid}")) {
                true => Ok(()),
                false => Err(writers),
            }
        })
        .await;
    }

    async fn write_probe(&mut self) {
        self.probes += 1;
        let sql = format!(
            "update schools set name = '{}', updated_at = now() where id = md5('probe')::uuid",
            self.probes
        );
        self.source.connect("source").await.unwrap().batch_execute(&sql).await.unwrap();
    }

    /// A change that is made now gets through.
    async fn probe(&mut self) {
        self.write_probe().await;
        let target = self.target.connect("target").await.unwrap();
        let since = Instant::now();
        while texts(&target, PROBE).await != [self.probes.to_string()] {
            if since.elapsed() > Duration::from_secs(160) {
                panic!("a change does not get through\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Salesforce answers nothing any more, and there are rows that it has not seen.
    async fn rows_without_sfid(&mut self) -> tokio::sync::OwnedMutexGuard<()> {
        let closed = self.salesforce.gate.clone().lock_owned().await;
        let new = "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
                   select 'New', 'R', 'T', 'GB', 'w', now(), now() from generate_series(1, 5)";
        self.source.connect("source").await.unwrap().batch_execute(new).await.unwrap();
        let target = self.target.connect("target").await.unwrap();
        eventually("there are rows without sfid", || async {
            let sql = "select count(*)::text from salesforce.editor__c where sfid is null";
            match texts(&target, sql).await[0].parse::<u32>().unwrap() {
                5.. => Ok(()),
                few => Err(few),
            }
        })
        .await;
        closed
    }

    /// As an operator types it, straight to the databases.
    async fn command(&self, arguments: &[&str]) {
        let ended = program::Program::new(arguments)
            .env("DATABASE_URL", &self.source.url("source"))
            .env("SALESFORCE_CONNECT_URL", &self.target.url("target"))
            .env("SALESFORCE_ENABLED", "true")
            .run()
            .await;
        assert_eq!(ended.code, 0, "{ended}\n{}", self.logs());
    }

    /// The writers must pause meanwhile.
    async fn nothing_is_left(&self, told: &str) {
        let source = self.source.connect("source").await.unwrap();
        let target = self.target.connect("target").await.unwrap();
        let since = Instant::now();
        loop {
            let left = left(&source, &target).await;
            if left.is_empty() {
                return;
            }
            if since.elapsed() > Duration::from_secs(240) {
                panic!("after {told} something is left: {left:?}\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The writers pause until nothing is left to do; then every row is compared.
    async fn settle(&mut self, told: &str) {
        let _silence = self.writers.pause().await;
        self.nothing_is_left(told).await;
        let source = self.source.connect("source").await.unwrap();
        let target = self.target.connect("target").await.unwrap();
        self.report.rows += expectation::check(&source, &target).await as u64;
        self.report.checks += 1;
        let failed = "select id::text from salesforce._trigger_log where state = 'FAILED'";
        assert!(texts(&target, failed).await.is_empty(), "a child came before its parent: {told}");
        assert!(writers_of(&target).await.len() <= 1, "two writers");
    }

    fn logs(&self) -> String {
        let mut text = format!("(in {})", self.folder.display());
        for process in &self.processes {
            let log = std::fs::read_to_string(&process.log).unwrap_or_default();
            let tail = schoolbell::demo::cluster::tail(&log, 40);
            _ = write!(text, "\n--- {}\n{tail}", process.log.display());
        }
        text
    }
}

/// Three changes whose keys are longer than a page of an index, and cannot be compressed.
const LONG_KEYS: &str = "insert into schoolbell.change (source_table, operation, keys) \
    select 'public.schools', 'UPDATE', jsonb_build_object('id', n || (select string_agg(md5(random()::text || m || n), '') \
    from generate_series(1, 100) m)) from generate_series(1, 3) n";
const RELATED: &str = "contact_editor_affiliation__c";
const PROBE: &str =
    "select name from salesforce.editor__c where editoruuid__c = md5('probe')::uuid::text";
const WRITERS: &str = "select split_part(application_name, ' ', 3) from pg_stat_activity \
    where datname = current_database() and application_name like 'schoolbell writer %'";
const STANDING_BY: &str = "select pid::text from pg_stat_activity where datname = current_database() \
    and application_name = 'schoolbell service' and query like '%pg_try_advisory_lock%'";

/// Host and process of each session that holds the writer's lock.
async fn writers_of(target: &Client) -> Vec<String> {
    texts(target, WRITERS).await
}

/// What is not done yet, or is parked although it need not be.
async fn left(source: &Client, target: &Client) -> Vec<String> {
    let mut left = Vec::new();
    for (what, sql) in [
        ("changes", "select count(*)::text from schoolbell.change"),
        ("replays", "select count(*)::text from schoolbell.resync where finished_at is null"),
        (
            "due or refused",
            "select count(*)::text from schoolbell.parked where due_at is not null or state <> 'waiting'",
        ),
    ] {
        let count = texts(source, sql).await.remove(0);
        if count != "0" {
            left.push(format!("{count} {what}"));
        }
    }
    let log = "select state || id from salesforce._trigger_log where state = 'NEW'";
    left.extend(texts(target, log).await.into_iter().take(5));
    // Whoever waits must wait for what is really not there.
    let there: HashSet<String> = texts(
        target,
        "select 'school sfid ' || editoruuid__c from salesforce.editor__c where sfid is not null union all \
         select 'contact sfid ' || pi_accounts_unique_id__c from salesforce.contact where sfid is not null union all \
         select 'contact row ' || pi_accounts_unique_id__c from salesforce.contact",
    )
    .await
    .into_iter()
    .collect();
    let waits = "select awaits || ' ' || awaits_key from schoolbell.parked where state = 'waiting'";
    left.extend(texts(source, waits).await.into_iter().filter(|what| there.contains(what)));
    // A school that the source has is never waited for for long.
    let waits = "select awaits || ' ' || awaits_key from schoolbell.parked where state = 'waiting' and \
                 awaits = 'school sfid' and awaits_key in (select id::text from schools)";
    left.extend(texts(source, waits).await);
    left
}

/// Heroku Connect reads a table again: what Salesforce has comes back under new ids, the rest is gone. Returns
/// how many rows are gone.
async fn reload(target: &Client, table: &str) -> i64 {
    let columns = format!(
        "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute where attrelid = \
         'salesforce.{table}'::regclass and attnum > 0 and not attisdropped and attname <> 'id'"
    );
    let columns = texts(target, &columns).await.remove(0);
    let sql = format!(
        "begin; set local xmlbinary = 'hex'; lock table salesforce.{table}; \
         create temporary table kept on commit drop as select * from salesforce.{table}; \
         truncate salesforce.{table}; \
         insert into salesforce.{table} ({columns}) select {columns} from kept where sfid is not null order by random(); \
         create temporary table lost as select count(*) as rows from kept where sfid is null; commit"
    );
    loop {
        match target.batch_execute(&sql).await {
            Ok(()) => break,
            // A deadlock with somebody who writes.
            Err(error) if error.as_db_error().is_some() => {
                target.batch_execute("rollback").await.unwrap();
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    target.query_one("select rows from lost", &[]).await.unwrap().get(0)
}

async fn process(source: &Cluster, target: &Cluster, folder: &Path) -> Process {
    let (source, target) = (Proxy::start(source.port()).await, Proxy::start(target.port()).await);
    let (failpoints, log) = (folder.join("failpoints"), folder.join("log"));
    std::fs::create_dir_all(&failpoints).unwrap();
    let child = spawn(&source, &target, &failpoints, &log);
    Process { child, source, target, failpoints, log }
}

fn spawn(source: &Proxy, target: &Proxy, failpoints: &Path, log: &Path) -> Child {
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

fn seed() -> u64 {
    let seed = std::env::var("SCHOOLBELL_SEED").ok().and_then(|seed| seed.parse().ok());
    seed.unwrap_or_else(|| fastrand::u64(..))
}

/// Every failpoint with every fault, in an order of its own, again and again.
fn matrix(seed: u64) -> impl Iterator<Item = Cell> {
    let mut random = Rng::with_seed(seed);
    std::iter::repeat_with(move || {
        let mut cells: Vec<Cell> = Failpoint::ALL
            .iter()
            .flat_map(|&place| Fault::ALL.map(|fault| (place, fault)))
            .collect();
        random.shuffle(&mut cells);
        cells
    })
    .flatten()
}

/// Its lock is free, and the other process writes, although the first one still has its other database.
#[tokio::test]
async fn a_writer_that_loses_one_database_leaves_the_writing_to_the_other_process() {
    let mut stage = Stage::start(seed()).await;
    stage.one_side_is_lost(Failpoint::BeforeCommit, |process| &process.source).await;
    stage.one_side_is_lost(Failpoint::AfterCommit, |process| &process.target).await;
    stage.settle("one side was lost").await;
}

/// Whether it stood between two transactions or inside one.
#[tokio::test]
async fn a_stopped_writer_is_succeeded_within_20_seconds_and_writes_nothing_when_it_goes_on() {
    let mut stage = Stage::start(seed()).await;
    for place in [Failpoint::AfterProject, Failpoint::BeforeCommit] {
        let succeeded = stage.stopped(place).await;
        println!("take-over from a stopped process: {:.1} s", succeeded.as_secs_f64());
        assert!(succeeded < Duration::from_secs(20), "{}: {succeeded:?}", place.name());
    }
    stage.settle("the writers were stopped").await;
}

/// A host that vanishes says nothing, so the servers must notice. In network namespaces of its own, which need
/// root and the programs `unshare`, `nsenter` and `ip`: without them the test says so and ends.
#[tokio::test]
async fn a_host_that_vanishes_without_a_word_is_succeeded_within_15_seconds() {
    const INSIDE: &str = "SCHOOLBELL_IN_A_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return vanish().await;
    }
    let usable = std::process::Command::new("unshare")
        .args(["-n", "sh", "-c", "ip link add one type veth peer name two && nsenter --version"])
        .output();
    if !usable.is_ok_and(|output| output.status.success()) {
        println!("skipped: this machine (or user) cannot make network namespaces");
        return;
    }
    // This very test again, in a namespace that goes away with it.
    let output = Command::new("unshare")
        .arg("-n")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("torture::a_host_that_vanishes_without_a_word_is_succeeded_within_15_seconds")
        .env(INSIDE, "yes")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}

/// The cable between a writer and its servers is pulled; the other program stands by on the servers' side.
async fn vanish() {
    shell(
        "ip link set lo up && ip link add cable type veth peer name far && ip addr add 10.99.0.1/24 dev cable && \
           ip link set cable up",
    );
    let folder = tempfile::tempdir().unwrap();
    let access = folder.path().join("pg_hba.conf");
    std::fs::write(&access, "host all all 127.0.0.1/32 trust\nhost all all 10.99.0.0/24 trust\n")
        .unwrap();
    // The server may run as another user.
    shell(&format!("chmod 755 {} && chmod 644 {}", folder.path().display(), access.display()));
    let settings = vec![
        "listen_addresses = '127.0.0.1,10.99.0.1'".to_string(),
        format!("hba_file = '{}'", access.display()),
    ];
    let cluster = Cluster::start(Options { settings, ..Options::open() }).await.unwrap();
    cluster.create_database("source", None).await.unwrap();
    cluster.create_database("target", None).await.unwrap();
    let source = cluster.connect("source").await.unwrap();
    let target = cluster.connect("target").await.unwrap();
    stand_in::install_application(&source).await.unwrap();
    stand_in::install_heroku_connect(&target).await.unwrap();
    let migrated =
        program::Program::new(&["migrate"]).env("DATABASE_URL", &cluster.url("source")).run().await;
    assert_eq!(migrated.code, 0, "{migrated}");
    let run = |host: &str, mut command: Command| {
        let url = |database| format!("postgres://postgres@{host}:{}/{database}", cluster.port());
        command
            .env("DATABASE_URL", url("source"))
            .env("SALESFORCE_CONNECT_URL", url("target"))
            .env("SALESFORCE_ENABLED", "true")
            .env("SCHOOLBELL_HTTP", "off")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    // The first one waits at the far end until the cable is there.
    let mut far = Command::new("unshare");
    let start = format!("read ready; exec {} run", program::path());
    far.args(["-n", "sh", "-c", &start]).stdin(Stdio::piped());
    let mut far = run("10.99.0.1", far);
    let pid = far.id().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    shell(&format!(
        "ip link set far netns {pid} && nsenter -t {pid} -n sh -c 'ip addr add 10.99.0.2/24 dev far && \
         ip link set lo up && ip link set far up'"
    ));
    far.stdin.take().unwrap().write_all(b"\n").await.unwrap();
    let insert = |name: &str| {
        format!(
            "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
             values ('{name}', 'R', 'T', 'GB', 'w', now(), now())"
        )
    };
    let arrives = async |name: &str| {
        let sql = format!("select name from salesforce.editor__c where name = '{name}'");
        eventually(name, async || match texts(&target, &sql).await.is_empty() {
            false => Ok(()),
            true => Err("it has not arrived"),
        })
        .await;
    };
    source.batch_execute(&insert("by the first")).await.unwrap();
    arrives("by the first").await;
    let mut near = Command::new(program::path());
    near.arg("run").stdin(Stdio::null());
    let _near = run("127.0.0.1", near);
    eventually("the other stands by", async || {
        match texts(&target, STANDING_BY).await.is_empty() {
            false => Ok(()),
            true => Err("it does not"),
        }
    })
    .await;

    shell(&format!("nsenter -t {pid} -n ip link set far down"));
    let vanished = Instant::now();
    source.batch_execute(&insert("by the second")).await.unwrap();
    arrives("by the second").await;

    println!("take-over from a host that vanished: {:.1} s", vanished.elapsed().as_secs_f64());
    assert!(vanished.elapsed() < Duration::from_secs(15), "{:?}", vanished.elapsed());
}

fn shell(script: &str) {
    let output = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_few_cells_of_the_fault_matrix_leave_every_row_right() {
    let (seed, began) = (seed(), Instant::now());
    println!("SCHOOLBELL_SEED={seed}");
    let cells = [
        (Failpoint::AfterClaim, Fault::Kill),
        (Failpoint::BeforeCommit, Fault::Pause),
        (Failpoint::AfterCommit, Fault::Exit),
        (Failpoint::WhileParking, Fault::SourceCut),
        (Failpoint::BeforeAcknowledge, Fault::Reload),
        (Failpoint::ResyncPage, Fault::TargetHalfClosed),
        (Failpoint::WhileArming, Fault::SourceRestarts),
        (Failpoint::AfterProject, Fault::TargetStalls),
        (Failpoint::BeforeCommit, Fault::ForeignLocks),
        (Failpoint::AfterCommit, Fault::LongKeys),
        (Failpoint::BeforeAcknowledge, Fault::Settings),
    ];

    let stage = Stage::start(seed).await;
    let server = stage.server().await;
    let mut report = stage.run(cells, began + Duration::from_secs(3_600)).await;

    assert_eq!(report.faults(), cells.len() as u64);
    println!("\n{}\n", report.markdown(seed, began.elapsed().as_secs(), &server));
}

/// Several stages at once: most of the time is spent waiting.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes: make torture"]
async fn the_whole_fault_matrix_leaves_every_row_right() {
    const STAGES: u64 = 6;
    let (seed, began) = (seed(), Instant::now());
    println!("SCHOOLBELL_SEED={seed}");
    let seconds = std::env::var("SCHOOLBELL_TORTURE_SECONDS").ok();
    let seconds: u64 = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(600);
    let until = began + Duration::from_secs(seconds);

    let mut stages = tokio::task::JoinSet::new();
    for number in 0..STAGES {
        // Together they go through the matrix; none does what another does.
        let cells = matrix(seed).skip(number as usize).step_by(STAGES as usize);
        let stage_seed = seed.wrapping_add(1_000 * number);
        stages.spawn(async move {
            let stage = Stage::start(stage_seed).await;
            let server = stage.server().await;
            (server, stage.run(cells, until).await)
        });
    }
    let (mut report, mut server) = (Report::default(), String::new());
    while let Some(stage) = stages.join_next().await {
        let (ran_on, of_stage) = stage.unwrap();
        report.add(of_stage);
        server = ran_on;
    }

    assert!(report.faults() > 0);
    let report = report.markdown(seed, began.elapsed().as_secs(), &server);
    println!("\n{report}\n");
    if std::env::var_os("SCHOOLBELL_BLESS").is_some() {
        keep(&report);
    }
}
