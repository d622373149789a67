//! Writing to the target: what differs and nothing else, parents first, one bad row alone.

use crate::support::{TestBell, eventually};

#[tokio::test]
async fn a_row_that_is_right_is_not_written() {
    let bell = TestBell::start().await;
    let school = bell.insert_school("Acme").await;
    bell.caught_up().await;
    bell.salesforce_accepts_everything().await;
    let writes = bell.salesforce_writes().await;

    // Captured, but the same once it is trimmed, cut to seconds and stored.
    bell.source_sql("update schools set name = '  Acme ', updated_at = '2026-01-02 03:04:05.999'")
        .await;
    bell.caught_up().await;
    bell.run_ok(&["resync", "school", "--key", &school]).await;

    assert_eq!(bell.salesforce_writes().await, writes);
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn a_value_that_salesforce_normalised_is_not_a_difference() {
    let bell = TestBell::start().await;
    bell.insert_school("Acme").await;
    bell.caught_up().await;
    bell.target_sql(
        "begin; set local xmlbinary = 'hex'; update salesforce.editor__c set name = 'Acme ', editorreference__c = '', \
         updatedat__c = updatedat__c + interval '0.5 seconds'; commit",
    )
    .await;
    let writes = bell.salesforce_writes().await;

    bell.run_ok(&["resync", "school"]).await;

    assert_eq!(bell.salesforce_writes().await, writes);
}

/// Memory must not grow with what people write into a text.
#[tokio::test]
async fn long_texts_make_batches_smaller() {
    let mut bell = TestBell::installed().await;
    bell.target_sql("alter table salesforce.editor__c alter column website__c type text").await;
    bell.source_sql(
        "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         select n, 'Road', 'Town', 'GB', repeat('x', 2000000), now(), now() from generate_series(1, 30) as n",
    )
    .await;
    bell.pace.batch_changes = 10;

    bell.drain().await;

    let written = "select count(*) from salesforce.editor__c where length(website__c) = 2000000";
    assert_eq!(bell.target_count(written).await, 30);
    // As many together as have 6 MiB, from the first batch on.
    let batches = "select max(rows) from (select count(*) as rows from salesforce.editor__c group by xmin::text) as b";
    assert_eq!(bell.target_count(batches).await, 3);
}

#[tokio::test]
async fn ten_thousand_changes_of_one_row_are_far_fewer_writes() {
    let bell = TestBell::start().await;
    let school = bell.insert_school("Acme").await;
    bell.source_sql(&format!(
        "do $$ begin for n in 1..10000 loop update schools set name = 'Name ' || n where id = '{school}'; \
         if n % 10 = 0 then commit; end if; end loop; end $$"
    ))
    .await;

    bell.caught_up().await;

    let writes = bell.salesforce_writes().await;
    assert!(writes < 1_000, "{writes} writes");
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn the_id_sequence_is_used_once_per_row_and_not_by_updates() {
    let bell = TestBell::start().await;
    for name in ["One", "Two", "Three"] {
        bell.insert_school(name).await;
        bell.caught_up().await;
    }
    for name in ["a", "b", "c", "d"] {
        bell.source_sql(&format!("update schools set name = name || '{name}'")).await;
        bell.caught_up().await;
    }
    bell.run_ok(&["resync"]).await;

    let last = bell.target_count("select last_value from salesforce.editor__c_id_seq").await;
    assert_eq!(last, 3);
}

#[tokio::test]
async fn heroku_connect_s_own_columns_are_left_alone() {
    let bell = TestBell::start().await;
    bell.insert_school("Acme").await;
    bell.caught_up().await;
    bell.target_sql(
        "begin; set local xmlbinary = 'hex'; update salesforce.editor__c set sfid = 'a01', systemmodstamp = '2020-01-01', \
         isdeleted = false, createddate = '2020-01-01'; commit",
    )
    .await;
    let own = "select concat_ws('|', id, sfid, systemmodstamp, isdeleted, createddate) from salesforce.editor__c";
    let before = bell.target_texts(own).await;

    bell.source_sql("update schools set name = 'Beta'").await;

    bell.target_becomes("select name from salesforce.editor__c", &["Beta"]).await;
    assert_eq!(bell.target_texts(own).await, before);
    let state = "select _hc_lastop || ' ' || action from salesforce.editor__c, salesforce._trigger_log \
                 order by _trigger_log.id desc limit 1";
    assert_eq!(
        bell.target_texts(state).await,
        ["PENDING UPDATE"],
        "it is a user's write, and so it is sent"
    );
}

#[tokio::test]
async fn nothing_of_ours_is_created_in_the_target() {
    let bell = TestBell::start().await;
    let objects = "select concat_ws(' ', classid::regclass, pg_describe_object(classid, objid, objsubid)) from pg_depend \
                   where classid <> 'pg_cast'::regclass and pg_describe_object(classid, objid, objsubid) !~ 'pg_temp|pg_toast' \
                   union select 'relation ' || oid::regclass from pg_class where relpersistence <> 't' order by 1";
    let before = bell.target_texts(objects).await;

    let school = bell.insert_school("Acme").await;
    bell.insert_role(&school, 1).await;
    bell.caught_up().await;
    bell.run_ok(&["resync"]).await;

    assert_eq!(bell.target_texts(objects).await, before);
}

#[tokio::test]
async fn parents_are_written_before_their_children_and_children_leave_first() {
    let mut bell = TestBell::bare().await;
    let text =
        schoolbell::mapping::BUILT_IN.replace("on_delete = \"keep\"", "on_delete = \"delete\"");
    let text = text.replace("update_only = true\non_delete = \"delete\"", "update_only = true");
    bell.use_mapping(&text).await;
    // A foreign key that Heroku Connect does not have shows the order within a batch.
    bell.target_sql(
        "alter table salesforce.editor__c add unique (editoruuid__c); alter table salesforce.contact_editor_affiliation__c \
         add foreign key (editor__r__editoruuid__c) references salesforce.editor__c (editoruuid__c)",
    )
    .await;
    let school = bell.insert_school("Acme").await;
    let role = bell.insert_role(&school, 2).await;
    bell.salesforce_has_contact(&bell.user_of(&role).await).await;
    bell.drain().await;
    bell.salesforce_accepts("editor__c", "editoruuid__c", &school).await;
    bell.drain().await;
    assert_eq!(bell.mirrored("contact_editor_affiliation__c", "affiliation_id__c").await, [role]);

    bell.source_sql("delete from roles; delete from schools").await;
    bell.drain().await;

    assert!(bell.mirrored("editor__c", "editoruuid__c").await.is_empty());
    assert!(bell.mirrored("contact_editor_affiliation__c", "affiliation_id__c").await.is_empty());
}

#[tokio::test]
async fn by_default_a_row_whose_source_is_gone_stays_and_is_counted() {
    let bell = TestBell::installed().await;
    let school = bell.insert_school("Acme").await;
    bell.drain().await;
    bell.source_sql("delete from schools").await;

    let tally = bell.drain().await;

    assert_eq!(tally.kept, 1);
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [school]);
}

#[tokio::test]
async fn a_role_that_turns_into_a_student_leaves_the_publication() {
    let bell = TestBell::installed().await;
    bell.source_sql("insert into roles (role, created_at, updated_at) values (2, now(), now())")
        .await;
    bell.drain().await;
    bell.source_sql("update roles set role = 0").await;

    let tally = bell.drain().await;

    assert_eq!(tally.kept, 1);
    let sql = "select roletype__c from salesforce.contact_editor_affiliation__c";
    assert_eq!(bell.target_texts(sql).await, ["owner"]);
}

#[tokio::test]
async fn after_a_truncate_the_rows_that_are_gone_are_found_and_those_that_came_back_stay() {
    let mut bell = TestBell::bare().await;
    let text = crate::support::deleting_mapping();
    bell.use_mapping(&text).await;
    for name in ["One", "Two", "Three"] {
        bell.insert_school(name).await;
    }
    bell.drain().await;

    bell.source_sql(
        "create table back as select * from schools where name = 'Two'; truncate schools",
    )
    .await;
    bell.source_sql("insert into schools select * from back").await;
    bell.drain().await;
    bell.released(2).await;
    bell.drain().await;

    assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, ["Two"]);
}

