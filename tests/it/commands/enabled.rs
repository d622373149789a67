//! Unless Salesforce is enabled, nothing is written.

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::TestBell;

use super::{PATIENCE, assert_refused, ends, json, program, signal, text};

// Disabled ------------------------------------------------------------------------------------------

#[tokio::test]
async fn unless_salesforce_is_enabled_run_stays_up_and_says_so_and_changes_keep_waiting() {
    let bell = TestBell::installed().await;
    bell.insert_school("Acme").await;
    for enabled in ["false", "", "TRUE", "1", "yes"] {
        let mut child = program(&bell, &["run"]).env("SALESFORCE_ENABLED", enabled).spawn();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = tokio::time::timeout(PATIENCE, log.next_line()).await.unwrap().unwrap().unwrap();
        bell.insert_school("Another").await;
        let running = child.try_wait().unwrap().is_none();
        signal(&child, "TERM");
        let ended = ends(child).await;

        assert!(said.contains("disabled: SALESFORCE_ENABLED is not true"), "{enabled}: {said}");
        assert!(running, "{enabled}");
        assert_eq!(ended.status.code(), Some(0), "{enabled}");
        assert_eq!(text(&ended.stdout), "");
    }
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 6);
    assert_eq!(bell.salesforce_writes().await, 0);
}

#[tokio::test]
async fn unless_salesforce_is_enabled_nothing_that_would_write_is_begun() {
    let bell = TestBell::installed().await;
    bell.insert_school("Acme").await;
    for command in [&["run", "--drain"][..], &["resync"], &["resync", "--detach"]] {
        let ended = program(&bell, command).env("SALESFORCE_ENABLED", "false").run().await;
        assert_refused(&ended, &["SALESFORCE_ENABLED is not true"]);
    }

    let forecast = program(&bell, &["resync", "--dry-run", "--json"])
        .env("SALESFORCE_ENABLED", "false")
        .run()
        .await;
    let status =
        program(&bell, &["status", "--json"]).env("SALESFORCE_ENABLED", "false").run().await;

    assert_eq!(forecast.code, 0, "{forecast}");
    let school = json(&forecast.stdout)
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["object"] == "school")
        .cloned()
        .unwrap();
    assert_eq!(
        (school["rows"].as_i64(), school["insert"].as_i64()),
        (Some(1), Some(1)),
        "{forecast}"
    );
    assert_eq!(json(&status.stdout)["enabled"], false);
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 1);
    assert_eq!(bell.source_count("select count(*) from schoolbell.resync").await, 0);
    assert_eq!(bell.salesforce_writes().await, 0);
}
