//! The story of the demo: what is done, in which order, and what is measured on the way.
//!
//! Every figure is taken from the two databases, not from the program that is shown.

use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use futures_util::SinkExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::DemoOptions;
use super::bridge::{Program, RunningService};
use super::check::{self, Expected, ObjectCheck};
use super::cluster::{Cluster, Options};
use super::school_data::{ROLE_COLUMNS, SCHOOL_COLUMNS, SchoolBatch, SchoolData};
use super::stage::{Stage, count, counted, milliseconds, wrapped};
use super::stand_in;
use crate::visible;

const APP: &str = "app";
const SALESFORCE: &str = "salesforce";

/// The real Salesforce takes two to ten seconds; nobody wants to watch that.
const SALESFORCE_EVERY: Duration = Duration::from_millis(250);
/// Between two looks whether something has come true; latencies are measured without a pause.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// A wait that takes longer has failed. Large demos are given more.
const PATIENCE: Duration = Duration::from_secs(60);
/// Loaded by COPY while the service runs, and again while it is stopped.
const NEW_SCHOOLS: u32 = 250;
/// Single updates that are timed one after the other.
const SINGLE_UPDATES: usize = 50;
/// How many mistakes of an object are listed.
const MISTAKES_SHOWN: usize = 10;

const CAUGHT_UP: &str = "select not exists (select from schoolbell.change)";
const NOTHING_PARKED: &str = "select not exists (select from schoolbell.parked)";
const ALL_ANSWERED: &str =
    "select not exists (select from salesforce._trigger_log where state in ('NEW', 'PENDING'))";

/// The story so far.
struct Story {
    stage: Stage,
    cluster: Cluster,
    program: Program,
    source: Client,
    target: Client,
    service: Option<RunningService>,
    salesforce: Option<Salesforce>,
    later: Vec<SchoolBatch>,
    expected: Expected,
    patience: Duration,
    began: Instant,
}

/// The task that simulates Salesforce.
struct Salesforce {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), tokio_postgres::Error>>,
}

/// A story that was told to its end; service and Salesforce still run.
pub struct Finished {
    story: Story,
    right: bool,
}

/// What one transaction of the application did.
struct AppWrite {
    /// Rows that its statement touched.
    rows: u64,
    /// Changes that the triggers recorded.
    captured: i64,
    /// From the first statement to the end of the commit.
    took: Duration,
    /// The end of the commit.
    committed: Instant,
}

/// Tells the story.
pub async fn tell(options: &DemoOptions) -> Result<Finished> {
    let mut story = Story::begin(options).await?;
    match story.go_on().await {
        Ok(right) => Ok(Finished { story, right }),
        Err(error) => match story.program.service_said(10) {
            log if log.is_empty() => Err(error),
            log => Err(with_log(&format!("{error:#}; the service's log ends with"), &log)),
        },
    }
}

