//! `status` and `parked list`: what they report, and when that is an alarm.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::TestBell;

use super::{json, keys, nowhere, program, with_a_dead_school};

#[tokio::test]
async fn status_tells_what_it_knows_when_the_target_cannot_be_reached() {
    let bell = TestBell::installed().await;
    let asked = |arguments: &[&str]| {
        program(&bell, arguments).env("SALESFORCE_CONNECT_URL", &nowhere("connect"))
    };

    let printed = asked(&["status"]).run().await;
    let report = asked(&["status", "--json"]).run().await;

    assert_eq!((printed.code, report.code), (1, 1), "{printed}");
    assert!(printed.stdout.contains("the target cannot be reached: "), "{printed}");
    assert!(printed.stdout.contains("capture    installed"), "{printed}");
    assert!(
        json(&report.stdout)["target_problem"].as_str().unwrap().contains("refused"),
        "{report}"
    );
}

// Reports -------------------------------------------------------------------------------------------

#[tokio::test]
async fn status_has_nothing_to_report_when_all_is_well() {
    let bell = TestBell::installed().await;

    let printed = bell.run(&["status"]).await;
    let report = bell.run(&["status", "--json"]).await;

    assert_eq!((printed.code, report.code), (0, 0), "{printed}");
    assert_eq!(
        printed.stdout,
        "now        Nothing is pending, but no service is running: start `schoolbell run`.\n\
         pending    nothing\nlag        0.0 s\nparked     nothing\nwriter     nobody\n\
         capture    installed, notify mode doorbell, schema version 12\n\
         salesforce contact 0 synced, 0 pending, 0 failed\n\
         salesforce school 0 synced, 0 pending, 0 failed\n\
         salesforce role 0 synced, 0 pending, 0 failed\n"
    );
    let report = json(&report.stdout);
    let wanted = BTreeSet::from([
        "schema_version",
        "enabled",
        "pending_changes",
        "oldest_change_at",
        "lag_seconds",
        "mapping_problems",
        "unanswered",
        "parked",
        "writer",
        "writer_blocked_by",
        "bell_blocked_by",
        "notification_queue",
        "target_problem",
        "pairing_problem",
        "notify",
        "capture_problems",
        "resyncs",
        "failed_resyncs",
        "salesforce",
        "verified",
        "headline",
    ]);
    assert_eq!(keys(&report), wanted);
    assert_eq!(
        (&report["enabled"], &report["notify"]),
        (&Value::Bool(true), &Value::from("doorbell"))
    );
}

#[tokio::test]
async fn status_tells_who_is_the_writer_and_what_is_pending_without_one() {
    let mut bell = TestBell::installed().await;
    bell.insert_school("Acme").await;

    let alone = bell.run(&["status", "--json"]).await;
    let alone_printed = bell.run(&["status"]).await;
    bell.service_starts();
    bell.caught_up().await;
    let served = bell.run(&["status", "--json"]).await;
    let served_printed = bell.run(&["status"]).await;

    assert_eq!((alone.code, alone_printed.code), (1, 1), "{alone}");
    assert!(
        alone_printed.stdout.contains("pending    1 change, the oldest since 20"),
        "{alone_printed}"
    );
    assert!(
        alone_printed.stdout.contains("writer     none: start `schoolbell run`"),
        "{alone_printed}"
    );
    let report = json(&alone.stdout);
    assert_eq!((report["pending_changes"].as_i64(), &report["writer"]), (Some(1), &Value::Null));
    assert!(
        report["oldest_change_at"].is_string() && report["lag_seconds"].as_f64() > Some(0.0),
        "{report}"
    );
    assert_eq!((served.code, served_printed.code), (0, 0), "{served}");
    let process = format!("/{}", std::process::id());
    assert!(served_printed.stdout.contains(&format!("{process} since 20")), "{served_printed}");
    let writer = &json(&served.stdout)["writer"];
    assert!(writer["process"].as_str().unwrap().ends_with(&process), "{writer}");
    assert!(writer["pid"].is_number() && writer["since"].is_string(), "{writer}");
}

#[tokio::test]
async fn a_dead_row_is_reported_with_reason_and_remedy_and_exit_code_1_but_not_with_its_content() {
    let (bell, pirates) = with_a_dead_school().await;

    let drained = bell.run(&["run", "--drain"]).await;
    let status = bell.run(&["status"]).await;
    let status_json = bell.run(&["status", "--json"]).await;
    let list = bell.run(&["parked", "list"]).await;
    let list_json = bell.run(&["parked", "list", "school", "--state", "dead", "--json"]).await;

    for ended in [&drained, &status, &status_json, &list, &list_json] {
        assert_eq!(ended.code, 1, "{ended}");
        assert!(!ended.to_string().contains("Pirate school"), "{ended}");
    }
    assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, ["Acme"]);
    assert!(status.stdout.contains("parked     1 school dead, the oldest since 20"), "{status}");
    let report = json(&status_json.stdout);
    let dead =
        report["parked"].as_array().unwrap().iter().find(|count| count["state"] == "dead").unwrap();
    assert_eq!(keys(dead), BTreeSet::from(["object", "state", "keys", "held", "oldest"]));
    assert_eq!((&dead["object"], dead["keys"].as_i64()), (&Value::from("school"), Some(1)));
    for part in
        ["OBJECT", "WHAT HELPS", &pirates, "dead", "no_pirates", "(23514)", "fix the source row"]
    {
        assert!(list.stdout.contains(part), "{part}: {list}");
    }
    let report = json(&list_json.stdout);
    assert_eq!(report.as_array().unwrap().len(), 1, "{report}");
    let wanted = BTreeSet::from([
        "object",
        "key",
        "state",
        "awaits",
        "awaits_key",
        "due_at",
        "held",
        "attempts",
        "reason",
        "sqlstate",
        "remedy",
        "parked_at",
    ]);
    assert_eq!(keys(&report[0]), wanted);
    assert_eq!(
        (&report[0]["key"], &report[0]["sqlstate"]),
        (&Value::from(pirates), &Value::from("23514"))
    );
}

#[tokio::test]
async fn parked_list_shows_what_was_asked_for_and_waiting_is_no_alarm() {
    let bell = TestBell::installed().await;
    let school = bell.insert_school("Acme").await;
    let role = bell.insert_role(&school, 1).await;
    assert_eq!(bell.run_ok(&["parked", "list"]).await, "nothing is parked\n");
    bell.run_ok(&["run", "--drain"]).await;
    let list =
        async |arguments: &[&str]| bell.run_ok(&[&["parked", "list"], arguments].concat()).await;

    let all = json(&list(&["--json"]).await);
    let roles = json(&list(&["role", "--json"]).await);

    // The creator's contact, and the role, both of which wait.
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    assert_eq!(
        (roles.as_array().unwrap().len(), &roles[0]["key"]),
        (1, &Value::from(role.clone()))
    );
    assert_eq!(
        (&roles[0]["state"], roles[0]["awaits"].is_string()),
        (&Value::from("waiting"), true)
    );
    assert!(list(&["role"]).await.contains(&role));
    assert_eq!(list(&["school"]).await, "nothing is parked\n");
    assert_eq!(json(&list(&["--state", "dead", "--json"]).await), json("[]"));
    assert!(list(&["--limit", "1"]).await.contains("at most 1 are listed"));
}
