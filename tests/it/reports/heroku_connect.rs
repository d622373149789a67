//! What Heroku Connect and Salesforce made of the rows: `status` reports it, as far as the role may
//! read it.

use schoolbell::reports::heroku_connect::cure;
use schoolbell::service::Ground;

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
    assert!(printed.stdout.starts_with("now        Salesforce refused 1 row:"), "{printed}");
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
    let resynced = bell.insert_school("Resynced").await;
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
    assert_eq!(school["answered"]["rows"], 2, "{resynced} and {fresh}: {school}");
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

async fn state_of(bell: &TestBell, school: &str) -> Vec<String> {
    bell.target_texts(&format!(
        "select concat_ws(' ', _hc_lastop, sfid is not null, name) from salesforce.editor__c where editoruuid__c = \
         '{school}'"
    ))
    .await
}

/// Their creators wait for a contact, which is no matter here.
async fn parked_schools(bell: &TestBell) -> Vec<String> {
    let parked = bell.parked().await;
    parked.into_iter().filter(|parked| parked.starts_with("school ")).collect()
}

async fn school_that_salesforce_refused(bell: &TestBell, name: &str) -> String {
    let school = bell.insert_school(name).await;
    bell.caught_up().await;
    salesforce_refuses(
        bell,
        "editor__c",
        &format!("editoruuid__c = '{school}'"),
        "no such country",
    )
    .await;
    school
}

async fn school_that_salesforce_has_and_then_refused(bell: &TestBell) -> String {
    let school = bell.insert_school("Known").await;
    bell.caught_up().await;
    bell.salesforce_accepts_everything().await;
    bell.source_sql(&format!("update schools set name = 'Renamed' where id = '{school}'")).await;
    bell.caught_up().await;
    salesforce_refuses(
        bell,
        "editor__c",
        &format!("editoruuid__c = '{school}'"),
        "record is locked",
    )
    .await;
    school
}

#[tokio::test]
async fn a_refused_row_that_salesforce_does_not_know_is_deleted_and_written_again() {
    let bell = TestBell::start().await;
    let school = school_that_salesforce_refused(&bell, "Acme").await;
    // An update alone does not help: that is why it is deleted.
    bell.source_sql(&format!("update schools set name = 'Acme 2' where id = '{school}'")).await;
    bell.caught_up().await;
    bell.salesforce_accepts_everything().await;
    assert_eq!(state_of(&bell, &school).await, ["FAILED f Acme 2"]);

    let asked = bell.run(&["parked", "retry", "--failed"]).await;
    assert_eq!(state_of(&bell, &school).await, ["FAILED f Acme 2"]);
    let done = bell.run_ok(&["parked", "retry", "--failed", "--yes"]).await;
    bell.salesforce_accepts_everything().await;

    assert_eq!(asked.code, 2, "{asked}");
    assert!(
        done.starts_with(&format!(
            "Salesforce refused these rows:\n  1 school, deleted from the target and written again: {school}\n      \
             1 × no such country\ndeleted, to be written again: 1 school\n"
        )),
        "{done}"
    );
    assert_eq!(state_of(&bell, &school).await, ["INSERTED t Acme 2"]);
    assert_eq!(parked_schools(&bell).await, [""; 0]);
}

#[tokio::test]
async fn without_a_service_the_command_writes_the_rows_again_itself() {
    let mut bell = TestBell::start().await;
    let school = school_that_salesforce_refused(&bell, "Acme").await;
    bell.service_stops().await;

    bell.run_ok(&["parked", "retry", "school", "--failed", "--key", &school, "--yes"]).await;

    assert_eq!(state_of(&bell, &school).await, ["PENDING f Acme"]);
}

#[tokio::test]
async fn a_refused_row_that_salesforce_knows_is_sent_again_once_in_either_mode_of_heroku_connect() {
    for ordered in [true, false] {
        let bell = TestBell::start().await;
        if !ordered {
            bell.target_sql("drop function salesforce.hc_capture_update_from_row").await;
        }
        let school = school_that_salesforce_has_and_then_refused(&bell).await;
        let open = "select count(*) from salesforce._trigger_log where state = 'NEW'";

        let done = bell.run_ok(&["parked", "retry", "--failed", "--yes"]).await;
        let again = bell.run_ok(&["parked", "retry", "--failed", "--yes"]).await;

        assert!(done.ends_with("sent again: 1 school\n"), "{done}");
        let left = format!(
            "1 school, skipped, because Heroku Connect already has an entry to send: {school}"
        );
        assert!(again.contains(&left) && !again.contains("sent again"), "{again}");
        assert_eq!(bell.target_count(open).await, 1);
        bell.salesforce_accepts_everything().await;
        assert_eq!(state_of(&bell, &school).await, ["UPDATED t Renamed"]);
        let nothing = bell.run_ok(&["parked", "retry", "--failed"]).await;
        assert_eq!(nothing, "no such row is FAILED\n");
    }
}

