//! Where things are: both sides in one database, Heroku Connect's schema under another name, hstore in a schema of its
//! own, servers of different versions. Everything is the same there, for every command.

use std::path::PathBuf;

use schoolbell::demo::cluster::{Cluster, Options, send};
use schoolbell::mapping::BUILT_IN;
use schoolbell::postgres::name::ident;
use serde_json::Value;
use tokio::process::Child;
use tokio_postgres::Client;

use crate::support::left_out;
use crate::support::program::{Ended, Program};
use crate::support::{TestBell, eventually, texts};

const APPLICATION: &str = include_str!("../../../sql/stand_in/application.sql");
const HEROKU_CONNECT: &str = include_str!("../../../sql/stand_in/heroku_connect.sql");
const ACCEPT: &str = include_str!("../../../sql/stand_in/accept.sql");
const PERSON: &str = "aaaaaaaa-0000-4000-8000-000000000001";

/// How a target differs from the usual one.
struct Layout {
    /// There is one database, and no URL of a target.
    one_database: bool,
    /// Heroku Connect's schema.
    schema: &'static str,
    /// Where hstore is.
    hstore: &'static str,
}

const USUAL: Layout = Layout { one_database: false, schema: "salesforce", hstore: "public" };

/// A pair of databases, or the one, without anything of ours.
struct Place {
    bell: TestBell,
    target: Client,
    target_url: Option<String>,
    /// Heroku Connect's schema, quoted.
    schema: String,
    mapping: Option<PathBuf>,
}

impl Place {
    async fn new(layout: &Layout) -> Self {
        let bell = TestBell::bare().await;
        let schema = ident(layout.schema);
        if !layout.one_database {
            bell.target_sql(
                "drop schema salesforce cascade; drop extension hstore; drop function get_xmlbinary",
            )
            .await;
        }
        let beside = if layout.one_database { &bell.source } else { &bell.target };
        let hstore = layout.hstore;
        let text = HEROKU_CONNECT
            .replace("hstore with schema public", &format!("hstore with schema {hstore}"))
            .replace("public.hstore", &format!("{hstore}.hstore"))
            .replace("salesforce", &schema);
        let name = if layout.one_database { &bell.source_name } else { &bell.target_name };
        let prepare = match hstore {
            "public" => String::new(),
            _ => format!(
                "create schema {hstore}; alter database {name} set search_path = \"$user\", public, {hstore};"
            ),
        };
        beside.batch_execute(&format!("{prepare}{text}")).await.unwrap();
        let (target, target_url) = match layout.one_database {
            true => (bell.source_session().await, None),
            false => (bell.target_session().await, Some(bell.target_url())),
        };
        let mapping = (layout.schema != "salesforce").then(|| {
            let usual = "target_schema = \"salesforce\"";
            assert!(BUILT_IN.contains(usual));
            bell.mapping_file(
                &BUILT_IN.replace(usual, &format!("target_schema = \"{}\"", layout.schema)),
            )
        });
        Self { bell, target, target_url, schema, mapping }
    }

    fn program(&self, arguments: &[&str]) -> Program {
        let mut program = Program::new(arguments)
            .env("DATABASE_URL", &self.bell.source_url())
            .env("SALESFORCE_ENABLED", "true");
        if let Some(url) = &self.target_url {
            program = program.env("SALESFORCE_CONNECT_URL", url);
        }
        if let Some(file) = &self.mapping {
            program = program.env("SCHOOLBELL_MAPPING", file.to_str().unwrap());
        }
        program
    }

    #[track_caller]
    fn assert_ended(ended: &Ended, code: i32, parts: &[&str]) {
        assert_eq!(ended.code, code, "{ended}");
        for part in parts {
            assert!(ended.stdout.contains(part), "{part:?} is missing: {ended}");
        }
    }

    /// Runs the program, and expects this exit code and these parts in what it printed.
    async fn says(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        Self::assert_ended(&self.program(arguments).run().await, code, parts);
    }

    async fn service(&self) -> Child {
        self.program(&["run"]).env("RUST_LOG", "off").spawn()
    }

    /// Heroku Connect's own write.
    async fn heroku_connect(&self, sql: &str) {
        let sql = format!("begin; set local xmlbinary = 'hex'; {sql}; commit")
            .replace("salesforce", &self.schema);
        self.target.batch_execute(&sql).await.unwrap();
    }

