//! Verify: every difference is found, no row that is right or on its way is reported, and a repair
//! writes exactly what was wrong.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::log::Log;
use crate::support::program::Program;
use crate::support::writers::Writers;
use crate::support::{TestBell, deleting_mapping, eventually};

/// Schools that Salesforce has accepted, with a contact and an owner each.
async fn synced(mapping: Option<&str>) -> TestBell {
    let mut bell = TestBell::installed().await;
    if let Some(text) = mapping {
        bell.use_mapping(text).await;
    }
    bell.source_sql(
        "insert into schools (name, address_line_1, municipality, country_code, website, creator_id, verified_at, created_at, \
         updated_at) select 'School ' || n, 'Road', 'Town', 'GB', '  w  ', md5('c' || n)::uuid, '2026-01-01 00:00:00.5', \
         now(), timestamp '2026-01-01' + n * interval '1 day' from generate_series(1, 20) n; \
         insert into roles (user_id, school_id, role, created_at, updated_at) \
         select creator_id, id, 2, now(), now() from schools",
    )
    .await;
    for contact in bell.source_texts("select creator_id::text from schools").await {
        bell.salesforce_has_contact(&contact).await;
    }
    bell.drain().await;
    bell.salesforce_accepts_everything().await;
    bell.source_sql("update schoolbell.parked set due_at = now()").await;
    bell.drain().await;
    bell
}

async fn verify(bell: &TestBell, arguments: &[&str]) -> (i32, Value) {
    let ended = bell.run(&[&["verify", "--json"], arguments].concat()).await;
    let report = serde_json::from_str(&ended.stdout);
    (ended.code, report.unwrap_or_else(|error| panic!("{error}: {ended}")))
}

/// One number of an object's verdict.
fn count(report: &Value, object: &str, what: &str) -> u64 {
    let objects = report["objects"].as_array().unwrap();
    objects.iter().find(|verdict| verdict["object"] == object).unwrap()[what].as_u64().unwrap()
}

/// Writes that no trigger sees.
async fn behind_the_triggers(bell: &TestBell, sql: &str) {
    bell.source_sql(&format!(
        "{sql}; delete from schoolbell.change where xact = pg_current_xact_id()"
    ))
    .await;
}

#[tokio::test]
async fn what_is_synced_is_right_also_in_the_form_that_salesforce_gave_it() {
    let bell = synced(None).await;
    bell.target_sql("update salesforce.editor__c set website__c = ' w', editorreference__c = '  '")
        .await;

    let (code, report) = verify(&bell, &[]).await;

    assert_eq!(code, 0, "{report:#}");
    for object in ["school", "role", "contact"] {
        assert_eq!(count(&report, object, "rows"), 20, "{report:#}");
        assert_eq!(count(&report, object, "equal"), 20, "{report:#}");
    }
}

#[tokio::test]
async fn each_kind_of_difference_is_found_and_a_repair_writes_exactly_these() {
    let mut bell = synced(Some(&deleting_mapping())).await;
    behind_the_triggers(
        &bell,
        "update schools set name = 'Changed', updated_at = '2026-03-01' where name = 'School 3'; \
         update schools set rejected_at = '2026-03-02', updated_at = '2026-03-02' where name = 'School 4'; \
         delete from schools where name = 'School 5'",
    )
    .await;
    bell.target_sql("delete from salesforce.editor__c where name = 'School 6'").await;
    let writes = bell.salesforce_writes().await;

    let file = bell.mapping_file(&deleting_mapping());
    let mapping = ["--mapping", file.to_str().unwrap()];
    let (code, report) = verify(&bell, &[&["school"], &mapping[..]].concat()).await;

    assert_eq!(code, 1, "{report:#}");
    let counts = ["rows", "equal", "missing", "differing", "unexpected", "in_flight"]
        .map(|what| count(&report, "school", what));
    assert_eq!(counts, [19, 16, 1, 2, 1, 0], "{report:#}");
    let columns: Vec<&Value> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|finding| finding["columns"].as_array())
        .flatten()
        .filter(|column| column["column"] != "updatedat__c")
        .collect();
    assert_eq!(columns.len(), 2, "{columns:?}");
    assert!(
        columns
            .iter()
            .any(|column| column["source"] == "Changed" && column["target"] == "School 3")
    );
    assert!(
        columns
            .iter()
            .any(|column| column["column"] == "rejectedat__c" && column["target"].is_null())
    );
    assert!(
        report["objects"][0]["since"].as_str().unwrap().starts_with("2026-01-07"),
        "{report:#}"
    );
    assert_eq!(bell.salesforce_writes().await, writes, "it only reads");

    let arguments = [&["school", "--repair"], &mapping[..]].concat();
    let (repaired, report) = verify(&bell, &arguments).await;
    let written = bell.salesforce_writes().await;
    let (after, _) = verify(&bell, &[&["school"], &mapping[..]].concat()).await;

    assert_eq!((repaired, after), (0, 0), "{report:#}");
    assert_eq!(written, writes + 4, "{report:#}");
    bell.mapping = schoolbell::mapping::Mapping::load(None).unwrap();
}

