//! `explain`: the closing sentence says what has become of a row, and the step that it names helps.

use serde_json::Value;

use crate::support::program::Ended;
use crate::support::{HEROKU_CONNECT, TestBell, deleting_mapping};

async fn explain(bell: &TestBell, object: &str, key: &str) -> Ended {
    bell.run(&["explain", object, key]).await
}

/// The closing sentence, and whether the row gets there by itself.
fn next(ended: &Ended) -> (&str, bool) {
    assert!(ended.code < 2, "{ended}");
    let last = ended.stdout.lines().last().unwrap_or_default();
    let sentence = last.strip_prefix("next       ").unwrap_or_else(|| panic!("no end: {ended}"));
    (sentence, ended.code == 0)
}

#[track_caller]
fn assert_next(ended: &Ended, by_itself: bool, parts: &[&str]) {
    let (sentence, told) = next(ended);
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is not in {sentence:?}: {ended}");
    }
    assert_eq!(told, by_itself, "{ended}");
}

async fn salesforce_refuses(bell: &TestBell, school: &str) {
    bell.target_sql(&format!(
        "begin; set local xmlbinary = 'hex'; update salesforce.editor__c set _hc_lastop = 'FAILED', _hc_err = 'no such \
         country' where editoruuid__c = '{school}'; update salesforce._trigger_log set state = 'FAILED', sf_message = 'no \
         such country'; commit"
    ))
    .await;
}

#[tokio::test]
async fn a_school_is_followed_from_the_outbox_into_salesforce() {
    let mut bell = TestBell::installed().await;
    let school = bell.insert_school("Acme").await;

    let captured = explain(&bell, "school", &school).await;
    bell.service_starts();
    bell.caught_up().await;
    let written = explain(&bell, "school", &school).await;
    bell.salesforce_accepts_everything().await;
    // A key is found however it is written.
    let accepted = explain(&bell, "school", &school.to_uppercase()).await;

    assert_next(
        &captured,
        false,
        &["A change of 20", "no service is running to apply it: start `schoolbell run`"],
    );
    assert!(captured.stdout.contains("salesforce.editor__c has no such row"), "{captured}");
    assert_next(&written, true, &["Heroku Connect has it since 20"]);
    assert!(written.stdout.contains("INSERT NEW since 20"), "{written}");
    assert_next(&accepted, true, &["It is in Salesforce as a"]);
    let lines: Vec<&str> = accepted.stdout.lines().collect();
    assert_eq!(lines[0], format!("school {school}"));
    assert_eq!(
        lines[1],
        "source     published from public.schools, last changed 2026-01-02T03:04:05Z"
    );
    for line in [
        "           name = \"Acme\"",
        "           editorreference__c = null",
        "           status__c = \"New\" (only when it is inserted)",
        "pending    no change",
        "parked     no",
    ] {
        assert!(lines.contains(&line), "{line:?} is missing: {accepted}");
    }
}

#[tokio::test]
async fn a_role_that_waits_says_for_whom_and_why_that_one_is_not_there() {
    let bell = TestBell::start().await;
    let school = bell.insert_school("Acme").await;
    let role = bell.insert_role(&school, 1).await;
    let user = bell.user_of(&role).await;
    bell.caught_up().await;

    let unaccepted = explain(&bell, "role", &role).await;
    salesforce_refuses(&bell, &school).await;
    let refused = explain(&bell, "role", &role).await;
    bell.salesforce_accepts("editor__c", "editoruuid__c", &school).await;
    bell.caught_up().await;
    crate::support::eventually("it waits for the contact", || async {
        let parked = bell.parked().await;
        let waits = parked.iter().any(|parked| parked.contains("for contact sfid"));
        if waits { Ok(()) } else { Err(parked) }
    })
    .await;
    let nobody = explain(&bell, "role", &role).await;
    let contact = explain(&bell, "contact", &user).await;

    assert_next(&unaccepted, true, &["It waits until Salesforce has accepted its school", &school]);
    assert!(
        unaccepted.stdout.contains(&format!("parent     school {school} has no sfid yet, PENDING")),
        "{unaccepted}"
    );
    assert_next(
        &refused,
        false,
        &[
            "which Salesforce refused: no such country",
            &format!("`schoolbell parked retry --failed school --key {school}`"),
        ],
    );
    assert_next(
        &nobody,
        true,
        &["salesforce.contact does not have", &format!("`schoolbell explain contact {user}`")],
    );
    assert_next(&contact, true, &["public.schools has no such row"]);
}

