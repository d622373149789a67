//! No setting of a role, a database or a server changes a result: our sessions have their own
//! settings.

use std::collections::BTreeMap;

use schoolbell::postgres::db::Database;
use schoolbell::postgres::url::DatabaseUrl;
use tokio_postgres::Client;

use crate::hostile::privileges::granted;
use crate::postgres::pooler::{Options, Pooler};
use crate::support::{HEROKU_CONNECT, TestBell, deleting_mapping};

/// Each setting that decides what is right, as somebody may have it, and as it must be in our sessions. Those that would
/// end a session or a statement come last.
const SETTINGS: [(&str, &str, &str); 27] = [
    ("standard_conforming_strings", "off", "on"),
    ("backslash_quote", "on", "safe_encoding"),
    ("client_encoding", "LATIN1", "UTF8"),
    ("timezone", "Pacific/Kiritimati", "UTC"),
    ("datestyle", "German", "ISO, MDY"),
    ("intervalstyle", "sql_standard", "postgres"),
    ("extra_float_digits", "-15", "1"),
    ("bytea_output", "escape", "hex"),
    ("lc_monetary", "POSIX", "C"),
    ("xmloption", "document", "content"),
    ("array_nulls", "off", "on"),
    ("transform_null_equals", "on", "off"),
    ("quote_all_identifiers", "on", "off"),
    ("xmlbinary", "hex", "base64"),
    ("row_security", "on", "off"),
    ("default_transaction_isolation", "serializable", "read committed"),
    ("default_transaction_deferrable", "on", "off"),
    ("client_min_messages", "debug1", "warning"),
    ("plan_cache_mode", "force_custom_plan", "force_generic_plan"),
    ("jit", "on", "off"),
    ("synchronous_commit", "off", "on"),
    ("exit_on_error", "on", "off"),
    ("default_transaction_read_only", "on", "off"),
    ("idle_session_timeout", "800ms", "0"),
    ("lock_timeout", "800ms", "2s"),
    ("idle_in_transaction_session_timeout", "800ms", "1min"),
    ("statement_timeout", "800ms", "10min"),
];
/// This many of them an application's session can have and work.
const BEARABLE: usize = 22;

/// All of them wrong, for everybody in a database or for one role in it.
async fn all_wrong(client: &Client, database: &str, role: Option<&str>) {
    let version: i32 = client
        .query_one("select current_setting('server_version_num')::int4", &[])
        .await
        .unwrap()
        .get(0);
    let newer = (version >= 170_000).then_some(("transaction_timeout", "800ms"));
    let of = match role {
        Some(role) => format!("role {role} in database {database}"),
        None => format!("database {database}"),
    };
    for (name, wrong) in SETTINGS.map(|(name, wrong, _)| (name, wrong)).into_iter().chain(newer) {
        client.batch_execute(&format!("alter {of} set {name} = '{wrong}'")).await.unwrap();
    }
}

fn database(url: &str) -> Database {
    Database::new(DatabaseUrl::parse("test", url, &|_| None).unwrap(), "test").unwrap()
}

const ALL: &str = "select name, current_setting(name) as value from unnest($1::text[]) as name union all \
                   select name, setting from pg_settings where name = 'transaction_timeout'";

/// The settings that are not as they must be.
fn wrong(rows: &[tokio_postgres::Row], only_reads: bool) -> Vec<String> {
    let found: BTreeMap<String, String> = rows
        .iter()
        .map(|row| (row.get::<_, String>("name").to_lowercase(), row.get("value")))
        .collect();
    let read_only = ("default_transaction_read_only", "", if only_reads { "on" } else { "off" });
    let wanted = SETTINGS.into_iter().filter(|(name, ..)| *name != read_only.0).chain([read_only]);
    let mut wrong: Vec<String> = wanted
        .filter(|(name, _, right)| found[*name] != *right)
        .map(|(name, ..)| format!("{name} is {}", found[name]))
        .collect();
    wrong.extend(found.get("transaction_timeout").filter(|value| *value != "0").cloned());
    wrong
}