impl Story {
    async fn begin(options: &DemoOptions) -> Result<Self> {
        let mut stage = Stage::new();
        stage.title(
            "Schoolbell on a PostgreSQL of its own",
            "No database of yours is touched, and nothing is left behind.",
        );

        stage.step("Start a throw-away PostgreSQL");
        let began = Instant::now();
        // What it loses when the machine crashes, nobody will miss.
        let cluster = Cluster::start(Options::default()).await?;
        let version: String = cluster
            .connect("postgres")
            .await?
            .query_one("select split_part(current_setting('server_version'), ' ', 1)", &[])
            .await?
            .get(0);
        let server = format!("PostgreSQL {version}, port {}", cluster.port());
        stage.figure(&server, milliseconds(began.elapsed()));

        stage.step("Two databases, as in production");
        for database in [APP, SALESFORCE] {
            cluster.create_database(database, None).await?;
        }
        let source = cluster.connect(APP).await?;
        let target = cluster.connect(SALESFORCE).await?;
        stand_in::install_application(&source).await?;
        stand_in::install_heroku_connect(&target).await?;

        let mut data = SchoolData::new();
        let first = data.batch(options.schools);
        let later = vec![data.batch(NEW_SCHOOLS), data.batch(NEW_SCHOOLS)];
        load(&source, &first).await?;
        let people: Vec<&String> =
            later.iter().chain([&first]).flat_map(|batch| &batch.people).collect();
        stand_in::create_contacts(&target, &people).await?;
        stage.figure("app: the application's schools", count(first.school_count));
        stage.figure("app: roles of people in them", count(first.role_count));
        stage.figure("     of these students, who are never published", count(first.student_count));
        stage.figure("salesforce: contacts, which Salesforce has created", count(people.len()));
        stage.note("It has Heroku Connect's tables and triggers; Salesforce itself is simulated.");

        let program = Program::new(&cluster, APP, SALESFORCE, options.stay)?;
        Ok(Self {
            stage,
            cluster,
            program,
            source,
            target,
            service: None,
            salesforce: None,
            later,
            expected: Expected::default(),
            began,
            patience: PATIENCE + Duration::from_millis(10) * options.schools,
        })
    }

    async fn go_on(&mut self) -> Result<bool> {
        self.install_capture().await?;
        self.load_what_is_there().await?;
        self.start_service_and_salesforce().await?;
        self.update_one().await?;
        self.update_all().await?;
        self.update_what_is_not_mapped().await?;
        self.update_without_effect().await?;
        self.roll_back().await?;
        self.copy_in().await?;
        self.delete().await?;
        self.role_without_contact().await?;
        self.write_while_stopped().await?;
        self.check_every_row().await
    }

    async fn install_capture(&mut self) -> Result<()> {
        self.stage.step("Install the capture triggers");
        self.command(&["migrate"]).await?;
        Ok(())
    }

    async fn load_what_is_there(&mut self) -> Result<()> {
        self.stage.step("Resync the rows that were there before");
        self.command(&["resync"]).await?;
        let waiting = self.number(&self.source, "select count(*) from schoolbell.parked").await?;
        self.stage.figure("roles that wait", count(waiting));
        self.stage
            .note("Salesforce has not accepted their schools yet. A child that is sent before its");
        self.stage
            .note("parent would fail there for good, so it waits until the parent has an sfid.");
        Ok(())
    }

    async fn start_service_and_salesforce(&mut self) -> Result<()> {
        self.stage.step("Start the service, and let Salesforce answer");
        self.start_service().await?;
        let client = self.cluster.connect(SALESFORCE).await?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(stand_in::play_salesforce(client, SALESFORCE_EVERY, stopped));
        self.salesforce = Some(Salesforce { stop, task });

        let began = Instant::now();
        let known = "select not exists (select from salesforce.editor__c where sfid is null)";
        self.until(On::Target, "Salesforce accepts the schools", known).await?;
        self.stage
            .figure("all schools accepted by Salesforce after", milliseconds(began.elapsed()));
        self.settled().await?;
        self.stage
            .figure("all roles have followed by themselves after", milliseconds(began.elapsed()));
        Ok(())
    }

    async fn update_one(&mut self) -> Result<()> {
        self.stage.step("One row, one statement");
        let ids = self.strings("select id::text from schools where verified_at is not null order by created_at limit 51").await?;
        let (first, more) = ids.split_first().context("the demo's data has verified schools")?;

        // Long enough without work for the service to go to sleep; it is woken by a NOTIFY.
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.stage
            .typed("app=#", "update schools set name = 'Bell Lane Primary School' where id = …");
        let woken = self.latency(first, "Bell Lane Primary School").await?;
        self.stage
            .figure("commit to visible in Heroku Connect, service asleep", milliseconds(woken));

        let mut times = Vec::new();
        for (number, id) in more.iter().take(SINGLE_UPDATES).enumerate() {
            times.push(self.latency(id, &format!("Bell Lane {}", number + 1)).await?);
        }
        times.sort();
        let middle = times.get(times.len() / 2).copied().unwrap_or_default();
        let slowest = times.last().copied().unwrap_or_default();
        self.stage
            .figure(&format!("{} more, one by one: median", times.len()), milliseconds(middle));
        self.stage.figure("slowest of them", milliseconds(slowest));
        self.settled().await
    }