/// An id that is written otherwise on the other side is never found, however long one waits.
#[tokio::test]
async fn a_row_that_waits_for_a_key_in_capitals_is_shown_both() {
    let bell = TestBell::installed().await;
    let school = bell.insert_school("Acme").await;
    let role = bell.insert_role(&school, 1).await;
    let user = bell.user_of(&role).await;
    let capitals = user.to_uppercase();
    bell.drain().await;
    bell.salesforce_accepts_everything().await;
    bell.salesforce_has_contact(&capitals).await;
    bell.drain().await;

    let told = explain(&bell, "role", &role).await;

    assert_next(&told, false, &[&user, &capitals, "Write the two alike"]);
    assert!(
        told.stdout.contains(&format!("near       salesforce.contact has not \"{user}\"")),
        "{told}"
    );
    bell.target_sql(
        "update salesforce.contact set pi_accounts_unique_id__c = lower(pi_accounts_unique_id__c)",
    )
    .await;
    assert_next(&explain(&bell, "role", &role).await, false, &["has just been accepted"]);
}

#[tokio::test]
async fn a_row_that_was_refused_says_by_whom_and_what_to_do() {
    let bell = TestBell::start().await;
    bell.target_sql(
        "alter table salesforce.editor__c add constraint no_pirates check (name <> 'Pirates')",
    )
    .await;
    let dead = bell.insert_school("Pirates").await;
    let failed = bell.insert_school("Acme").await;
    bell.caught_up().await;
    salesforce_refuses(&bell, &failed).await;

    let by_the_target = explain(&bell, "school", &dead).await;
    let by_salesforce = explain(&bell, "school", &failed).await;

    assert_next(
        &by_the_target,
        false,
        &[
            "check constraint \"no_pirates\"",
            "fix the source row",
            &format!("`schoolbell parked retry school --key {dead}`"),
        ],
    );
    assert_next(
        &by_salesforce,
        false,
        &[
            "Salesforce refused it: no such country",
            &format!("`schoolbell parked retry --failed school --key {failed}`"),
        ],
    );
    assert!(by_salesforce.stdout.contains("INSERT FAILED since 20"), "{by_salesforce}");
    // The step that it names helps.
    let (sentence, _) = next(&by_salesforce);
    let command = sentence.split('`').nth(1).unwrap().strip_prefix("schoolbell ").unwrap();
    let mut words: Vec<&str> = command.split_whitespace().collect();
    words.push("--yes");
    bell.run_ok(&words).await;
    bell.salesforce_accepts_everything().await;
    let cured = explain(&bell, "school", &failed).await;
    assert_next(&cured, true, &["It is in Salesforce as a"]);
}

#[tokio::test]
async fn what_got_past_capture_is_said_with_the_column_and_what_would_write_it() {
    let bell = TestBell::start().await;
    let school = bell.insert_school("Acme").await;
    bell.caught_up().await;
    bell.source_sql(&format!(
        "alter table schools disable trigger schoolbell_update; update schools set name = 'Bolt' where id = '{school}'"
    ))
    .await;

    let differs = explain(&bell, "school", &school).await;
    let unseen = bell.run(&["explain", "school", &school, "--no-values"]).await;
    bell.run_ok(&["migrate"]).await;
    let (sentence, _) = next(&differs);
    let command =
        sentence.split('`').find_map(|part| part.strip_prefix("schoolbell resync ")).unwrap();
    let words: Vec<&str> = std::iter::once("resync").chain(command.split_whitespace()).collect();
    bell.run_ok(&words).await;
    let right = explain(&bell, "school", &school).await;

    assert_next(
        &differs,
        false,
        &[
            "The target's row differs",
            "trigger schoolbell_update on public.schools is not enabled always",
        ],
    );
    assert!(
        differs.stdout.contains("           name = \"Bolt\", but the target has \"Acme\""),
        "{differs}"
    );
    assert!(unseen.stdout.contains("           name differs\n"), "{unseen}");
    for value in ["Bolt", "Acme"] {
        assert!(!unseen.stdout.contains(value), "{unseen}");
    }
    assert_next(&right, true, &["Heroku Connect has it"]);
}

#[tokio::test]
async fn a_row_that_the_source_does_not_publish_is_said_to_be_left_out_or_gone() {
    let bell = TestBell::start().await;
    let school = bell.insert_school("Acme").await;
    let student = bell.insert_role(&school, 0).await;
    bell.caught_up().await;
    bell.source_sql(&format!("delete from schools where id = '{school}'")).await;
    bell.caught_up().await;

    let left_out = explain(&bell, "role", &student).await;
    let kept = explain(&bell, "school", &school).await;
    let unknown = explain(&bell, "school", "00000000-0000-0000-0000-000000000000").await;
    let nonsense = explain(&bell, "school", "it's no key").await;

    assert_next(&left_out, true, &["The filter leaves it out (role is distinct from 0)"]);
    assert_next(&kept, true, &["public.schools has no such row; the target's row stays"]);
    for ended in [&unknown, &nonsense] {
        assert_next(ended, true, &["public.schools has no such row, and neither has the target"]);
    }
}