#[tokio::test]
async fn every_session_of_ours_has_its_own_settings_whatever_is_set_for_role_or_database() {
    let bell = TestBell::bare().await;
    let names = SETTINGS.map(|(name, ..)| name).to_vec();
    let set = [(&bell.source, &bell.source_name), (&bell.target, &bell.target_name)];
    for role in [None, Some("postgres")] {
        for (client, name) in set {
            all_wrong(client, name, role).await;
        }
        for url in [bell.source_url(), bell.target_url()] {
            // Nor does a setting in the URL.
            for url in [
                url.clone(),
                format!("{url}?options=-c%20datestyle%3DGerman%20-c%20row_security%3Don"),
            ] {
                let database = database(&url);
                let own = database.session().await.unwrap().rows(ALL, &[&names]).await.unwrap();
                assert_eq!(wrong(&own, false), Vec::<String>::new(), "{url} {role:?}");
                let lent =
                    database.pool(1).get().await.unwrap().rows(ALL, &[&names]).await.unwrap();
                assert_eq!(wrong(&lent, false), Vec::<String>::new(), "{url} {role:?}");
                let writing = database.writing_session().await.unwrap();
                let writing = writing.rows(ALL, &[&names]).await.unwrap();
                assert_eq!(wrong(&writing, false), Vec::<String>::new(), "{url} {role:?}");
                let evaluator = database.evaluator().await.unwrap();
                let evaluator = evaluator.rows(ALL, &[&names]).await.unwrap();
                assert_eq!(wrong(&evaluator, true), Vec::<String>::new(), "{url} {role:?}");
            }
        }
    }
}

/// A pooler's session keeps the settings that it has for the application; ours last for one transaction.
#[tokio::test]
async fn every_transaction_behind_a_pooler_has_our_settings_too() {
    let bell = TestBell::bare().await;
    let names = SETTINGS.map(|(name, ..)| name).to_vec();
    for options in [Options::Refused, Options::Ignored] {
        let Some(pooler) = Pooler::start(bell.cluster(), options).await else { return };
        all_wrong(&bell.source, &bell.source_name, Some("postgres")).await;
        // The pooler's own sessions would be ended before we get one.
        for timeout in ["idle_session_timeout", "statement_timeout", "exit_on_error"] {
            let reset =
                format!("alter role postgres in database {} reset {timeout}", bell.source_name);
            bell.source_sql(&reset).await;
        }
        let database = database(&pooler.url(&bell.source_name));
        let mut own = database.session().await.unwrap();
        assert!(own.is_pooled(), "{options:?}");
        // Those that hold for transactions to come are of no use to one that has begun; they say how it is instead.
        let not_of_a_transaction = |wrong: Vec<String>| {
            wrong
                .into_iter()
                .filter(|found| !found.starts_with("default_transaction_"))
                .collect::<Vec<_>>()
        };
        let begun = "select current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only') \
                     || ' ' || current_setting('transaction_deferrable')";

        let alone = own.rows(ALL, &[&names]).await.unwrap();
        assert_eq!(not_of_a_transaction(wrong(&alone, false)), Vec::<String>::new(), "{options:?}");
        let kind: String = own.row(begun, &[]).await.unwrap().get(0);
        assert_eq!(kind, "read committed off off");
        let together = own.begin().await.unwrap();
        let rows = together.rows(ALL, &[&names]).await.unwrap();
        assert_eq!(not_of_a_transaction(wrong(&rows, false)), Vec::<String>::new(), "{options:?}");
        drop(together);

        let evaluator = database.evaluator().await.unwrap();
        let rows = evaluator.rows(ALL, &[&names]).await.unwrap();
        assert_eq!(not_of_a_transaction(wrong(&rows, true)), Vec::<String>::new(), "{options:?}");
        let kind: String = evaluator.row(begun, &[]).await.unwrap().get(0);
        assert_eq!(kind, "read committed on off");
    }
}