    async fn update_all(&mut self) -> Result<()> {
        self.stage.step("All rows, one statement");
        let approved = "
            with heroku_connect as materialized (select set_config('xmlbinary', 'hex', true))
            update salesforce.editor__c
            set status__c = 'Approved'
            from heroku_connect
            where id = (select min(id) from salesforce.editor__c)
            returning editoruuid__c";
        self.expected.approved_school = self.target.query_one(approved, &[]).await?.get(0);

        let sql = "update schools set website = replace(website, '//www.', '//')";
        self.stage.typed("app=#", sql);
        let before = self.target_writes().await?;
        let written = self.write(sql).await?;
        self.until(On::Source, "the bulk update is applied", CAUGHT_UP).await?;
        let applied = written.committed.elapsed();
        let rows_per_second = written.rows as f64 / applied.as_secs_f64();
        let synced = self.target_writes().await? - before;
        self.stage.figure(
            &format!("{} captured, the statement took", counted(written.rows as usize, "row")),
            milliseconds(written.took),
        );
        self.stage.figure("commit to all visible in Heroku Connect", milliseconds(applied));
        self.stage.figure("rows per second", count(rows_per_second as i64));
        self.stage.figure("writes for Salesforce, one per row", count(synced));
        self.stage.note("A status that a Salesforce user has set meanwhile is left alone.");
        self.settled().await
    }

    async fn update_what_is_not_mapped(&mut self) -> Result<()> {
        self.stage.step("A column that Salesforce does not get");
        let sql = "update schools set creator_department = 'Computing'";
        self.stage.typed("app=#", sql);
        let written = self.write(sql).await?;
        ensure!(written.captured == 0, "an unmapped column was captured");
        self.stage.figure("rows updated", count(written.rows));
        self.stage.figure("changes captured", count(written.captured));
        Ok(())
    }

    async fn update_without_effect(&mut self) -> Result<()> {
        self.stage.step("A change that makes no difference in Salesforce");
        let sql = "update schools set name = name || '  '";
        self.stage.typed("app=#", &format!("{sql}   -- Salesforce trims blanks"));
        let before = self.target_writes().await?;
        let written = self.write(sql).await?;
        self.until(On::Source, "the update is looked at", CAUGHT_UP).await?;
        let synced = self.target_writes().await? - before;
        ensure!(synced == 0, "{synced} rows were written although nothing had changed");
        self.stage.figure("changes captured", count(written.captured));
        self.stage.figure("all compared after", milliseconds(written.committed.elapsed()));
        self.stage
            .figure("writes for Salesforce (rows in Heroku Connect's _trigger_log)", count(synced));
        Ok(())
    }

    async fn roll_back(&mut self) -> Result<()> {
        self.stage.step("A transaction that is rolled back");
        self.stage.typed("app=#", "begin; update schools set name = 'Nonsense'; rollback");
        let before = self.target_writes().await?;
        let transaction = self.source.transaction().await?;
        transaction.execute("update schools set name = 'Nonsense'", &[]).await?;
        let captured = captured(&transaction).await?;
        transaction.rollback().await?;
        self.until(On::Source, "nothing is to be done", CAUGHT_UP).await?;
        let synced = self.target_writes().await? - before;
        ensure!(synced == 0, "{synced} rows of a rolled back transaction were written");
        self.stage.figure("changes captured, and gone with the transaction", count(captured));
        self.stage.figure("writes for Salesforce", count(synced));
        Ok(())
    }