    async fn salesforce_refuses(&self, school: &str) {
        self.heroku_connect(&format!(
            "update salesforce.editor__c set _hc_lastop = 'FAILED', _hc_err = 'no such country' where editoruuid__c = \
             '{school}'; update salesforce._trigger_log set state = 'FAILED', sf_message = 'no such country' where state = \
             'NEW'"
        ))
        .await;
    }

    async fn salesforce_accepts_everything(&self) {
        self.target.batch_execute(&ACCEPT.replace("salesforce", &self.schema)).await.unwrap();
    }

    /// Waits until the schools in the target are these: name, state, and whether Salesforce knows it.
    async fn schools_become(&self, wanted: &[&str]) {
        let sql = format!(
            "select concat_ws(' ', name, _hc_lastop, sfid is not null) from {}.editor__c order by 1",
            self.schema
        );
        self.target_becomes(&sql, wanted).await;
    }

    async fn target_becomes(&self, sql: &str, wanted: &[&str]) {
        eventually(sql, || async {
            let found = texts(&self.target, sql).await;
            if found == wanted { Ok(()) } else { Err(format!("{found:?} instead of {wanted:?}")) }
        })
        .await;
    }

    /// What `doctor` says of each check that is not as it should be.
    async fn doctor(&self) -> Vec<Value> {
        let ended = self.program(&["doctor", "--json"]).run().await;
        let report: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended}"));
        let checks = report["checks"].as_array().unwrap().iter();
        checks.filter(|check| check["result"] != "ok").cloned().collect()
    }
}

/// Every command once, as the README has them, with what becomes of the rows.
async fn everything_works(layout: &Layout) {
    let place = Place::new(layout).await;
    let bell = &place.bell;
    let roles = format!("select roletype__c from {}.contact_editor_affiliation__c", place.schema);

    // What was there before.
    let old = bell.insert_school("Old").await;
    place.says(&["migrate"], 0, &["triggers of public.schools: up to date"]).await;
    place.says(&["migrate"], 0, &["nothing to do"]).await;
    place.says(&["mapping", "--check"], 0, &["3 objects fit both databases"]).await;
    place.says(&["resync", "--dry-run"], 0, &["school"]).await;
    place.says(&["verify"], 1, &[&format!("school {old} is missing")]).await;
    place.says(&["resync"], 0, &["school"]).await;
    place.schools_become(&["Old PENDING f"]).await;
    place.salesforce_accepts_everything().await;

    // The service, through all that a row may go through.
    let service = place.service().await;
    let school = bell.insert_school("Acme").await;
    place.schools_become(&["Acme PENDING f", "Old INSERTED t"]).await;
    let role = bell.insert_role(&school, 1).await;
    bell.source_sql(&format!("update roles set user_id = '{PERSON}'")).await;
    bell.source_sql("update schools set creator_id = null").await;
    eventually("the role waits", || async {
        let parked = bell.parked().await;
        let waits = parked.iter().any(|line| line.starts_with(&format!("role {role} waiting")));
        if waits { Ok(()) } else { Err(parked) }
    })
    .await;
    place.says(&["explain", "role", &role], 0, &["waits for"]).await;
    place.salesforce_accepts_everything().await;
    place
        .heroku_connect(&format!(
            "insert into salesforce.contact (sfid, pi_accounts_unique_id__c) values ('003A', '{PERSON}')"
        ))
        .await;
    place.target_becomes(&roles, &["teacher"]).await;
    place.salesforce_accepts_everything().await;
    bell.caught_up().await;
    place.says(&["explain", "school", &school], 0, &["It is in Salesforce as a"]).await;
    place.says(&["verify"], 0, &["school"]).await;
    let synced = ["writer     ", "salesforce school 2 synced, 0 pending, 0 failed"];
    place.says(&["status"], 0, &synced).await;

    // What is wrong is found and fixed.
    place.heroku_connect("update salesforce.editor__c set name = 'Else' where name = 'Acme'").await;
    place.says(&["verify"], 1, &[&format!("school {school} differs")]).await;
    place.says(&["verify", "--repair"], 0, &[]).await;
    place.schools_become(&["Acme PENDING t", "Old INSERTED t"]).await;
    place.salesforce_accepts_everything().await;
    place.says(&["verify"], 0, &["school"]).await;

    // What Salesforce refused is sent again, known to it or not.
    let bad = bell.insert_school("Bad").await;
    place.schools_become(&["Acme UPDATED t", "Bad PENDING f", "Old INSERTED t"]).await;
    place.salesforce_refuses(&bad).await;
    place.says(&["status"], 1, &["Salesforce refused 1 row"]).await;
    let again = ["parked", "retry", "--failed", "--yes"];
    place.says(&again, 0, &["deleted, to be written again: 1 school"]).await;
    place.schools_become(&["Acme UPDATED t", "Bad PENDING f", "Old INSERTED t"]).await;
    place.salesforce_accepts_everything().await;
    for name in ["Bad 2", "Bad 3"] {
        bell.source_sql(&format!("update schools set name = '{name}' where id = '{bad}'")).await;
        let (pending, accepted) = (format!("{name} PENDING t"), format!("{name} UPDATED t"));
        place.schools_become(&["Acme UPDATED t", &pending, "Old INSERTED t"]).await;
        place.salesforce_refuses(&bad).await;
        place.says(&again, 0, &["sent again: 1 school"]).await;
        place.salesforce_accepts_everything().await;
        place.schools_become(&["Acme UPDATED t", &accepted, "Old INSERTED t"]).await;
        // From here on as where Heroku Connect writes merged changes.
        let function = format!("{}.hc_capture_update_from_row", place.schema);
        place.target.batch_execute(&format!("drop function if exists {function}")).await.unwrap();
    }
    place.says(&["status"], 0, &["salesforce school 3 synced, 0 pending, 0 failed"]).await;

    // Tests connect as a superuser, over a connection that does not leave the machine.
    let doctor = place.doctor().await;
    let names: Vec<&Value> = doctor.iter().map(|check| &check["name"]).collect();
    assert_eq!(names, ["source_excess", "target_excess"], "{doctor:#?}");
    assert!(doctor.iter().all(|check| check["result"] == "advice"), "{doctor:#?}");

    send("TERM", service.id().unwrap()).unwrap();
    let ended = service.wait_with_output().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    place.says(&["uninstall", "--yes"], 0, &["removed"]).await;
    let ours = "select count(*) from pg_namespace where nspname = 'schoolbell'";
    assert_eq!(bell.source_count(ours).await, 0);
    place.schools_become(&["Acme UPDATED t", "Bad 3 UPDATED t", "Old INSERTED t"]).await;
}

