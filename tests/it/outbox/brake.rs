//! The brake: `on_delete = "delete"` deletes what leaves the source, and no mistake empties
//! Salesforce.

use crate::support::{TestBell, eventually};

/// The built-in mapping, but schools that are gone are deleted, with this brake.
fn deleting_schools(brake: &str) -> String {
    let kept = "external_id = \"editoruuid__c\"\non_delete = \"keep\"";
    let text = schoolbell::mapping::BUILT_IN;
    assert!(text.contains(kept));
    let deleted =
        format!("external_id = \"editoruuid__c\"\non_delete = \"delete\"\nbrake = {brake}");
    text.replace(kept, &deleted)
}

/// The same, and roles have a brake of their own.
fn deleting_both(schools: &str, roles: &str) -> String {
    let text = deleting_schools(schools);
    let kept = "external_id = \"affiliation_id__c\"\non_delete = \"keep\"";
    assert!(text.contains(kept));
    let deleted =
        format!("external_id = \"affiliation_id__c\"\non_delete = \"delete\"\nbrake = {roles}");
    text.replace(kept, &deleted)
}

/// Schools that are written, called `School 1` and so on.
async fn with_schools(mapping: &str, schools: usize) -> TestBell {
    let mut bell = TestBell::bare().await;
    bell.use_mapping(mapping).await;
    bell.source_sql(&format!(
        "insert into schools (id, name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         select ('a0000000-0000-4000-8000-' || to_char(n, 'FM000000000000'))::uuid, 'School ' || n, 'Road', 'Town', 'GB', \
         'w', now(), now() from generate_series(1, {schools}) n"
    ))
    .await;
    bell.drain().await;
    assert_eq!(mirrored(&bell).await, schools as i64);
    bell
}

/// How many schools the target has.
async fn mirrored(bell: &TestBell) -> i64 {
    bell.target_count("select count(*) from salesforce.editor__c").await
}

async fn held(bell: &TestBell) -> i64 {
    bell.source_count("select count(*) from schoolbell.parked where held").await
}

async fn delete(bell: &TestBell, schools: &str) {
    bell.source_sql(&format!(
        "delete from schools where substr(name, 8)::integer = any ('{{{schools}}}')"
    ))
    .await;
}

#[tokio::test]
async fn more_deletions_than_the_brake_allows_are_held_until_a_human_decides() {
    let bell = with_schools(&deleting_schools("{ rows = 3, share = 1 }"), 10).await;
    delete(&bell, "1,2").await;
    assert_eq!(bell.drain().await.deleted, 2);

    // Two went, and two more would be four.
    delete(&bell, "3,4").await;
    let tally = bell.drain().await;
    assert_eq!((tally.deleted, tally.dead), (0, 2));
    // One alone would be allowed, but not while others are held.
    delete(&bell, "5").await;
    assert_eq!(bell.drain().await.deleted, 0);
    assert_eq!((mirrored(&bell).await, held(&bell).await), (8, 3));

    let listed = bell.run(&["parked", "list"]).await;
    let reason = "held by the brake: at most 3 rows and 100 % of all within 1h are deleted unasked, and none while others \
                  are held";
    assert_eq!(listed.code, 1, "{listed}");
    assert_eq!(listed.stdout.matches(reason).count(), 3, "{listed}");
    let status = bell.run(&["status"]).await;
    assert_eq!(status.code, 1, "{status}");
    assert!(status.stdout.contains("The brake holds 3 deletions: "), "{status}");
    assert!(status.stdout.contains("3 school dead (3 held by the brake)"), "{status}");

    // No human is asked.
    let asked = bell.run(&["parked", "retry", "--all"]).await;
    assert_eq!(asked.code, 2, "{asked}");
    assert!(asked.stdout.contains("  3 school: a0000000-"), "{asked}");
    assert_eq!(bell.drain().await.deleted, 0);

    let followed = bell.run(&["explain", "school", "a0000000-0000-4000-8000-000000000004"]).await;
    assert_eq!(followed.code, 1, "{followed}");
    assert!(
        followed.stdout.contains("Its target row should be deleted, and is held by"),
        "{followed}"
    );

    let third = "a0000000-0000-4000-8000-000000000003";
    bell.run_ok(&["parked", "retry", "school", "--key", third, "--yes"]).await;
    assert_eq!(bell.drain().await.deleted, 1);
    let fourth = "a0000000-0000-4000-8000-000000000004";
    bell.run_ok(&["parked", "drop", "school", "--key", fourth, "--yes"]).await;
    bell.drain().await;
    assert_eq!((mirrored(&bell).await, held(&bell).await), (7, 1));

    // The rows of dropped keys stay, and a comparison finds them.
    let file = bell.mapping_file(&deleting_schools("{ rows = 3, share = 1 }"));
    let verified = bell.run(&["verify", "school", "--mapping", &file.display().to_string()]).await;
    assert_eq!(verified.code, 1, "{verified}");
    assert!(
        verified.stdout.contains(&format!("school {fourth} should not be there")),
        "{verified}"
    );
    assert!(!verified.stdout.contains("000000000005 should"), "it is parked: {verified}");
}