    async fn copy_in(&mut self) -> Result<()> {
        self.stage.step("COPY, which no application callback sees");
        self.stage.typed(
            "app=#",
            "begin; copy schools (…) from stdin; copy roles (…) from stdin; commit",
        );
        let batch = self.next_batch()?;
        load(&self.source, &batch).await?;
        let began = Instant::now();
        self.until(On::Source, "the new rows are applied", CAUGHT_UP).await?;
        self.stage.figure("new schools", count(batch.school_count));
        self.stage
            .figure("new roles, students left out", count(batch.role_count - batch.student_count));
        self.stage
            .figure("commit to schools visible in Heroku Connect", milliseconds(began.elapsed()));
        self.settled().await?;
        self.stage.figure("schools accepted, roles followed after", milliseconds(began.elapsed()));
        Ok(())
    }

    async fn delete(&mut self) -> Result<()> {
        self.stage.step("Deletes");
        self.stage.typed("app=#", "delete from roles where school_id in (…)");
        self.stage.typed("app=#", "delete from schools where code like '%-07'");
        self.stage
            .typed("app=#", "update roles set role = 0 where …   -- teachers become students");
        let before = self.target_writes().await?;
        let transaction = self.source.transaction().await?;
        let roles = "
            delete from roles
            where school_id in (select id from schools where code like '%-07')
            returning id::text, role";
        let roles = transaction.query(roles, &[]).await?;
        let schools =
            "delete from schools where code like '%-07' returning id::text, creator_id::text";
        let schools = transaction.query(schools, &[]).await?;
        let students =
            "update roles set role = 0 where role = 1 and id % 200 = 9 returning id::text";
        let students = transaction.query(students, &[]).await?;
        transaction.commit().await?;
        self.until(On::Source, "the deletes are looked at", CAUGHT_UP).await?;
        self.stage.figure("schools deleted", count(schools.len()));
        self.stage.figure("roles deleted", count(roles.len()));
        self.stage.figure("teachers who became students", count(students.len()));
        let synced = self.target_writes().await? - before;
        self.stage.figure("writes for Salesforce", count(synced));
        if synced > 0 {
            self.stage
                .note("These are contacts: another school of theirs now speaks for the person.");
        }
        self.stage.note("The rows stay in Salesforce, are counted and reported. A mapping may say");
        self.stage.note("on_delete = \"delete\" instead.");

        self.expected.kept_schools = schools.iter().map(|row| row.get(0)).collect();
        // Students were never there.
        let published = roles.iter().filter(|row| row.get::<_, i32>(1) != 0);
        self.expected.kept_roles = published.chain(&students).map(|row| row.get(0)).collect();
        // Who has created another school is still published.
        let creators: Vec<String> = schools.iter().map(|row| row.get(1)).collect();
        let gone = "
            select creator
            from unnest($1::text[]) as creator
            where not exists (select from schools where creator_id = creator::uuid)";
        let gone = self.source.query(gone, &[&creators]).await?;
        self.expected.kept_contacts = gone.iter().map(|row| row.get(0)).collect();
        self.settled().await
    }

    async fn role_without_contact(&mut self) -> Result<()> {
        self.stage.step("A person whom Salesforce does not know yet");
        self.stage.typed("app=#", "insert into roles (user_id, school_id, role, …) values (…)");
        let insert = "
            insert into roles (user_id, school_id, role, created_at, updated_at)
            select gen_random_uuid(), id, 1, now() at time zone 'UTC', now() at time zone 'UTC'
            from schools
            where verified_at is not null
            limit 1
            returning user_id::text";
        let person: String = self.source.query_one(insert, &[]).await?.get(0);
        self.until(On::Source, "the role is looked at", CAUGHT_UP).await?;
        self.command(&["parked", "list"]).await?;

        self.stage.typed("salesforce", "creates the contact");
        stand_in::create_contact(&self.target, &person).await?;
        let began = Instant::now();
        self.until(On::Source, "the role continues", NOTHING_PARKED).await?;
        self.settled().await?;
        self.stage.figure(
            "the role has followed after (looked for every 5 s)",
            milliseconds(began.elapsed()),
        );
        Ok(())
    }