#[tokio::test]
async fn with_every_setting_wrong_on_both_sides_all_rows_arrive_and_every_report_is_true() {
    for role in [None, Some("postgres")] {
        let bell = TestBell::bare().await;
        let application = bell.source_session().await;
        all_wrong(&bell.source, &bell.source_name, role).await;
        all_wrong(&bell.target, &bell.target_name, role).await;
        // The application writes with all of them that let it write.
        for (name, value, _) in &SETTINGS[..BEARABLE] {
            application.batch_execute(&format!("set {name} = '{value}'")).await.unwrap();
        }

        bell.run_ok(&["migrate"]).await;
        application
            .batch_execute(
                "insert into schools (name, address_line_1, municipality, country_code, website, creator_id, \
                 verified_at, creator_agree_to_ux_contact, created_at, updated_at) \
                 select 'School ' || n || repeat(' long', n), 'x', 'x', 'GB', n::text, gen_random_uuid(), \
                 '2026-02-03 04:05:06.789'::timestamptz, true, now(), now() from generate_series(1, 60) n; \
                 insert into roles (user_id, school_id, role, created_at, updated_at) \
                 select creator_id, id, 2, now(), now() from schools; \
                 update schools set name = name || '!' where website < '3'; delete from schools where website = '60'",
            )
            .await
            .unwrap();
        let drained = bell.run(&["run", "--drain"]).await;
        assert_eq!(drained.code, 0, "{drained}");
        bell.salesforce_accepts_everything().await;
        bell.run_ok(&["run", "--drain"]).await;
        bell.every_row_is_right().await;

        let writes = bell.salesforce_writes().await;
        for command in [&["status"][..], &["verify"], &["resync"], &["run", "--drain"], &["verify"]]
        {
            let ended = bell.run(command).await;
            assert_eq!(ended.code, 0, "{ended}");
        }
        assert_eq!(bell.salesforce_writes().await, writes, "nothing needed to be written again");
        let status = bell.run_ok(&["status"]).await;
        assert!(status.contains("capture    installed"), "{status}");
        let doctor = bell.run(&["doctor"]).await;
        assert!(
            doctor.stdout.contains("datestyle = German") && !doctor.stdout.contains("failed  "),
            "{doctor}"
        );
    }
}

/// Rows that a policy hides are not rows that are gone.
#[tokio::test]
async fn a_policy_that_hides_rows_parks_them_until_the_role_sees_every_row() {
    let (mut bell, roles) = granted().await;
    bell.mapping =
        schoolbell::mapping::Mapping::load(Some(&bell.mapping_file(&deleting_mapping()))).unwrap();
    let mapping = bell.mapping_file(&deleting_mapping()).display().to_string();
    let school = bell.insert_school("Acme").await;
    let drain = ["run", "--drain", "--mapping", &mapping];
    let drained = roles.run(&bell, &drain).await;
    assert_eq!(drained.code, 0, "{drained}");

    bell.source_sql(
        "alter table schools enable row level security; update schools set name = 'Beta'",
    )
    .await;
    bell.source_sql("insert into schoolbell.resync (object) values ('school')").await;
    let drained = roles.run(&bell, &drain).await;

    assert_eq!(drained.code, 1, "{drained}");
    let parked = bell.source_texts(
        "select key || ' ' || sqlstate || ' ' || remedy from schoolbell.parked where object \
                                    = 'school'",
    );
    let remedy = "let the role of the connection URL see every row: alter role ... bypassrls";
    assert_eq!(parked.await, [format!("{school} 42501 {remedy}")]);
    assert_eq!(
        bell.mirrored("editor__c", "editoruuid__c").await,
        [school.as_str()],
        "it is not deleted"
    );
    for command in ["verify"] {
        let ended = roles.run(&bell, &[command, "--mapping", &mapping]).await;
        assert_ne!(ended.code, 0, "{ended}");
    }

    bell.source_sql(&format!("alter role {} bypassrls", roles.bell)).await;
    bell.source_sql("update schoolbell.parked set due_at = now()").await;
    let drained = roles.run(&bell, &drain).await;
    assert_eq!(drained.code, 0, "{drained}");
    assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, ["Beta"]);
}