#[tokio::test]
async fn a_held_row_that_comes_back_is_released_by_that_and_written() {
    let bell = with_schools(&deleting_schools("{ rows = 0 }"), 2).await;
    bell.source_sql("create table away as table schools; delete from schools").await;
    bell.drain().await;
    assert_eq!((mirrored(&bell).await, held(&bell).await), (2, 2));

    bell.source_sql("insert into schools select * from away where name = 'School 1'").await;
    bell.drain().await;
    assert_eq!((mirrored(&bell).await, held(&bell).await), (2, 1));
}

#[tokio::test]
async fn many_short_runs_do_not_empty_the_target_one_row_at_a_time() {
    let bell = with_schools(&deleting_schools("{ rows = 3, share = 1, within = '1h' }"), 10).await;
    for school in 1..=8 {
        delete(&bell, &school.to_string()).await;
        bell.drain().await;
    }
    assert_eq!((mirrored(&bell).await, held(&bell).await), (7, 5));

    // An hour later a human has decided, and what was deleted before does not count any more.
    bell.run_ok(&["parked", "drop", "school", "--yes"]).await;
    bell.source_sql("update schoolbell.deletion set noted_at = noted_at - interval '61 minutes'")
        .await;
    delete(&bell, "9").await;
    bell.drain().await;
    assert_eq!(mirrored(&bell).await, 6);
    assert_eq!(bell.source_count("select count(*) from schoolbell.deletion").await, 1);
}

#[tokio::test]
async fn a_share_of_the_rows_is_of_those_that_were_there_and_one_row_may_always_go() {
    let bell = with_schools(&deleting_schools("{ rows = 1000, share = 0.1 }"), 20).await;
    delete(&bell, "1").await;
    bell.drain().await;
    delete(&bell, "2").await;
    bell.drain().await;
    assert_eq!(mirrored(&bell).await, 18, "two of twenty are a tenth, although eighteen are left");
    delete(&bell, "3").await;
    bell.drain().await;
    assert_eq!((mirrored(&bell).await, held(&bell).await), (18, 1));

    let bell = with_schools(&deleting_schools("{ share = 0.1 }"), 2).await;
    delete(&bell, "1").await;
    bell.drain().await;
    delete(&bell, "2").await;
    bell.drain().await;
    assert_eq!((mirrored(&bell).await, held(&bell).await), (1, 1));
}

#[tokio::test]
async fn a_slip_that_deletes_everything_is_held_by_the_brake_that_no_mapping_mentions() {
    let kept = "external_id = \"editoruuid__c\"\non_delete = \"keep\"";
    let deleted = "external_id = \"editoruuid__c\"\non_delete = \"delete\"";
    let bell = with_schools(&schoolbell::mapping::BUILT_IN.replace(kept, deleted), 300).await;
    bell.source_sql("delete from schools").await;
    bell.drain().await;
    assert_eq!((mirrored(&bell).await, held(&bell).await), (300, 300));
}