    async fn write_while_stopped(&mut self) -> Result<()> {
        self.stage.step("The service stops, the application keeps writing");
        self.stage.typed("$", "kill -TERM …");
        let service = self.service.take().context("the service runs")?;
        let took = service.stop(&self.cluster).await?;
        self.last_words();
        self.stage.figure("it has left after", milliseconds(took));

        let before = self.target_writes().await?;
        let batch = self.next_batch()?;
        load(&self.source, &batch).await?;
        self.stage.typed("app=#", "copy schools (…) from stdin; copy roles (…) from stdin");
        // Many keys have several changes then, which become one write.
        for sql in [
            "update schools set verified_at = updated_at where verified_at is null",
            "update schools set administrative_area = upper(administrative_area)",
        ] {
            self.stage.typed("app=#", sql);
            self.write(sql).await?;
        }
        let pending = self.number(&self.source, "select count(*) from schoolbell.change").await?;
        self.stage.figure("changes that wait in the outbox meanwhile", count(pending));
        ensure!(
            self.target_writes().await? == before,
            "rows were written while the service was stopped"
        );

        let began = Instant::now();
        self.start_service().await?;
        self.until(On::Source, "the service catches up", CAUGHT_UP).await?;
        self.stage.figure("start to caught up, nothing lost", milliseconds(began.elapsed()));
        self.settled().await
    }

    async fn check_every_row(&mut self) -> Result<bool> {
        self.stage.step("Compare every row with an expectation written by hand");
        self.settled().await?;
        let compared = check::every_row(&self.source, &self.target, &self.expected).await?;
        self.stage.note(&table_row(["", "published", "right", "wrong", "deleted and kept"]));
        for ObjectCheck { what, published, right, kept, mistakes } in &compared {
            let cells =
                [*what, &count(*published), &count(*right), &count(mistakes.len()), &count(*kept)];
            self.stage.note(&table_row(cells));
        }
        let refused = "select count(*) from salesforce._trigger_log where state = 'FAILED'";
        let refused = self.number(&self.target, refused).await?;
        let writes = self.target_writes().await?;
        self.stage.figure("writes sent to Salesforce in all", count(writes));
        self.stage.figure("writes that Salesforce refused", count(refused));
        self.stage.figure("time since the start", milliseconds(self.began.elapsed()));
        for ObjectCheck { what, mistakes, .. } in &compared {
            for mistake in mistakes.iter().take(MISTAKES_SHOWN) {
                self.stage.verdict(false, &format!("{what}: {mistake}"));
            }
        }
        let right = refused == 0 && compared.iter().all(|compared| compared.mistakes.is_empty());
        match right {
            true => {
                let [schools, roles, contacts] = compared.map(|compared| count(compared.right));
                let verdict = format!(
                    "Every row right: {schools} schools, {roles} roles, {contacts} contacts."
                );
                self.stage.verdict(true, &verdict);
            }
            false => self.stage.verdict(false, "Not every row is right: see above."),
        }
        Ok(right)
    }

    /// Runs one of Schoolbell's commands and shows what it prints.
    async fn command(&self, arguments: &[&str]) -> Result<()> {
        self.stage.typed("$", &format!("schoolbell {}", arguments.join(" ")));
        let began = Instant::now();
        self.stage.said(&self.program.run(&self.cluster, arguments).await?);
        self.stage.figure("took", milliseconds(began.elapsed()));
        Ok(())
    }

    async fn start_service(&mut self) -> Result<()> {
        self.stage.typed("$", "schoolbell run &");
        self.service = Some(self.program.start_service(&self.cluster).await?);
        Ok(())
    }

    /// The last line of the service's log: its totals.
    fn last_words(&self) {
        let line = self.program.service_said(1);
        let words = line.split_once("INFO ").map_or(line.as_str(), |(_, words)| words);
        self.stage.said(&wrapped(words));
    }