#[tokio::test]
async fn what_is_on_its_way_or_parked_is_counted_and_not_reported() {
    let bell = synced(None).await;
    bell.source_sql("update schools set name = 'On its way' where name = 'School 1'").await;
    let school = bell.source_texts("select id::text from schools where name = 'School 2'").await;
    bell.insert_role(&school[0], 1).await;
    bell.insert_school("New").await;
    let (code, before) = verify(&bell, &[]).await;

    bell.drain().await;
    let (drained, after) = verify(&bell, &[]).await;

    assert_eq!((code, drained), (0, 0), "{before:#}{after:#}");
    let in_flight =
        |report| ["school", "role", "contact"].map(|object| count(report, object, "in_flight"));
    assert_eq!(in_flight(&before), [2, 1, 1], "{before:#}");
    assert_eq!(in_flight(&after), [0, 0, 0], "{after:#}");
    let parked = |object: &str| {
        let objects = after["objects"].as_array().unwrap();
        objects.iter().find(|verdict| verdict["object"] == object).unwrap()["parked"].clone()
    };
    assert_eq!(parked("role"), serde_json::json!({ "waiting for contact sfid": 1 }));
    assert_eq!(parked("contact"), serde_json::json!({ "waiting for contact row": 1 }));
}

#[tokio::test]
async fn on_a_busy_system_it_never_cries_wolf() {
    let log = Log::listen();
    let mut bell = synced(None).await;
    // The service itself compares, too, repeatedly.
    bell.pace.verify_every = Some(Duration::from_millis(10));
    bell.service_starts();
    let writers = Writers::start(&bell.source_url(), 4, fastrand::u64(..));

    for scope in [&[][..], &["--sample", "1000"], &[], &["--sample", "1000"], &[]] {
        let (code, report) = verify(&bell, scope).await;
        assert_eq!(code, 0, "{report:#}");
    }

    assert!(writers.committed() > 0);
    assert!(!log.lines("verified: every row is right").is_empty());
    assert_eq!(log.lines("some rows are wrong"), [""; 0]);
}

#[tokio::test]
async fn values_are_shortened_and_left_out_when_asked_to() {
    let bell = synced(None).await;
    bell.target_sql(
        "update salesforce.editor__c set addressline1__c = repeat('long ', 30) where name = 'School 1'",
    )
    .await;

    let shown = bell.run(&["verify", "school"]).await;
    let hidden = bell.run(&["verify", "school", "--no-values"]).await;

    assert_eq!((shown.code, hidden.code), (1, 1), "{shown}{hidden}");
    assert!(shown.stdout.contains("addressline1__c: \"long long"), "{shown}");
    assert!(shown.stdout.contains("…\" instead of \"Road\""), "{shown}");
    assert!(hidden.stdout.contains("addressline1__c"), "{hidden}");
    assert!(!hidden.stdout.contains("long") && !hidden.stdout.contains("Road"), "{hidden}");
}

#[tokio::test]
async fn a_target_row_whose_key_no_source_row_can_have_is_unexpected() {
    let bell = synced(Some(&deleting_mapping())).await;
    bell.target_sql("insert into salesforce.editor__c (editoruuid__c) values ('by hand'), ('')")
        .await;
    let file = bell.mapping_file(&deleting_mapping());

    let (code, report) = verify(&bell, &["school", "--mapping", file.to_str().unwrap()]).await;

    assert_eq!((code, count(&report, "school", "unexpected")), (1, 2), "{report:#}");
}