#[tokio::test]
async fn source_and_target_may_be_one_database_and_then_no_target_url_is_needed() {
    everything_works(&Layout { one_database: true, ..USUAL }).await;
}

#[tokio::test]
async fn heroku_connect_s_schema_may_have_any_name() {
    everything_works(&Layout { schema: "Org 2", ..USUAL }).await;
}

#[tokio::test]
async fn hstore_may_be_in_a_schema_of_its_own_that_is_on_the_default_search_path() {
    everything_works(&Layout { hstore: "heroku_ext", ..USUAL }).await;
}

#[tokio::test]
async fn hstore_off_the_search_path_is_found_by_doctor_and_what_it_says_to_paste_mends_it() {
    let place = Place::new(&Layout { hstore: "heroku_ext", ..USUAL }).await;
    place.says(&["migrate"], 0, &[]).await;
    let database = &place.bell.target_name;
    place
        .target
        .batch_execute(&format!("alter database {database} reset search_path"))
        .await
        .unwrap();
    let search_path = async || {
        let not_ok = place.doctor().await;
        not_ok.into_iter().find(|check| check["name"] == "search_path")
    };

    let found = search_path().await.unwrap();
    let remedy = found["remedies"][0]["text"].as_str().unwrap();
    place.target.batch_execute(remedy).await.unwrap();
    let mended = search_path().await;
    let setting = format!("alter role postgres in database {database} reset search_path");
    place.target.batch_execute(&setting).await.unwrap();

    assert_eq!(found["result"], "failed", "{found}");
    assert!(found["found"].as_str().unwrap().starts_with("hstore() not found"), "{found}");
    assert!(remedy.ends_with("set search_path = \"$user\", public, \"heroku_ext\";"), "{found}");
    assert_eq!(mended, None);
}