    fn next_batch(&mut self) -> Result<SchoolBatch> {
        self.later.pop().context("a batch was made for each COPY")
    }

    /// Runs a statement of the application in a transaction of its own.
    async fn write(&mut self, sql: &str) -> Result<AppWrite> {
        let began = Instant::now();
        let transaction = self.source.transaction().await?;
        let rows = transaction.execute(sql, &[]).await?;
        let statement = began.elapsed();
        let captured = captured(&transaction).await?;
        let commit = Instant::now();
        transaction.commit().await?;
        Ok(AppWrite {
            rows,
            captured,
            took: statement + commit.elapsed(),
            committed: Instant::now(),
        })
    }

    /// Renames a school and returns the time from the end of the commit until Heroku Connect has the name.
    async fn latency(&self, id: &str, name: &str) -> Result<Duration> {
        let look = "select from salesforce.editor__c where editoruuid__c = $1 and name = $2";
        let look = self.target.prepare(look).await?;
        let update = "update schools set name = $2, updated_at = now() at time zone 'UTC' where id = $1::text::uuid";
        let update = self.source.prepare(update).await?;
        self.source.execute(&update, &[&id, &name]).await?;
        let committed = Instant::now();
        while self.target.query_opt(&look, &[&id, &name]).await?.is_none() {
            ensure!(committed.elapsed() < self.patience, "a single update does not arrive");
        }
        Ok(committed.elapsed())
    }

    /// Everything applied, nothing parked, everything answered by Salesforce.
    async fn settled(&mut self) -> Result<()> {
        self.until(On::Source, "nothing is pending", CAUGHT_UP).await?;
        self.until(On::Source, "nothing is parked", NOTHING_PARKED).await?;
        self.until(On::Source, "nothing is pending", CAUGHT_UP).await?;
        self.until(On::Target, "Salesforce has answered", ALL_ANSWERED).await
    }