#[tokio::test]
async fn keys_of_every_order_meet_their_rows() {
    let bell = TestBell::installed().await;
    // As numbers, and in many collations, these have another order than as bytes.
    bell.source_sql(
        "insert into roles (id, user_id, school_id, role, created_at, updated_at) \
         select n, null, null, 1, now(), now() from unnest(array[1, 2, 9, 10, 11, 99, 100, 1000, 20]) as n",
    )
    .await;
    bell.drain().await;

    let (code, report) = verify(&bell, &["role"]).await;

    assert_eq!(code, 0, "{report:#}");
    assert_eq!(count(&report, "role", "equal"), 9, "{report:#}");
}

/// A mapping that computes the reference from the origin, which is refused where that is 0.
fn dividing_mapping() -> String {
    let text = schoolbell::mapping::BUILT_IN;
    let reference = "editorreference__c = \"reference\"";
    assert!(text.contains(reference));
    text.replace(reference, "editorreference__c = { sql = \"(10 / user_origin)::text\" }")
}

/// Roles of nobody in no school: they need no parent.
async fn many_roles(bell: &TestBell, count: u32) {
    bell.source_sql(&format!(
        "insert into roles (user_id, school_id, role, created_at, updated_at) select null, null, 1, \
         '2026-01-01', '2026-01-01' from generate_series(1, {count})"
    ))
    .await;
    bell.drain().await;
}