#[tokio::test]
async fn a_truncate_always_meets_the_brake_and_a_second_one_releases_nothing() {
    let bell = with_schools(&deleting_schools("{ rows = 1000, share = 1 }"), 10).await;
    bell.source_sql("create table away as table schools; truncate schools").await;
    bell.drain().await;
    assert_eq!((mirrored(&bell).await, held(&bell).await), (10, 10));
    let listed = bell.run(&["parked", "list"]).await.stdout;
    assert_eq!(
        listed.matches("held by the brake: after a TRUNCATE, or a change").count(),
        10,
        "{listed}"
    );

    bell.source_sql(
        "insert into schools select * from away where name < 'School 5'; truncate roles",
    )
    .await;
    bell.source_sql(
        "truncate schools; insert into schools select * from away where name < 'School 5'",
    )
    .await;
    bell.drain().await;
    assert_eq!((mirrored(&bell).await, held(&bell).await), (10, 5));

    bell.run_ok(&["parked", "retry", "--state", "dead", "--yes"]).await;
    assert_eq!(bell.drain().await.deleted, 5);
    assert_eq!((mirrored(&bell).await, held(&bell).await), (5, 0));
}

/// One school after the other with a role each, all of them known to Salesforce; a foreign key of the target's shows the
/// order in which they leave.
async fn with_roles(mapping: &str, schools: usize) -> TestBell {
    let bell = with_schools(mapping, schools).await;
    bell.target_sql(
        "alter table salesforce.editor__c add unique (editoruuid__c); alter table salesforce.contact_editor_affiliation__c \
         add foreign key (editor__r__editoruuid__c) references salesforce.editor__c (editoruuid__c)",
    )
    .await;
    bell.salesforce_accepts_everything().await;
    bell.source_sql(
        "insert into roles (school_id, role, created_at, updated_at) select id, 2, now(), now() from schools",
    )
    .await;
    bell.drain().await;
    let roles = "select count(*) from salesforce.contact_editor_affiliation__c";
    assert_eq!(bell.target_count(roles).await, schools as i64);
    bell
}

#[tokio::test]
async fn a_right_that_is_missing_for_the_brake_parks_these_keys_and_nothing_else() {
    let bell = with_schools(&deleting_schools("{ rows = 3, share = 1 }"), 3).await;
    bell.source_sql("alter table schoolbell.deletion rename to elsewhere").await;
    delete(&bell, "1").await;
    bell.source_sql("update schools set name = 'Other' where name = 'School 2'").await;
    let tally = bell.drain().await;
    assert_eq!((tally.written, tally.deleted, tally.retrying), (1, 0, 1));
    bell.source_sql("alter table schoolbell.elsewhere rename to deletion").await;
    bell.source_sql("update schoolbell.parked set due_at = now()").await;
    assert_eq!(bell.drain().await.deleted, 1);
}

#[tokio::test]
async fn children_leave_first_also_when_all_are_released_at_once_and_take_many_batches() {
    let mut bell = with_roles(&deleting_both("{ rows = 0 }", "{ rows = 0 }"), 20).await;
    // Schools are due before their roles.
    bell.source_sql("delete from schools").await;
    bell.drain().await;
    bell.source_sql("delete from roles").await;
    bell.drain().await;
    assert_eq!(held(&bell).await, 40);

    bell.run_ok(&["parked", "retry", "--all", "--yes"]).await;
    bell.source_sql(
        "update schoolbell.parked set due_at = now() - interval '1 hour' where object = 'school'",
    )
    .await;
    bell.pace.batch_changes = 3;
    let tally = bell.drain().await;
    assert_eq!((tally.deleted, tally.dead, tally.retrying), (40, 0, 0));
    assert_eq!((mirrored(&bell).await, held(&bell).await), (0, 0));
}