#[tokio::test]
async fn a_row_that_should_be_deleted_and_is_not_on_its_way_is_said() {
    let mut bell = TestBell::bare().await;
    bell.use_mapping(&deleting_mapping()).await;
    let file = bell.mapping_file(&deleting_mapping());
    let school = bell.insert_school("Acme").await;
    bell.drain().await;
    bell.source_sql("alter table schools disable trigger user").await;
    bell.source_sql(&format!("delete from schools where id = '{school}'")).await;

    let left = bell.run(&["explain", "school", &school, "--mapping", file.to_str().unwrap()]).await;

    assert_next(
        &left,
        false,
        &["the target's row should be gone", &format!("resync school --key {school}")],
    );
}

#[tokio::test]
async fn a_row_that_the_source_cannot_project_says_why_without_its_content() {
    let bell = TestBell::installed().await;
    let school = bell.insert_school("Acme").await;
    let file = bell.mapping_file(
        &schoolbell::mapping::BUILT_IN
            .replace("name = \"name\"", "name = { sql = \"(name::int4)::text\" }"),
    );
    bell.source_sql("delete from schoolbell.change").await;

    let ended =
        bell.run(&["explain", "school", &school, "--mapping", file.to_str().unwrap()]).await;

    assert_next(
        &ended,
        false,
        &["The source refuses to give the row: invalid input syntax for type integer"],
    );
    assert!(!ended.stdout.contains("Acme"), "{ended}");
}

#[tokio::test]
async fn the_json_form_has_the_same_and_what_is_no_object_is_refused() {
    let bell = TestBell::start().await;
    let school = bell.insert_school("Acme").await;
    bell.caught_up().await;

    let told = bell.run(&["explain", "school", &school, "--json"]).await;
    let refused = bell.run(&["explain", "scholl", &school]).await;

    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["key"], school.as_str());
    assert_eq!(told["source"]["state"]["is"], "published");
    let name = told["source"]["columns"].as_array().unwrap().iter().find(|c| c["column"] == "name");
    assert_eq!(name.unwrap()["source"], "Acme");
    assert_eq!(told["target"][0]["lastop"], "PENDING");
    assert_eq!(told["target"][0]["log"][0]["state"], "NEW");
    assert_eq!(told["next"]["by_itself"], true);
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("the mapping has no object scholl; it has contact, school, role"),
        "{refused}"
    );
}

/// What holds a parent back holds its children back: refused, left out, refused by Salesforce, or
/// waiting for a parent of its own that is.
#[tokio::test]
async fn a_row_whose_parent_does_not_come_by_itself_says_what_keeps_that_one() {
    let mut bell = TestBell::bare().await;
    bell.source_sql(
        "create table areas (id int primary key, name text not null, divisor int not null default 1); \
         create table towns (id int primary key, area int, kept boolean default true); \
         create table streets (id int primary key, town int)",
    )
    .await;
    let table = |name: &str, columns: &str| {
        format!("create table salesforce.{name} (id__c int unique, {columns}{HEROKU_CONNECT}); ")
    };
    let parent = |object: &str| format!("{object}__r__id__c int, ");
    bell.target_sql(
        &(table("area__c", "share__c int, ")
            + &table("town__c", &parent("area"))
            + &table("street__c", &parent("town"))),
    )
    .await;
    let object = |name: &str, more: &str, fields: &str| {
        format!(
            "[object.{name}]\nsource = \"{name}s\"\nkey = \"id\"\ntarget = \"{name}__c\"\nexternal_id = \"id__c\"\n{more}\n\
             [object.{name}.fields]\n{fields}\n"
        )
    };
    let parents =
        |object: &str| format!("parents = [{{ object = \"{object}\", key = \"{object}\" }}]\n");
    bell.use_mapping(
        &(String::from("version = 1\n")
            + &object("area", "", "share__c = { sql = \"12 / divisor\" }")
            + &object(
                "town",
                &(parents("area") + "filter = \"kept\""),
                "area__r__id__c = \"area\"",
            )
            + &object("street", &parents("town"), "town__r__id__c = \"town\"")),
    )
    .await;
    bell.source_sql(
        "insert into areas values (1, 'refused', 0), (2, 'fine', 1); \
         insert into towns values (1, 1, true), (2, 2, true), (3, 2, false); \
         insert into streets values (1, 1), (2, 2), (3, 3), (4, 4)",
    )
    .await;
    bell.service_starts();
    bell.caught_up().await;
    let file = bell.mapping_file(&bell.mapping.text).display().to_string();
    for (street, by_itself, told) in [
        (
            1,
            false,
            "It waits for its town 1. Of that one: It waits for its area 1. Of that one: It was refused",
        ),
        (2, true, "It waits for its town 2"),
        (3, false, "It waits for its town 3. Of that one: The filter leaves it out"),
        (4, false, "It waits for its town 4. Of that one: public.towns has no such row"),
    ] {
        let street = street.to_string();
        let explained = bell.run(&["explain", "street", &street, "--mapping", &file]).await;
        assert_next(&explained, by_itself, &[told]);
    }
}