#[tokio::test]
async fn one_database_may_hold_it_all_under_other_names() {
    everything_works(&Layout { one_database: true, schema: "org2", hstore: "heroku_ext" }).await;
}

/// The application's tables on a server that is too old; none where no such server is given.
async fn old_cluster() -> Option<Cluster> {
    let programs = left_out::programs(left_out::OLD_SERVER)?;
    let options = Options { programs: Some(programs), too_old: true, ..Options::open() };
    let cluster = Cluster::start(options).await.unwrap();
    for (database, sql) in [("source", APPLICATION), ("target", HEROKU_CONNECT)] {
        cluster.create_database(database, None).await.unwrap();
        let client = cluster.connect(database).await.unwrap();
        // PostgreSQL 12 has gen_random_uuid() there only.
        client.batch_execute(&format!("create extension pgcrypto; {sql}")).await.unwrap();
    }
    Some(cluster)
}

const OLD: &str = " is too old: Schoolbell works with 14 to 18";

#[tokio::test]
async fn a_source_that_is_too_old_is_refused_in_one_sentence_and_left_as_it_is() {
    let Some(old) = old_cluster().await else { return };
    let bell = TestBell::installed().await;
    let program = |arguments: &[&str]| {
        Program::new(arguments)
            .env("DATABASE_URL", &old.url("source"))
            .env("SALESFORCE_CONNECT_URL", &bell.target_url())
            .env("SALESFORCE_ENABLED", "true")
    };
    for arguments in [
        &["migrate"][..],
        &["migrate", "--dry-run"],
        &["run"],
        &["run", "--drain"],
        &["resync"],
        &["verify"],
        &["status"],
        &["explain", "school", "x"],
        &["parked", "list"],
        &["mapping", "--check"],
        &["mapping", "init"],
        &["uninstall", "--yes"],
    ] {
        let ended = program(arguments).run().await;

        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
        assert!(ended.stderr.contains("cannot use the source database ("), "{ended}");
        assert!(ended.stderr.ends_with(&format!("{OLD}\n")), "{ended}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
    }
    let source = old.connect("source").await.unwrap();
    let ours = "select nspname::text from pg_namespace where nspname = 'schoolbell'";
    assert_eq!(texts(&source, ours).await, [""; 0]);
    told_by_doctor(&program(&["doctor", "--json"]).run().await, "source_version");
}

#[tokio::test]
async fn a_target_that_is_too_old_is_refused_in_one_sentence() {
    let Some(old) = old_cluster().await else { return };
    let bell = TestBell::installed().await;
    let program = |arguments: &[&str]| {
        Program::new(arguments)
            .env("DATABASE_URL", &bell.source_url())
            .env("SALESFORCE_CONNECT_URL", &old.url("target"))
            .env("SALESFORCE_ENABLED", "true")
    };
    for arguments in [
        &["run"][..],
        &["run", "--drain"],
        &["resync"],
        &["verify"],
        &["explain", "school", "x"],
        &["parked", "retry", "--failed"],
        &["mapping", "--check"],
        &["mapping", "init"],
    ] {
        let ended = program(arguments).run().await;

        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
        assert!(ended.stderr.contains("cannot use the target database ("), "{ended}");
        assert!(ended.stderr.ends_with(&format!("{OLD}\n")), "{ended}");
    }
    let status = program(&["status"]).run().await;
    assert_eq!(status.code, 1, "{status}");
    assert!(status.stdout.contains(OLD), "{status}");
    told_by_doctor(&program(&["doctor", "--json"]).run().await, "target_version");
}

/// The reason is the version, not the name of a function that it lacks.
#[track_caller]
fn told_by_doctor(ended: &Ended, name: &str) {
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended}"));
    let checks = report["checks"].as_array().unwrap();
    let version = checks.iter().find(|check| check["name"] == name).unwrap();
    assert_eq!(version["result"], "failed", "{ended}");
    assert!(version["found"].as_str().unwrap().ends_with(OLD), "{ended}");
    for check in checks.iter().filter(|check| check["result"] == "cannot_run") {
        let found = check["found"].as_str().unwrap();
        assert!(!found.contains("does not exist") || found.contains(OLD), "{ended}");
    }
}