#[tokio::test]
async fn while_children_are_held_their_parents_stay_and_a_parent_s_brake_holds_no_child() {
    let bell = with_roles(&deleting_both("{ rows = 100, share = 1 }", "{ rows = 0 }"), 3).await;
    bell.source_sql("delete from roles where id = (select min(id) from roles)").await;
    bell.drain().await;
    delete(&bell, "1,2").await;
    bell.drain().await;
    assert_eq!((mirrored(&bell).await, held(&bell).await), (3, 3));

    // In one batch, and in one after the other, of which the first is not acknowledged yet.
    for changes in [100, 1] {
        let mapping = deleting_both("{ rows = 100, share = 1 }", "{ rows = 0 }");
        let mut bell = with_roles(&mapping, 3).await;
        bell.pace.batch_changes = changes;
        bell.source_sql(
            "delete from roles where id = (select max(id) from roles); delete from schools",
        )
        .await;
        bell.drain().await;
        assert_eq!((mirrored(&bell).await, held(&bell).await), (3, 4));
    }

    let bell = with_roles(&deleting_both("{ rows = 0 }", "{ rows = 100, share = 1 }"), 3).await;
    bell.source_sql("delete from roles; delete from schools").await;
    assert_eq!(bell.drain().await.deleted, 3);
    assert_eq!((mirrored(&bell).await, held(&bell).await), (3, 3));
}

#[tokio::test]
async fn a_deletion_is_noted_before_it_is_made() {
    let mut bell = with_schools(&deleting_schools("{ rows = 2, share = 1 }"), 5).await;
    let noted = "select object || ' ' || rows from schoolbell.deletion";
    let holder = bell.target_session().await;
    holder.batch_execute("begin; select from salesforce.editor__c for update").await.unwrap();
    bell.service_starts();
    delete(&bell, "1").await;
    eventually("it is noted", || async {
        let noted = bell.source_texts(noted).await;
        if noted == ["school 1"] { Ok(()) } else { Err(noted) }
    })
    .await;
    assert_eq!(mirrored(&bell).await, 5);

    holder.batch_execute("rollback").await.unwrap();
    bell.target_becomes("select count(*)::text from salesforce.editor__c", &["4"]).await;
    bell.caught_up().await;
    assert_eq!(bell.source_texts(noted).await, ["school 1"], "once");
}

#[tokio::test]
async fn a_deletion_that_is_refused_does_not_count() {
    let bell = with_schools(&deleting_schools("{ rows = 2, share = 1 }"), 5).await;
    bell.target_sql(
        "create function salesforce.refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$; \
         create trigger refuse before delete on salesforce.editor__c for each row execute function salesforce.refuse()",
    )
    .await;
    delete(&bell, "1").await;
    assert_eq!(bell.drain().await.dead, 1);
    assert_eq!(held(&bell).await, 0, "it was refused, not held");
    assert_eq!(bell.source_count("select count(*) from schoolbell.deletion").await, 0);
}

#[tokio::test]
async fn rows_that_are_kept_are_counted_and_listed() {
    let bell = with_schools(schoolbell::mapping::BUILT_IN, 5).await;
    delete(&bell, "2,4").await;
    bell.drain().await;
    let verified = bell.run(&["verify", "school", "--kept"]).await;
    assert_eq!(verified.code, 0, "{verified}");
    for school in [2, 4] {
        let line = format!(
            "school a0000000-0000-4000-8000-00000000000{school} stays although its source is gone\n"
        );
        assert!(verified.stdout.contains(&line), "{verified}");
    }
    let report: serde_json::Value =
        serde_json::from_str(&bell.run_ok(&["verify", "school", "--kept", "--json"]).await)
            .unwrap();
    assert_eq!(report["objects"][0]["kept"], 2);
    assert_eq!(report["findings"].as_array().unwrap().len(), 2);
    assert_eq!(report["findings"][0]["what"], "kept");

    // Nothing is fixed about them, and without the flag they are only counted.
    let repaired = bell.run_ok(&["verify", "school", "--kept", "--repair"]).await;
    assert!(!repaired.contains("WRITTEN"), "{repaired}");
    assert!(!bell.run_ok(&["verify", "school"]).await.contains("stays"));
    assert_eq!(mirrored(&bell).await, 5);
}
