//! What Heroku Connect and Salesforce made of the rows: told by `status`, as far as the role may know.

use crate::support::TestBell;

async fn salesforce(bell: &TestBell) -> serde_json::Value {
    let ended = bell.run(&["status", "--json"]).await;
    assert_ne!(ended.code, 2, "{ended}");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    report["salesforce"].clone()
}

fn of<'a>(mirrors: &'a serde_json::Value, object: &str) -> &'a serde_json::Value {
    let found = mirrors.as_array().unwrap().iter().find(|mirror| mirror["object"] == object);
    found.unwrap_or_else(|| panic!("no {object} in {mirrors}"))
}

/// As Heroku Connect does after Salesforce has refused a row.
async fn salesforce_refuses(bell: &TestBell, table: &str, condition: &str, error: &str) {
    bell.target_sql(&format!(
        "begin; set local xmlbinary = 'hex'; update salesforce.{table} set _hc_lastop = 'FAILED', _hc_err = '{error}' \
         where {condition}; update salesforce._trigger_log set state = 'FAILED', sf_message = '{error}', processed_at = \
         clock_timestamp() where table_name = '{table}' and state = 'NEW'; commit"
    ))
    .await;
}

#[tokio::test]
async fn status_counts_what_salesforce_has_and_lists_what_it_refused() {
    let bell = TestBell::start().await;
    let good = bell.insert_school("Good").await;
    bell.caught_up().await;
    bell.salesforce_accepts_everything().await;
    let bad = bell.insert_school("Bad").await;
    bell.caught_up().await;
    salesforce_refuses(
        &bell,
        "editor__c",
        &format!("editoruuid__c = '{bad}'"),
        "bad value for restricted picklist field",
    )
    .await;
    bell.insert_school("New").await;
    bell.caught_up().await;

    let report = salesforce(&bell).await;
    let printed = bell.run(&["status"]).await;

    let school = of(&report, "school");
    assert_eq!(school["rows"], serde_json::json!({"FAILED": 1, "INSERTED": 1, "PENDING": 1}));
    assert_eq!(
        school["failed"],
        serde_json::json!([{"key": bad, "sfid": null, "error": "bad value for restricted picklist field"}])
    );
    assert_eq!(school["unsent"]["entries"], 1);
    assert!(school["unsent"]["oldest_seconds"].as_f64().unwrap() > 0.0, "{school}");
    assert_eq!(school["problems"], serde_json::json!([]));
    assert_eq!(printed.code, 1, "{printed}");
    assert!(printed.stdout.starts_with("now        Salesforce refused 1 rows"), "{printed}");
    assert!(
        printed
            .stdout
            .contains("salesforce school 1 synced, 1 pending, 1 failed; the oldest unsent for"),
        "{printed}"
    );
    assert!(
        printed.stdout.contains(&format!("school {bad} FAILED: bad value for restricted picklist")),
        "{printed}"
    );
    assert!(!printed.stdout.contains(&good), "{printed}");
}

#[tokio::test]
async fn the_time_from_commit_to_salesforce_s_answer_is_told_for_rows_whose_own_time_tells_it() {
    let bell = TestBell::start().await;
    let replayed = bell.insert_school("Replayed").await;
    let fresh = bell.insert_school("Fresh").await;
    bell.source_sql(&format!(
        "update schools set updated_at = clock_timestamp() at time zone 'UTC' where id = '{fresh}'"
    ))
    .await;
    bell.caught_up().await;
    bell.salesforce_accepts_everything().await;

    let report = salesforce(&bell).await;

    let school = of(&report, "school");
    // The other one says that it was changed in January.
    assert_eq!(school["answered"]["rows"], 2, "{replayed} and {fresh}: {school}");
    assert_eq!(school["synced"]["rows"], 1, "{school}");
    let median = school["synced"]["median_seconds"].as_f64().unwrap();
    assert!((0.0..60.0).contains(&median), "{school}");
    assert_eq!(of(&report, "role")["synced"], serde_json::Value::Null);
}

#[tokio::test]
async fn what_the_role_may_not_read_is_said_and_the_rest_is_told() {
    let bell = TestBell::start().await;
    bell.insert_school("Acme").await;
    bell.caught_up().await;
    let role = format!("reader_{}", bell.target_name);
    bell.target_sql(&format!(
        "create role {role} login; grant usage on schema salesforce to {role}; grant select on \
         salesforce.editor__c, salesforce.contact to {role}"
    ))
    .await;
    let url = bell.target_url().replace("postgres://postgres", &format!("postgres://{role}"));
    assert_ne!(url, bell.target_url());

    let ended = bell.run(&["status", "--json", "--target-url", &url]).await;
    let printed = bell.run(&["status", "--target-url", &url]).await;
    bell.target_sql(&format!("drop owned by {role}; drop role {role}")).await;

    assert_eq!(ended.code, 0, "{ended}");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let school = of(&report["salesforce"], "school");
    assert_eq!(school["rows"], serde_json::json!({"PENDING": 1}));
    assert_eq!(
        school["problems"],
        serde_json::json!([
            "cannot read salesforce._trigger_log: permission denied for table _trigger_log"
        ])
    );
    assert_eq!(
        of(&report["salesforce"], "role")["problems"][0],
        "cannot read salesforce.contact_editor_affiliation__c: permission denied for table \
         contact_editor_affiliation__c"
    );
    assert!(printed.stdout.contains("permission denied for table _trigger_log"), "{printed}");
}