/// In a role that replicates, Heroku Connect's triggers do not fire: what is written would never be sent.
#[tokio::test]
async fn in_a_session_whose_triggers_do_not_fire_nothing_is_written() {
    let (bell, roles) = granted().await;
    let set = format!("alter role {} set session_replication_role = replica", roles.bridge);
    bell.target_sql(&set).await;
    bell.insert_school("Acme").await;

    let drained = roles.run(&bell, &["run", "--drain"]).await;

    assert!(
        drained.code != 0 && drained.to_string().contains("session_replication_role is replica"),
        "{drained}"
    );
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 0);
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 1);
}

/// Two databases of these encodings, as the application and Heroku Connect leave them.
async fn encoded(source: &str, target: &str) -> TestBell {
    let mut bell = TestBell::bare().await;
    let name = |database: &str, encoding: &str| format!("{database}_{}", encoding.to_lowercase());
    let (source_name, target_name) =
        (name(&bell.source_name, source), name(&bell.target_name, target));
    let create = |name: &str, encoding: &str| {
        format!("create database {name} encoding '{encoding}' locale 'C' template template0")
    };
    bell.source_sql(&create(&source_name, source)).await;
    bell.target_sql(&create(&target_name, target)).await;
    (bell.source_name, bell.target_name) = (source_name, target_name);
    bell.reconnect().await;
    schoolbell::demo::stand_in::install_application(&bell.source).await.unwrap();
    schoolbell::demo::stand_in::install_heroku_connect(&bell.target).await.unwrap();
    bell
}

/// Databases of other encodings work as far as their characters go; one without an encoding is refused.
#[tokio::test]
async fn databases_of_any_encoding_work_or_are_refused_in_a_sentence() {
    let encodings = ["UTF8", "LATIN1", "SQL_ASCII"];
    for source in encodings {
        for target in encodings {
            let bell = encoded(source, target).await;

            let migrated = bell.run(&["migrate"]).await;
            if source == "SQL_ASCII" {
                assert!(
                    migrated.code == 2 && migrated.stderr.contains("has encoding SQL_ASCII"),
                    "{migrated}"
                );
                continue;
            }
            assert_eq!(migrated.code, 0, "{migrated}");
            let school = bell.insert_school(&format!("École {}", "longue ".repeat(20))).await;
            let drained = bell.run(&["run", "--drain"]).await;
            if target == "SQL_ASCII" {
                assert!(
                    drained.code == 2 && drained.stderr.contains("has encoding SQL_ASCII"),
                    "{drained}"
                );
                continue;
            }
            assert_eq!(drained.code, 0, "{source} {target}: {drained}");
            assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [school.as_str()]);
            let ends = if [source, target] == ["UTF8"; 2] { "…" } else { "..." };
            let name = bell.target_texts("select name from salesforce.editor__c").await;
            assert!(name[0].starts_with("École ") && name[0].ends_with(ends), "{name:?}");
            let verified = bell.run(&["verify"]).await;
            assert_eq!(verified.code, 0, "{verified}");
            bell.run_ok(&["explain", "school", &school]).await;
        }
    }
}

