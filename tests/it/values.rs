//! Values: how a source row looks in Salesforce.

use crate::support::TestBell;

async fn school_with(bell: &TestBell, column: &str, value: &str) -> String {
    let school = bell.insert_school("Acme").await;
    bell.source_sql(&format!("update schools set {column} = {value} where id = '{school}'")).await;
    bell.caught_up().await;
    school
}

#[tokio::test]
async fn text_is_trimmed_and_empty_text_becomes_null() {
    let bell = TestBell::start().await;

    school_with(&bell, "name", "E' \\t Acme\\u00a0\\n\\r '").await;
    bell.source_sql(
        "update schools set reference = '  ', municipality = E'\\t', address_line_1 = ''",
    )
    .await;

    bell.caught_up().await;
    let found = bell
        .target_texts("select concat_ws('|', name, editorreference__c, editormunicipality__c, addressline1__c) from salesforce.editor__c")
        .await;
    assert_eq!(found, ["Acme\u{a0}"]);
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn long_text_is_cut_by_characters_and_just_fits_with_its_ellipsis() {
    let bell = TestBell::start().await;

    school_with(&bell, "name", "repeat('ü', 80)").await;
    assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, ["ü".repeat(80)]);

    bell.source_sql("update schools set name = repeat('ü', 81)").await;
    bell.caught_up().await;
    let cut = format!("{}…", "ü".repeat(79));
    assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, [cut]);
}

#[tokio::test]
async fn a_key_is_never_cut() {
    let bell = TestBell::installed().await;
    bell.target_sql("alter table salesforce.editor__c alter column editoruuid__c type varchar(20)")
        .await;
    let school = bell.insert_school("Acme").await;

    bell.drain().await;

    assert!(bell.mirrored("editor__c", "editoruuid__c").await.is_empty());
    assert!(
        bell.parked().await.contains(&format!("school {school} dead")),
        "{:?}",
        bell.parked().await
    );
}

#[tokio::test]
async fn timestamps_are_cut_to_whole_seconds_never_rounded() {
    let bell = TestBell::start().await;

    school_with(&bell, "verified_at", "'2026-03-29 01:59:59.999999'").await;

    let found = bell.target_texts("select verifiedat__c::text from salesforce.editor__c").await;
    assert_eq!(found, ["2026-03-29 01:59:59"]);
}

#[tokio::test]
async fn timestamps_are_utc_whatever_the_server_s_time_zone() {
    let bell = TestBell::installed().await;
    for (client, name) in [(&bell.source, &bell.source_name), (&bell.target, &bell.target_name)] {
        let sql = format!("alter database {name} set timezone = 'Asia/Tokyo'");
        client.batch_execute(&sql).await.unwrap();
    }
    bell.insert_school("Acme").await;

    bell.drain().await;

    let found = bell.target_texts("select createdat__c::text from salesforce.editor__c").await;
    assert_eq!(found, ["2026-01-02 03:04:05"]);
}

#[tokio::test]
async fn the_origin_is_written_by_name_and_is_for_education_when_null() {
    let bell = TestBell::start().await;

    let mut found = Vec::new();
    school_with(&bell, "user_origin", "0").await;
    for origin in ["0", "1", "null"] {
        bell.source_sql(&format!("update schools set user_origin = {origin}")).await;
        bell.caught_up().await;
        found.extend(bell.target_texts("select userorigin__c from salesforce.editor__c").await);
    }

    assert_eq!(found, ["for_education", "experience_cs", "for_education"]);
}

#[tokio::test]
async fn a_role_is_written_by_name_and_students_are_not_published() {
    let bell = TestBell::start().await;
    for role in ["0", "1", "2"] {
        // Without references it needs no parents.
        let sql = format!(
            "insert into roles (role, created_at, updated_at) values ({role}, now(), now())"
        );
        bell.source_sql(&sql).await;
    }

    bell.caught_up().await;

    let sql = "select roletype__c from salesforce.contact_editor_affiliation__c order by 1";
    assert_eq!(bell.target_texts(sql).await, ["owner", "teacher"]);
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn the_status_is_new_at_first_and_belongs_to_salesforce_afterwards() {
    let bell = TestBell::start().await;
    bell.insert_school("Acme").await;
    bell.caught_up().await;
    assert_eq!(bell.target_texts("select status__c from salesforce.editor__c").await, ["New"]);

    bell.target_sql("update salesforce.editor__c set status__c = 'Verified'").await;
    bell.source_sql("update schools set name = 'Beta'").await;

    bell.target_becomes(
        "select name || ' ' || status__c from salesforce.editor__c",
        &["Beta Verified"],
    )
    .await;
}

#[tokio::test]
async fn columns_that_the_mapping_does_not_name_may_be_missing() {
    let bell = TestBell::bare().await;
    bell.source_sql(
        "alter table schools drop column code, drop column creator_department, \
         alter column creator_role type integer using null",
    )
    .await;
    bell.run_ok(&["migrate"]).await;
    bell.insert_school("Acme").await;

    bell.drain().await;

    bell.every_row_is_right().await;
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 1);
}

#[tokio::test]
async fn any_text_arrives_unchanged() {
    let bell = TestBell::start().await;
    let text =
        "quote ' double \" back\\slash {brace} $1 %s <tag> \u{1F514} 学校 \u{202e}rtl ; -- drop";

    let sql = "insert into schools (name, reference, address_line_1, municipality, country_code, website, created_at, \
               updated_at) values ($1, $1, $1, $1, 'GB', $1, now(), now())";
    bell.source.execute(sql, &[&text]).await.unwrap();

    bell.caught_up().await;
    let sql = "select editorreference__c from salesforce.editor__c";
    assert_eq!(bell.target_texts(sql).await, [text]);
    bell.every_row_is_right().await;
}