/// The keys that a report tells of as this.
fn told(report: &Value, what: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap();
    let keys = findings.iter().filter(|finding| finding["what"] == what);
    let mut keys: Vec<String> =
        keys.map(|finding| finding["key"].as_str().unwrap().into()).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn what_got_past_capture_is_found_exactly_with_the_time_when_it_began() {
    let mut bell = synced(Some(&deleting_mapping())).await;
    let ids = "select id::text from schools where name in ('School 7', 'School 8') order by 1";
    let changed = bell.source_texts(ids).await;
    let gone = bell.source_texts("select id::text from schools where name = 'School 9'").await;

    bell.source_sql(
        "update schools set name = 'Past capture', updated_at = '2026-05-06 07:00' where name = 'School 7'; \
         update schools set country_code = 'FR', updated_at = '2026-05-06 08:00' where name = 'School 8'; \
         delete from schools where name = 'School 9'",
    )
    .await;
    let new = bell.insert_school("New").await;
    bell.source_sql(&format!(
        "update schools set updated_at = '2026-05-06 09:00' where id = '{new}'; \
         delete from schoolbell.change; \
         update schools set name = 'Captured' where name = 'School 10'"
    ))
    .await;
    bell.drain().await;
    let file = bell.mapping_file(&deleting_mapping());
    let mapping = ["school", "--mapping", file.to_str().unwrap()];
    let (code, report) = verify(&bell, &mapping).await;

    assert_eq!(code, 1, "{report:#}");
    assert_eq!(told(&report, "differing"), changed, "{report:#}");
    assert_eq!(told(&report, "missing"), [new], "{report:#}");
    assert_eq!(told(&report, "unexpected"), gone, "{report:#}");
    assert_eq!(report["findings"].as_array().unwrap().len(), 4, "{report:#}");
    assert_eq!(report["objects"][0]["since"], "2026-05-06T07:00:00Z", "{report:#}");
    bell.mapping = schoolbell::mapping::Mapping::load(None).unwrap();
}

#[tokio::test]
async fn a_sample_has_its_size_holds_the_filter_and_looks_from_both_sides() {
    let bell = synced(Some(&deleting_mapping())).await;
    many_roles(&bell, 2_000).await;
    bell.source_sql(
        "insert into roles (role, created_at, updated_at) select 0, now(), now() from generate_series(1, 6000); \
         analyze",
    )
    .await;
    bell.drain().await;
    bell.target_sql(
        "update salesforce.contact_editor_affiliation__c set roletype__c = 'wrong'; analyze",
    )
    .await;
    behind_the_triggers(&bell, "delete from schools where name = 'School 5'").await;
    bell.target_sql("delete from salesforce.editor__c where name = 'School 6'").await;
    let file = bell.mapping_file(&deleting_mapping());
    let mapping = ["--mapping", file.to_str().unwrap()];

    let (code, report) = verify(&bell, &[&["--sample", "50"], &mapping[..]].concat()).await;

    assert_eq!(code, 1, "{report:#}");
    assert_eq!(count(&report, "role", "rows"), 50, "students are not published: {report:#}");
    assert_eq!(count(&report, "role", "differing"), 50, "{report:#}");
    assert_eq!(report["objects"].as_array().unwrap().len(), 3);
    let of = count(&report, "role", "sample_of");
    assert!((1_500..=2_500).contains(&of), "{report:#}");
    // So few schools are compared all.
    let schools =
        ["rows", "equal", "missing", "unexpected"].map(|what| count(&report, "school", what));
    assert_eq!(schools, [19, 18, 1, 1], "{report:#}");
    let known = "select count(*) from schoolbell.verified";
    assert_eq!(bell.source_count(known).await, 0, "a sample is not the whole");

    let printed = bell.run(&[&["verify", "role", "--sample", "5"], &mapping[..]].concat()).await;
    assert!(printed.stdout.contains("role: a sample of 5 of about "), "{printed}");
    let (_, report) = verify(&bell, &[&["school", "--sample", "3"], &mapping[..]].concat()).await;
    assert_eq!(count(&report, "school", "rows"), 3, "{report:#}");
}

/// Two of four rows are chosen: with fair dice each of them now and then.
#[tokio::test]
async fn a_sample_is_another_one_each_time() {
    let bell = TestBell::installed().await;
    many_roles(&bell, 4).await;
    bell.target_sql("update salesforce.contact_editor_affiliation__c set roletype__c = 'wrong'")
        .await;
    let mut seen = std::collections::BTreeSet::new();

    for _ in 0..200 {
        let (_, report) = verify(&bell, &["role", "--sample", "2"]).await;
        assert_eq!(told(&report, "differing").len(), 2, "{report:#}");
        seen.extend(told(&report, "differing"));
        if seen.len() == 4 {
            return;
        }
    }
    panic!("only these were ever in a sample: {seen:?}");
}

#[tokio::test]
async fn a_row_that_the_source_cannot_compute_is_told_by_its_key_and_the_others_are_compared() {
    let mut bell = synced(None).await;
    bell.source_sql("update schools set user_origin = 1").await;
    bell.use_mapping(&dividing_mapping()).await;
    bell.run_ok(&["resync", "--mapping", bell.mapping_file(&dividing_mapping()).to_str().unwrap()])
        .await;
    behind_the_triggers(
        &bell,
        "update schools set user_origin = 0 where name in ('School 1', 'School 2'); \
         update schools set name = 'Changed' where name = 'School 3'",
    )
    .await;
    bell.source_sql(
        "insert into schoolbell.parked (object, key, state, reason) \
         select 'school', id::text, 'dead', 'division by zero' from schools where name = 'School 1'",
    )
    .await;
    let unreadable =
        bell.source_texts("select id::text from schools where name = 'School 2'").await;
    let file = bell.mapping_file(&dividing_mapping());
    let mapping = ["school", "--mapping", file.to_str().unwrap()];

    for scope in [&[][..], &["--sample", "100"]] {
        let (code, report) = verify(&bell, &[scope, &mapping[..]].concat()).await;

        assert_eq!(code, 1, "{report:#}");
        let counts = ["rows", "equal", "differing", "unreadable", "missing", "in_flight"]
            .map(|what| count(&report, "school", what));
        assert_eq!(counts, [20, 17, 1, 1, 0, 0], "{report:#}");
        assert_eq!(
            report["objects"][0]["parked"],
            json!({ "dead: division by zero": 1 }),
            "{report:#}"
        );
        assert_eq!(told(&report, "unreadable"), unreadable, "{report:#}");
        let finding =
            &report["findings"].as_array().unwrap().iter().find(|it| it["reason"].is_string());
        assert_eq!(finding.unwrap()["reason"], "division by zero (22012)", "{report:#}");
    }
    let printed = bell.run(&[&["verify"], &mapping[..]].concat()).await;
    let line = format!("school {} cannot be read: division by zero (22012)", unreadable[0]);
    assert!(printed.stdout.contains(&line), "{printed}");

    // A repair writes what can be written; the other one is parked then, with what helps.
    let repaired = bell.run(&[&["verify", "--repair"], &mapping[..]].concat()).await;
    assert_eq!(repaired.code, 1, "{repaired}");
    let (after, report) = verify(&bell, &mapping).await;
    assert_eq!((after, count(&report, "school", "equal")), (0, 18), "{report:#}");
    bell.mapping = schoolbell::mapping::Mapping::load(None).unwrap();
}

/// Where an index has the order of the keys, thousands of rows have been compared before the bad one is met.
#[tokio::test]
async fn a_row_that_cannot_be_computed_is_met_in_the_middle_and_none_is_counted_twice() {
    let mapping = r#"
version = 1

[object.thing]
source = "things"
key = "id"
target = "editor__c"
external_id = "editoruuid__c"
on_delete = "delete"

[object.thing.fields]
name = { sql = "(10 / n)::text" }
"#;
    let mut bell = TestBell::bare().await;
    bell.source_sql(&format!(
        "create table things (id text collate \"C\" primary key, n integer not null); \
         insert into things select to_char(i, 'FM00000'), case i when 20500 then 0 else 1 end \
         from generate_series(1, 21000) i; analyze things; \
         alter database {} set enable_sort = off; alter database {} set enable_seqscan = off",
        bell.source_name, bell.source_name
    ))
    .await;
    bell.target_sql(
        "insert into salesforce.editor__c (editoruuid__c, name) \
         select to_char(i, 'FM00000'), '10' from generate_series(2, 21000) i; \
         insert into salesforce.editor__c (editoruuid__c) values ('00000'), ('20600b'); \
         update salesforce.editor__c set name = 'Wrong' where editoruuid__c in ('00002', '20400', '20800')",
    )
    .await;
    bell.use_mapping(mapping).await;
    let file = bell.mapping_file(mapping);

    let (code, report) = verify(&bell, &["--mapping", file.to_str().unwrap()]).await;

    assert_eq!(code, 1, "{report:#}");
    let counts = ["rows", "equal", "missing", "differing", "unexpected", "unreadable"]
        .map(|what| count(&report, "thing", what));
    assert_eq!(counts, [21_000, 20_995, 1, 3, 2, 1], "{:#}", report["objects"]);
    assert_eq!(told(&report, "differing"), ["00002", "20400", "20800"]);
    assert_eq!(told(&report, "unexpected"), ["00000", "20600b"]);
    assert_eq!(told(&report, "unreadable"), ["20500"]);
    bell.mapping = schoolbell::mapping::Mapping::load(None).unwrap();
}

#[tokio::test]
async fn where_nothing_stirs_thousands_of_wrong_keys_are_looked_at_once_and_without_a_pause() {
    let mut bell = TestBell::in_a_cluster_of_its_own(&["autovacuum = off"]).await;
    bell.service_stops().await;
    many_roles(&bell, 2_500).await;
    bell.target_sql("update salesforce.contact_editor_affiliation__c set roletype__c = 'wrong'")
        .await;

    let ended = Program::new(&["verify", "role", "--limit", "1"])
        .env("DATABASE_URL", &bell.source_url())
        .env("SALESFORCE_CONNECT_URL", &bell.target_url())
        .env("RUST_LOG", "schoolbell=debug")
        .run()
        .await;

    assert_eq!(ended.code, 1, "{ended}");
    assert!(ended.stdout.contains("… and 2499 more"), "{ended}");
    let looks: Vec<&str> =
        ended.stderr.lines().filter(|line| line.contains("were looked at again")).collect();
    assert_eq!(looks.len(), 1, "{ended}");
    assert!(looks[0].contains("keys=2500") && looks[0].contains("nothing_stirs=true"), "{ended}");
}

#[tokio::test]
async fn a_repair_of_many_keys_is_stored_in_parts_parents_first() {
    let bell = synced(None).await;
    many_roles(&bell, 10_500).await;
    bell.target_sql(
        "update salesforce.contact_editor_affiliation__c set roletype__c = 'wrong' \
         where contact__r__pi_accounts_unique_id__c is null; \
         update salesforce.editor__c set name = 'wrong' where name = 'School 1'",
    )
    .await;
    let writes = bell.salesforce_writes().await;

    let ended = bell.run(&["verify", "--repair", "--limit", "0"]).await;

    assert_eq!(ended.code, 0, "{ended}");
    let jobs =
        "select concat_ws(' ', object, cardinality(only_keys)) from schoolbell.resync order by id";
    assert_eq!(bell.source_texts(jobs).await, ["school 1", "role 10000", "role 500"]);
    assert_eq!(bell.salesforce_writes().await, writes + 10_501);
    let known =
        "select concat_ws(' ', object, rows, equal, differing) from schoolbell.verified order by 1";
    assert_eq!(
        bell.source_texts(known).await,
        ["contact 20 20 0", "role 10520 10520 0", "school 20 20 0"],
        "what is repaired is right"
    );
}

#[tokio::test]
async fn a_repair_that_does_not_come_to_its_end_leaves_nothing_behind() {
    let bell = synced(None).await;
    bell.target_sql("update salesforce.editor__c set name = 'wrong' where name = 'School 1'").await;
    let writes = bell.salesforce_writes().await;
    let holder = bell.target_session().await;
    let hold =
        "begin; lock table salesforce.contact_editor_affiliation__c in access exclusive mode";
    holder.batch_execute(hold).await.unwrap();

    // The schools are compared first, and their resync is stored; the roles cannot be read.
    let ended = bell.run(&["verify", "--repair"]).await;
    holder.batch_execute("rollback").await.unwrap();

    assert_eq!(ended.code, 2, "{ended}");
    assert_eq!(bell.source_count("select count(*) from schoolbell.resync").await, 0);
    bell.drain().await;
    assert_eq!(bell.salesforce_writes().await, writes);
}

#[tokio::test]
async fn status_tells_when_each_object_was_last_verified_and_of_what_was_wrong() {
    let bell = synced(None).await;
    bell.target_sql("update salesforce.editor__c set name = 'wrong' where name = 'School 1'").await;
    let _writer = bell.target_session().await;

    bell.run(&["verify"]).await;
    let (printed, told) = (bell.run(&["status"]).await, bell.run(&["status", "--json"]).await);
    bell.run_ok(&["verify", "--repair", "school"]).await;
    let repaired = bell.run(&["status"]).await;

    assert_eq!((printed.code, repaired.code), (1, 0), "{printed}{repaired}");
    let line = |text: &str, object: &str| {
        let start = format!("verified   {object} 20");
        let line = text.lines().find(|line| line.starts_with(&start)).map(str::to_string);
        line.unwrap_or_else(|| panic!("{object}: {text}"))
    };
    assert!(line(&printed.stdout, "school").ends_with(": 20 rows, 1 wrong"), "{printed}");
    assert!(line(&printed.stdout, "role").ends_with(": 20 rows, none wrong"), "{printed}");
    assert!(printed.stdout.contains("1 row wrong in the last comparison"), "{printed}");
    assert!(line(&repaired.stdout, "school").ends_with(": 20 rows, none wrong"), "{repaired}");
    let report: Value = serde_json::from_str(&told.stdout).unwrap();
    let verified = report["verified"].as_array().unwrap();
    let school = verified.iter().find(|last| last["object"] == "school").unwrap();
    assert_eq!((&school["differing"], &school["equal"]), (&json!(1), &json!(19)), "{report:#}");
}

const VERIFY_SESSIONS: &str = "select count(*) from pg_stat_activity where application_name = 'schoolbell verify' \
                               and datname = current_database()";

/// Sessions of the background comparison in either database.
async fn verify_sessions(bell: &TestBell) -> i64 {
    bell.source_count(VERIFY_SESSIONS).await + bell.target_count(VERIFY_SESSIONS).await
}

#[tokio::test]
async fn in_the_background_all_rows_are_compared_told_recorded_and_left_as_they_are() {
    let log = Log::listen();
    let mut bell = synced(None).await;
    bell.target_sql("update salesforce.editor__c set name = 'wrong' where name = 'School 1'").await;
    let wrong = bell.source_texts("select id::text from schools where name = 'School 1'").await;
    let writes = bell.salesforce_writes().await;
    bell.pace.verify_every = Some(Duration::from_hours(1));
    let recorded =
        "select concat_ws(' ', object, rows, equal, differing) from schoolbell.verified order by 1";

    bell.service_starts();
    eventually("each object was compared", || async {
        match bell.source_count("select count(*) from schoolbell.verified").await {
            3 => Ok(()),
            some => Err(some),
        }
    })
    .await;
    eventually("its sessions are closed", || async {
        match verify_sessions(&bell).await {
            0 => Ok(()),
            open => Err(open),
        }
    })
    .await;

    assert_eq!(
        bell.source_texts(recorded).await,
        ["contact 20 20 0", "role 20 20 0", "school 20 19 1"]
    );
    assert_eq!(bell.salesforce_writes().await, writes, "it repairs nothing");
    let told = log.lines("some rows are wrong");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&wrong[0]) && told[0].contains("differing=1"), "{told:?}");
    assert_eq!(log.lines("verified: every row is right").len(), 2);

    // A service that is started again knows that it is not due yet.
    let before =
        bell.source_texts("select verified_at::text from schoolbell.verified order by 1").await;
    bell.service_stops().await;
    bell.service_starts();
    bell.asleep().await;
    let after =
        bell.source_texts("select verified_at::text from schoolbell.verified order by 1").await;
    assert_eq!(after, before);
    assert_eq!(verify_sessions(&bell).await, 0);

    bell.service_stops().await;
    bell.pace.verify_every = Some(Duration::from_millis(50));
    bell.service_starts();
    eventually("it is compared again", || async {
        let now =
            bell.source_texts("select verified_at::text from schoolbell.verified order by 1").await;
        if now.iter().zip(&before).all(|(now, before)| now > before) { Ok(()) } else { Err(now) }
    })
    .await;
}

