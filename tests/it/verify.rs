//! Verify: every difference is found, nothing that is right or on its way is reported, and a repair writes exactly
//! what was wrong.

use serde_json::Value;

use crate::support::writers::Writers;
use crate::support::{TestBell, deleting_mapping};

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
        "alter table schools disable trigger user; {sql}; alter table schools enable trigger user"
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
    let mut bell = synced(None).await;
    bell.service_starts();
    let writers = Writers::start(&bell.source_url(), 4, fastrand::u64(..));

    for _ in 0..5 {
        let (code, report) = verify(&bell, &[]).await;
        assert_eq!(code, 0, "{report:#}");
    }

    assert!(writers.committed() > 0);
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