    /// Waits until a query answers yes.
    async fn until(&mut self, on: On, what: &str, sql: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let client = match on {
                On::Source => &self.source,
                On::Target => &self.target,
            };
            if client.query_one(sql, &[]).await?.get(0) {
                return Ok(());
            }
            if let Some(service) = &mut self.service
                && let Some(end) = service.has_ended()
            {
                bail!(end);
            }
            ensure!(
                began.elapsed() < self.patience,
                "waited {} s until {what}",
                self.patience.as_secs()
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Every write of a user, which is to say of Schoolbell: Heroku Connect's triggers log them all.
    async fn target_writes(&self) -> Result<i64> {
        self.number(&self.target, "select count(*) from salesforce._trigger_log").await
    }

    async fn number(&self, client: &Client, sql: &str) -> Result<i64> {
        Ok(client.query_one(sql, &[]).await?.get(0))
    }

    async fn strings(&self, sql: &str) -> Result<Vec<String>> {
        Ok(self.source.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
    }
}

/// Which database is asked.
#[derive(Clone, Copy)]
enum On {
    Source,
    Target,
}

impl Finished {
    /// Keeps everything running and says how to use it, until `asked_to_end`.
    pub async fn stay(&mut self, asked_to_end: impl Future<Output = ()>) -> Result<()> {
        self.show_around().await?;
        let Story { service, salesforce, program, .. } = &mut self.story;
        let service = service.as_mut().context("the service runs")?;
        let salesforce = salesforce.as_mut().context("Salesforce is simulated")?;
        let mut asked_to_end = pin!(asked_to_end);
        tokio::select! {
            () = &mut asked_to_end => Ok(()),
            end = service.ended() => Err(with_log(&format!("{end}; its log ends with"), &program.service_said(10))),
            end = &mut salesforce.task => Err(anyhow!("Salesforce is not simulated any more: {end:?}")),
        }
    }

    async fn show_around(&self) -> Result<()> {
        let Story { stage, cluster, program, .. } = &self.story;
        let school = self
            .story
            .strings("select id::text from schools order by updated_at desc, id limit 1")
            .await?;
        let school = school.first().map_or("…", String::as_str);
        // In front of the command, where other users of the machine cannot read it.
        let password = cluster.password().map(|password| format!("PGPASSWORD={password} "));
        let psql = format!("{}{}", password.unwrap_or_default(), psql(cluster.programs()));
        stage.note("");
        stage.title("It stays up: write to the application, and watch Salesforce", "");
        stage.note(&format!("{psql} {}", cluster.url_without_password(APP)));
        stage.typed(
            "app=#",
            &format!("update schools set name = 'My school' where id = '{school}';"),
        );
        stage.note("");
        stage.note(&format!("{psql} {}", cluster.url_without_password(SALESFORCE)));
        stage.typed(
            "salesforce=#",
            "select name, status__c, sfid, _hc_lastop from salesforce.editor__c",
        );
        stage.typed("salesforce-#", &format!("where editoruuid__c = '{school}' \\watch 1"));
        stage.note("");
        if let Some(page) = program.page() {
            stage.note("Schoolbell's own view, in a browser:");
            stage.note(&page);
            stage.note("");
        }
        stage.note("And in another shell:");
        for (name, value) in program.environment() {
            stage.typed("$", &format!("export {name}={value}"));
        }
        stage.typed("$", &format!("{} status", program.path().display()));
        stage.typed("$", &format!("tail -f {}", program.service_log().display()));
        stage.note("");
        stage.note("Ctrl-C ends it and removes everything.");
        Ok(())
    }

    /// Ends service, Salesforce and server in good order; true when every row was right.
    pub async fn end(self) -> Result<bool> {
        let Self { mut story, right } = self;
        story.stage.step("Clean up");
        let began = Instant::now();
        if let Some(service) = story.service.take() {
            service.stop(&story.cluster).await?;
            story.last_words();
        }
        if let Some(salesforce) = story.salesforce.take() {
            salesforce.stop.send_replace(true);
            salesforce
                .task
                .await
                .context("the task that plays Salesforce")?
                .context("playing Salesforce")?;
        }
        let Story { stage, cluster, source, target, .. } = story;
        drop((source, target));
        cluster.stop().await?;
        stage.figure("service, server and files are gone", milliseconds(began.elapsed()));
        Ok(right)
    }
}

fn with_log(what: &str, log: &str) -> anyhow::Error {
    let lines = std::iter::once(what).chain(log.lines()).map(str::to_string);
    visible::Lines(lines.collect()).into()
}

/// Loads a batch with COPY, in one transaction.
async fn load(source: &Client, batch: &SchoolBatch) -> Result<()> {
    source.batch_execute("begin").await?;
    for (table, columns, lines) in
        [("schools", SCHOOL_COLUMNS, &batch.schools), ("roles", ROLE_COLUMNS, &batch.roles)]
    {
        let sink = source.copy_in(&format!("copy {table} ({columns}) from stdin")).await?;
        let mut sink = pin!(sink);
        sink.send(Bytes::copy_from_slice(lines.as_bytes())).await?;
        sink.finish().await?;
    }
    source.batch_execute("commit").await?;
    Ok(())
}

/// What the triggers have recorded in this transaction: it sees its own changes before anybody else can.
async fn captured(transaction: &tokio_postgres::Transaction<'_>) -> Result<i64> {
    let sql = "select count(*) from schoolbell.change where xact = pg_current_xact_id()";
    Ok(transaction.query_one(sql, &[]).await?.get(0))
}

/// `psql` as one can type it here.
fn psql(programs: &Path) -> String {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&folders).any(|folder| folder.join("psql").is_file());
    match programs.join("psql") {
        here if !on_path && here.is_file() => here.display().to_string(),
        _ => "psql".to_string(),
    }
}

fn table_row(cells: [&str; 5]) -> String {
    let [what, published, right, wrong, kept] = cells;
    format!("{what:<10}{published:>14}{right:>14}{wrong:>14}{kept:>22}")
}
