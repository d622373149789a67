//! Servers, processes and writers of one run, and what is done to them.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;
use schoolbell::demo::cluster::{Cluster, Options, send};
use schoolbell::demo::stand_in;
use schoolbell::failpoint::Failpoint;
use tokio_postgres::Client;

use super::Cell;
use super::fault::{Fault, Report};
use super::process::{Process, Salesforce, process, spawn};
use crate::support::load::stretched;
use crate::support::writers::{self, Writers};
use crate::support::{eventually, expectation, program, target_programs, texts};

/// Two clusters, two programs, writers, Salesforce.
pub(super) struct Stage {
    pub(super) source: Cluster,
    pub(super) target: Cluster,
    pub(super) processes: [Process; 2],
    pub(super) writers: Writers,
    pub(super) salesforce: Salesforce,
    pub(super) random: Rng,
    pub(super) probes: u32,
    pub(super) folder: PathBuf,
    pub(super) report: Report,
}

impl Stage {
    pub(super) async fn start(seed: u64) -> Self {
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
    pub(super) async fn run(
        mut self,
        cells: impl IntoIterator<Item = Cell>,
        until: Instant,
    ) -> Report {
        for (place, fault) in cells {
            if Instant::now() > until {
                break;
            }
            let told = format!("{} at {}", fault.name(), place.name());
            let cell =
                tokio::time::timeout(stretched(Duration::from_secs(800)), self.cell(place, fault));
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

    pub(super) async fn server(&self) -> String {
        let client = self.source.connect("source").await.unwrap();
        format!("PostgreSQL {}", texts(&client, "show server_version").await.remove(0))
    }

    pub(super) async fn cell(&mut self, place: Failpoint, fault: Fault) {
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
            // A resync reads its pages when no change is due, which on a busy machine with three writers may be never.
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

    pub(super) fn whoever_reached(&self, place: Failpoint) -> Option<usize> {
        self.processes.iter().position(|process| process.has_reached(place))
    }

    /// One writes and one stands by; a process that has backed off for too long is started again.
    pub(super) async fn a_pair_is_there(&mut self) {
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
            if since.elapsed() > stretched(Duration::from_secs(20)) {
                panic!("there is no pair\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn stop(&mut self, index: usize) {
        send("TERM", self.processes[index].pid()).unwrap();
        let ended = self.processes[index].child.wait();
        match tokio::time::timeout(stretched(Duration::from_secs(20)), ended).await {
            Ok(status) => assert_eq!(status.unwrap().code(), Some(0), "{}", self.logs()),
            Err(_) => panic!("SIGTERM does not end it\n{}", self.logs()),
        }
    }

    pub(super) async fn restart(&mut self, index: usize) {
        let process = &mut self.processes[index];
        _ = std::fs::remove_dir_all(&process.failpoints);
        std::fs::create_dir_all(&process.failpoints).unwrap();
        process.child = spawn(&process.source, &process.target, &process.failpoints, &process.log);
    }

    pub(super) async fn taken_over_from(&self, pid: u32) {
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

    pub(super) async fn write_probe(&mut self) {
        self.probes += 1;
        let sql = format!(
            "update schools set name = '{}', updated_at = now() where id = md5('probe')::uuid",
            self.probes
        );
        self.source.connect("source").await.unwrap().batch_execute(&sql).await.unwrap();
    }

    /// A change that is made now gets through.
    pub(super) async fn probe(&mut self) {
        self.write_probe().await;
        let target = self.target.connect("target").await.unwrap();
        let since = Instant::now();
        while texts(&target, PROBE).await != [self.probes.to_string()] {
            if since.elapsed() > stretched(Duration::from_secs(160)) {
                panic!("a change does not get through\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Salesforce answers nothing any more, and there are rows that it has not seen.
    pub(super) async fn rows_without_sfid(&mut self) -> tokio::sync::OwnedMutexGuard<()> {
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
    pub(super) async fn command(&self, arguments: &[&str]) {
        let ended = program::Program::new(arguments)
            .env("DATABASE_URL", &self.source.url("source"))
            .env("SALESFORCE_CONNECT_URL", &self.target.url("target"))
            .env("SALESFORCE_ENABLED", "true")
            .run()
            .await;
        assert_eq!(ended.code, 0, "{ended}\n{}", self.logs());
    }

    /// The writers must pause meanwhile.
    pub(super) async fn nothing_is_left(&self, told: &str) {
        let source = self.source.connect("source").await.unwrap();
        let target = self.target.connect("target").await.unwrap();
        let since = Instant::now();
        loop {
            let left = left(&source, &target).await;
            if left.is_empty() {
                return;
            }
            if since.elapsed() > stretched(Duration::from_secs(240)) {
                panic!("after {told} something is left: {left:?}\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The writers pause until nothing is left to do; then every row is compared.
    pub(super) async fn settle(&mut self, told: &str) {
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

    pub(super) fn logs(&self) -> String {
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
pub(super) const LONG_KEYS: &str = "insert into schoolbell.change (source_table, operation, keys) \
    select 'public.schools', 'UPDATE', jsonb_build_object('id', n || (select string_agg(md5(random()::text || m || n), '') \
    from generate_series(1, 100) m)) from generate_series(1, 3) n";
pub(super) const RELATED: &str = "contact_editor_affiliation__c";
pub(super) const PROBE: &str =
    "select name from salesforce.editor__c where editoruuid__c = md5('probe')::uuid::text";
pub(super) const WRITERS: &str = "select split_part(application_name, ' ', 3) from pg_stat_activity \
    where datname = current_database() and application_name like 'schoolbell writer %'";
pub(super) const STANDING_BY: &str = "select pid::text from pg_stat_activity where datname = current_database() \
    and application_name = 'schoolbell service' and query like '%pg_try_advisory_lock%'";

/// Host and process of each session that holds the writer's lock.
pub(super) async fn writers_of(target: &Client) -> Vec<String> {
    texts(target, WRITERS).await
}

/// What is not done yet, or is parked although it need not be.
pub(super) async fn left(source: &Client, target: &Client) -> Vec<String> {
    let mut left = Vec::new();
    for (what, sql) in [
        ("changes", "select count(*)::text from schoolbell.change"),
        ("resyncs", "select count(*)::text from schoolbell.resync where finished_at is null"),
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
    // A waiting key must wait for a row that is really not there.
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
pub(super) async fn reload(target: &Client, table: &str) -> i64 {
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