#[tokio::test]
async fn one_bad_row_among_thousands_holds_up_none_and_ends_dead_with_the_reason() {
    let bell = TestBell::installed().await;
    bell.target_sql(
        "alter table salesforce.editor__c add constraint no_badness check (name not like 'Bad%')",
    )
    .await;
    bell.source_sql(
        "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         select case when n % 1000 = 7 then 'Bad ' else 'Good ' end || n, 'R', 'T', 'GB', 'w', now(), now() \
         from generate_series(1, 3000) n",
    )
    .await;

    let tally = bell.drain().await;

    assert_eq!((tally.written, tally.dead), (2_997, 3));
    let parked = bell
        .source_texts("select concat_ws(' ', state, sqlstate, reason) from schoolbell.parked where state = 'dead'")
        .await;
    assert_eq!(parked.len(), 3);
    assert!(parked[0].starts_with("dead 23514 ") && parked[0].contains("no_badness"), "{parked:?}");

    bell.source_sql("update schools set name = 'Mended' where name like 'Bad%'").await;
    bell.drain().await;
    assert!(bell.parked().await.iter().all(|parked| !parked.contains("dead")));
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn a_row_that_the_source_cannot_project_is_dead_and_the_others_arrive() {
    let mut bell = TestBell::bare().await;
    let text = schoolbell::mapping::BUILT_IN.replace(
        "editorreference__c = \"reference\"",
        "editorreference__c = { sql = \"(10 / user_origin)::text\" }",
    );
    bell.use_mapping(&text).await;
    for (name, origin) in [("One", 1), ("Bad", 0), ("Two", 2)] {
        let school = bell.insert_school(name).await;
        bell.source_sql(&format!(
            "update schools set user_origin = {origin} where id = '{school}'"
        ))
        .await;
    }

    bell.drain().await;

    let names = bell.target_texts("select name from salesforce.editor__c order by 1").await;
    assert_eq!(names, ["One", "Two"], "{:?}", bell.parked().await);
    let dead =
        bell.source_texts("select sqlstate from schoolbell.parked where state = 'dead'").await;
    assert_eq!(dead, ["22012"]);
}

#[tokio::test]
async fn a_column_that_vanishes_blocks_its_object_alone_and_heals_by_itself() {
    let bell = TestBell::start().await;
    bell.asleep().await;
    bell.target_sql("alter table salesforce.editor__c rename column website__c to elsewhere").await;
    bell.insert_school("Acme").await;
    bell.source_sql("insert into roles (role, created_at, updated_at) values (2, now(), now())")
        .await;
    eventually("the school is parked", || async {
        match bell
            .source_count("select count(*) from schoolbell.parked where state = 'retrying'")
            .await
        {
            0 => Err("nothing"),
            _ => Ok(()),
        }
    })
    .await;
    let sql = "select roletype__c from salesforce.contact_editor_affiliation__c";
    bell.target_becomes(sql, &["owner"]).await;

    bell.target_sql("alter table salesforce.editor__c rename column elsewhere to website__c").await;

    bell.target_becomes("select name from salesforce.editor__c", &["Acme"]).await;
}

#[tokio::test]
async fn without_a_unique_index_on_the_external_id_everything_still_works() {
    let bell = TestBell::installed().await;
    bell.target_sql("drop index salesforce.hcu_idx_editor__c_editoruuid__c").await;
    bell.insert_school("Acme").await;
    bell.drain().await;
    bell.source_sql("update schools set name = 'Beta'").await;
    bell.drain().await;

    assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, ["Beta"]);
}