#[tokio::test]
async fn a_comparison_in_the_background_stops_with_the_service_and_holds_up_no_change() {
    let mut bell = TestBell::installed().await;
    // So many that it rests several times.
    many_roles(&bell, 60_000).await;
    bell.pace.verify_every = Some(Duration::from_hours(1));

    bell.service_starts();
    eventually("roles are being compared", || async {
        let recorded = "select count(*) from schoolbell.verified";
        match (bell.source_count(recorded).await, verify_sessions(&bell).await) {
            (2, 3) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    bell.insert_school("Live").await;
    bell.target_becomes("select name from salesforce.editor__c", &["Live"]).await;
    let still = verify_sessions(&bell).await;
    bell.service_stops().await;

    assert_eq!(still, 3, "the change arrived while the roles were compared");
    eventually("its sessions are closed", || async {
        match verify_sessions(&bell).await {
            0 => Ok(()),
            open => Err(open),
        }
    })
    .await;
    let recorded = "select object from schoolbell.verified order by 1";
    assert_eq!(bell.source_texts(recorded).await, ["contact", "school"]);
}

#[tokio::test]
async fn a_comparison_that_fails_in_the_background_is_told_and_disturbs_nothing() {
    let log = Log::listen();
    let mut bell = synced(None).await;
    bell.pace.verify_every = Some(Duration::from_millis(100));
    bell.service_starts();
    bell.asleep().await;
    bell.target_sql("alter table salesforce.contact rename to away").await;

    eventually("it is told", || async {
        match log.lines("cannot be verified now").is_empty() {
            true => Err(()),
            false => Ok(()),
        }
    })
    .await;
    bell.insert_school("Live").await;
    let live = "select name from salesforce.editor__c where name = 'Live'";
    bell.target_becomes(live, &["Live"]).await;

    assert!(log.lines("interrupted").is_empty(), "{:?}", log.lines("interrupted"));
    assert_eq!(log.lines("cannot be verified now").len(), 1, "once, however often it is tried");
    bell.target_sql("alter table salesforce.away rename to contact").await;
}

#[tokio::test]
async fn a_comparison_more_often_than_once_a_minute_is_refused() {
    let bell = TestBell::installed().await;
    for (often, reason) in [("59s", "at least a minute"), ("often", "use 30m, 1h or 1d")] {
        let ended = bell.run(&["run", "--verify-every", often]).await;

        assert_eq!(ended.code, 2, "{ended}");
        assert!(ended.stderr.contains(reason), "{ended}");
    }
}

/// A mistake in the statements that write rows would be compared wrongly, too.
#[tokio::test]
async fn some_rows_are_asked_for_again_in_another_way() {
    let mut bell = TestBell::bare().await;
    // As if these statements computed something else.
    let text = schoolbell::mapping::BUILT_IN.replace(
        "name = \"name\"\n",
        "name = { sql = \"case when current_query() like '%as mater' || 'ialized%' then 'wrong' else name end\" }\n",
    );
    assert_ne!(text, schoolbell::mapping::BUILT_IN);
    bell.use_mapping(&text).await;
    let mapping = bell.mapping_file(&text).display().to_string();
    bell.insert_school("Acme").await;
    bell.drain().await;
    assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, ["wrong"]);

    for command in [&["verify", "school"][..], &["verify", "school", "--sample", "10"]] {
        let verified = bell.run(&[command, &["--mapping", &mapping]].concat()).await;
        assert_eq!(verified.code, 1, "{verified}");
        assert!(verified.stdout.contains("name: \"wrong\" instead of \"Acme\""), "{verified}");
    }
}