#[tokio::test]
async fn refused_rows_that_are_not_ours_to_write_are_left_alone_and_said() {
    let bell = TestBell::start().await;
    let person = "0b0f7b0e-0000-4000-8000-000000000001";
    let gone = school_that_salesforce_refused(&bell, "Gone").await;
    bell.source_sql(&format!("delete from schools where id = '{gone}'")).await;
    bell.caught_up().await;
    bell.target_sql(&format!(
        "insert into salesforce.contact (pi_accounts_unique_id__c) values ('{person}')"
    ))
    .await;
    salesforce_refuses(&bell, "contact", "true", "duplicate").await;

    let ended = bell.run(&["parked", "retry", "--failed", "--yes"]).await;

    assert_eq!(ended.code, 1, "{ended}");
    let lines = [
        format!(
            "1 contact, skipped, because Salesforce creates these rows and does not know them: {person}"
        ),
        format!("1 school, skipped, because the source no longer publishes them: {gone}"),
    ];
    for line in lines {
        assert!(ended.stdout.contains(&line), "{ended}");
    }
    assert_eq!(state_of(&bell, &gone).await, ["FAILED f Gone"]);
}

#[tokio::test]
async fn a_row_whose_cure_breaks_off_after_the_deletion_is_written_again_by_itself() {
    let mut bell = TestBell::start().await;
    let school = school_that_salesforce_refused(&bell, "Acme").await;
    bell.service_stops().await;
    bell.source_sql("alter table schoolbell.resync add constraint broken check (false) not valid")
        .await;

    let ended = bell.run(&["parked", "retry", "--failed", "--yes"]).await;

    assert_eq!(ended.code, 2, "{ended}");
    assert!(ended.stderr.contains("written again by the service within a minute"), "{ended}");
    assert_eq!(state_of(&bell, &school).await, [""; 0]);
    assert_eq!(parked_schools(&bell).await, [format!("school {school} retrying")]);
    // A minute later.
    bell.source_sql("update schoolbell.parked set due_at = now()").await;
    bell.drain().await;
    assert_eq!(state_of(&bell, &school).await, ["PENDING f Acme"]);
}

#[tokio::test]
async fn a_row_that_is_accepted_or_known_between_the_plan_and_the_cure_is_not_deleted() {
    let bell = TestBell::start().await;
    let known = school_that_salesforce_has_and_then_refused(&bell).await;
    let accepted = bell.insert_school("Accepted").await;
    bell.caught_up().await;
    let ground = Ground::check(&bell.config(), &bell.mapping).await.unwrap();
    let mut source = ground.source.session().await.unwrap();
    let evaluator = ground.source.evaluator().await.unwrap();
    let target = ground.target.writing_session().await.unwrap();
    let route = ground.routes().find(|route| route.object.name == "school").unwrap();

    let keys = [known.clone(), accepted.clone()];
    let source = (&mut source, &evaluator);
    let cured = cure::write_again(source, &target, route, &keys).await.unwrap();

    assert_eq!(cured, None);
    assert_eq!(state_of(&bell, &known).await, ["FAILED t Renamed"]);
    assert_eq!(state_of(&bell, &accepted).await, ["PENDING f Accepted"]);
}

/// A time that is no date, in the log that Heroku Connect owns, hides nothing.
#[tokio::test]
async fn odd_times_in_the_log_hide_nothing_else() {
    let bell = TestBell::start().await;
    let school = bell.insert_school("Acme").await;
    bell.insert_school("Beta").await;
    bell.caught_up().await;
    for time in ["infinity", "-infinity", "20000-01-01", "0044-03-15 BC"] {
        for column in ["created_at", "processed_at"] {
            bell.target_sql(&format!(
                "update salesforce._trigger_log set {column} = '{time}', state = 'NEW' where record_id = 1"
            ))
            .await;
            let status = bell.run(&["status", "--json"]).await;
            let report: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
            let told = of(&report["salesforce"], "school");
            assert_eq!(told["problems"], serde_json::json!([]), "{time}");
            assert_eq!(told["unsent"]["entries"], 2, "{time}: {told}");
            let explained = bell.run(&["explain", "school", &school]).await;
            assert_eq!(explained.code, 0, "{time}: {explained}");
            bell.target_sql(
                "update salesforce._trigger_log set state = 'SUCCESS' where record_id = 1",
            )
            .await;
            let status = bell.run(&["status"]).await;
            assert!(
                status.code < 2 && !status.to_string().contains("cannot read"),
                "{time}: {status}"
            );
        }
    }
}