/// The target's messages may have characters that the source lacks, and so may keys that others
/// have written into it.
#[tokio::test]
async fn a_source_without_the_targets_characters_stores_and_compares_what_it_can() {
    let bell = encoded("LATIN1", "UTF8").await;
    bell.run_ok(&["migrate"]).await;
    bell.target_sql(
        "alter table salesforce.editor__c add constraint \"короткое\" check (length(name) < 20)",
    )
    .await;
    bell.insert_school("A name that is much too long for it").await;
    let good = bell.insert_school("Acme").await;

    let drained = bell.run(&["run", "--drain"]).await;

    assert_eq!(drained.code, 1, "{drained}");
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [good.as_str()]);
    let parked = bell
        .source_texts(
            "select state || ' ' || reason from schoolbell.parked where object = 'school'",
        )
        .await;
    assert!(
        parked.len() == 1 && parked[0].starts_with("dead") && parked[0].contains("\\u{43a}"),
        "{parked:?}"
    );

    bell.target_sql("insert into salesforce.editor__c (editoruuid__c, name) values ('Ж', 'Ж')")
        .await;
    let verified = bell.run(&["verify"]).await;
    assert_eq!(verified.code, 0, "what is kept is not wrong: {verified}");
    bell.source_sql("delete from schools where name = 'Acme'; truncate schools cascade").await;
    let drained = bell.run(&["run", "--drain"]).await;
    assert_eq!(drained.code, 0, "{drained}");
    let open = bell.source_texts("select state from schoolbell.resync where state <> 'done'").await;
    assert_eq!(open, Vec::<String>::new());
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 0);
}

/// No key waits for one that the target cannot hold, and that one does not hide others that have
/// arrived.
#[tokio::test]
async fn a_target_without_the_sources_characters_holds_up_only_the_rows_that_have_them() {
    let mut bell = encoded("UTF8", "LATIN1").await;
    bell.source_sql(
        "create table p (k text primary key); create table c (k text primary key, p text)",
    )
    .await;
    bell.target_sql(&format!(
        "create table salesforce.p__c (k__c varchar(255) unique, {HEROKU_CONNECT}); \
         create table salesforce.c__c (k__c varchar(255) unique, p__r__k__c varchar(255), {HEROKU_CONNECT})"
    ))
    .await;
    let mapping = "version = 1\n[object.p]\nsource = \"p\"\nkey = \"k\"\ntarget = \"p__c\"\nexternal_id = \"k__c\"\non_delete = \"delete\"\n\
         [object.c]\nsource = \"c\"\nkey = \"k\"\ntarget = \"c__c\"\nexternal_id = \"k__c\"\n[object.c.fields]\np__r__k__c = \"p\"\n\
         [[object.c.parents]]\nobject = \"p\"\nkey = \"p\"\n";
    bell.use_mapping(mapping).await;
    bell.source_sql("insert into p values ('a'), ('Ж'), ('é'); insert into c values ('1', 'a'), ('2', 'Ж'), ('3', 'é')")
        .await;
    bell.drain().await;
    assert_eq!(bell.mirrored("p__c", "k__c").await, ["a", "é"]);
    let file = bell.mapping_file(mapping).display().to_string();
    for command in [&["verify", "--mapping", &file][..], &["explain", "p", "Ж", "--mapping", &file]]
    {
        let ended = bell.run(command).await;
        assert!(ended.code < 2, "{ended}");
    }

    // As a release before may have left it, or a mapping with other types.
    bell.source_sql(
        "update schoolbell.parked set state = 'waiting', awaits = 'p sfid', awaits_key = 'Ж', sqlstate = null, remedy = null \
         where object = 'c' and key = '2'",
    )
    .await;
    bell.target_sql("update salesforce.p__c set sfid = k__c").await;
    bell.drain().await;

    assert_eq!(bell.mirrored("c__c", "k__c").await, ["1", "3"]);
    let parked = "select object || key || state from schoolbell.parked order by 1";
    assert_eq!(bell.source_texts(parked).await, ["c2dead", "pЖdead"]);
    bell.source_sql(
        "delete from p where k = 'Ж'; delete from c where k = '2'; insert into c values ('Ж')",
    )
    .await;
    bell.drain().await;
    assert_eq!(bell.source_texts(parked).await, ["cЖdead"]);
    bell.source_sql("delete from c where k = 'Ж'").await;
    bell.drain().await;
    assert_eq!(bell.source_texts(parked).await, Vec::<String>::new());
}
