//! How each fault strikes, and how its moment is reached.

use std::time::{Duration, Instant};

use schoolbell::demo::cluster::{Shutdown, send};
use schoolbell::failpoint::Failpoint;

use super::fault::{Fault, ODD_SETTINGS, READ_ONLY};
use super::process::Process;
use super::stage::{LONG_KEYS, PROBE, RELATED, Stage, reload, writers_of};
use crate::support::load::stretched;
use crate::support::proxy::{Cut, Proxy};
use crate::support::{eventually, texts};

impl Stage {
    /// What the fault does while the program `struck` is stopped at the failpoint.
    pub(super) async fn strike(&mut self, place: Failpoint, fault: Fault, struck: usize) {
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
                    at.elapsed() < stretched(Duration::from_secs(3)),
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

    pub(super) async fn settings(&self, changes: &[&str]) {
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

    /// None of our sessions is the victim of a deadlock, in whatever order others lock rows. The
    /// others have none among themselves: one locks a single row.
    pub(super) async fn foreign_locks(&mut self, place: Failpoint, struck: usize) {
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

    pub(super) async fn long_keys_are_dead(&self) {
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
    pub(super) async fn pause(&mut self, place: Failpoint, struck: usize) {
        let pid = self.processes[struck].pid();
        send("STOP", pid).unwrap();
        self.processes[struck].target.stall();
        self.processes[struck].target.cut(Cut::BehindTheClientsBack);
        self.taken_over_from(pid).await;
        self.probe().await;
        self.processes[struck].target.pass();
        self.goes_on(place, struck).await;
    }

    /// Only the server ends the sessions of a stopped process, because of its silence.
    pub(super) async fn stopped(&mut self, place: Failpoint) -> Duration {
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

    /// A process that was stopped continues with what it had in hand, and must not write it.
    pub(super) async fn goes_on(&mut self, place: Failpoint, struck: usize) {
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
    pub(super) async fn one_side_is_lost(
        &mut self,
        place: Failpoint,
        side: fn(&Process) -> &Proxy,
    ) {
        self.a_pair_is_there().await;
        let struck = self.reach(place, "stop").await;
        let lost = self.processes[struck].pid();
        let proxy = side(&self.processes[struck]);
        proxy.refuse();
        proxy.cut(Cut::Close);
        self.processes[struck].disarm(place);

        let at = Instant::now();
        self.taken_over_from(lost).await;
        assert!(
            at.elapsed() < stretched(Duration::from_secs(3)),
            "take-over after {:?}",
            at.elapsed()
        );
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
    pub(super) async fn reach(&mut self, place: Failpoint, order: &str) -> usize {
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
    /// old by the time the writer continues.
    pub(super) async fn reach_with_a_probe(&mut self, place: Failpoint) -> usize {
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
}
