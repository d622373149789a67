//! Values: how a source row looks in Salesforce.

use crate::support::{HEROKU_CONNECT, TestBell};

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
        .target_texts("select concat_ws('|', name, editorreference__c, editormunicipality__c, addressline1__c) from \
                       salesforce.editor__c")
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

/// No calendar has these times; every command tells of such a row what it can.
#[tokio::test]
async fn times_that_no_calendar_has_stop_no_report() {
    let bell = TestBell::installed().await;
    let visitor = bell.visitor().await;
    let mut schools = Vec::new();
    for time in ["infinity", "-infinity", "20000-01-01", "0044-03-15 BC"] {
        let school = bell.insert_school(time).await;
        bell.source_sql(&format!(
            "update schools set updated_at = '{time}', created_at = '{time}', verified_at = '{time}' where id = '{school}'"
        ))
        .await;
        schools.push(school);
    }
    bell.drain().await;
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 4);
    bell.source_sql("update schools set name = 'Other'").await;
    bell.source_sql("truncate schoolbell.change").await;

    for command in
        [&["status"][..], &["doctor"], &["verify"], &["resync", "--dry-run"], &["parked", "list"]]
    {
        let ended = bell.run(command).await;
        assert!(ended.code < 2 && !ended.stderr.contains("panicked"), "{ended}");
    }
    for school in &schools {
        let explained = bell.run(&["explain", "school", school]).await;
        assert!(explained.code < 2 && explained.stdout.contains("Other"), "{explained}");
    }
    let since = bell.run(&["resync", "school", "--since", "2026-01-01T00:00:00Z"]).await;
    assert_eq!(since.code, 0, "{since}");
    bell.target_becomes(
        "select count(*)::text from salesforce.editor__c where name = 'Other'",
        &["2"],
    )
    .await;
    visitor.becomes("/api/status", 200).await;
}

#[tokio::test]
async fn the_column_that_tells_when_a_row_was_changed_is_a_time_or_a_day() {
    for (sql_type, fits) in [
        ("timestamp", true),
        ("timestamp(0)", true),
        ("timestamptz", true),
        ("date", true),
        ("text", false),
        ("integer", false),
        ("time", false),
        ("daterange", false),
        ("day_of", true),
    ] {
        let bell = TestBell::bare().await;
        bell.source_sql(&format!(
            "create domain day_of as date; create table clubs (id integer primary key, name text, seen {sql_type})"
        ))
        .await;
        bell.target_sql(&format!(
            "create table salesforce.club__c ({HEROKU_CONNECT}, id__c double precision unique, name__c varchar(80))"
        ))
        .await;
        let text = "version = 1\n[object.club]\nsource = \"clubs\"\nkey = \"id\"\nsince = \"seen\"\n\
                    target = \"club__c\"\nexternal_id = \"id__c\"\n[object.club.fields]\nname__c = \"name\"\n";
        let mapping = bell.mapping_file(text).display().to_string();
        let checked = bell.run(&["mapping", "--check", &mapping]).await;
        assert_eq!(checked.code != 2, fits, "{sql_type}: {checked}");
        if !fits {
            assert!(
                checked.to_string().contains("it must tell when a row was changed"),
                "{checked}"
            );
            continue;
        }
        bell.run_ok(&["migrate", "--mapping", &mapping]).await;
        let rows = match sql_type {
            "date" | "day_of" => {
                "(1, 'One', '2026-03-04'), (2, 'Two', '2020-01-01'), (3, 'Far', '5874897-12-31')"
            }
            _ => {
                "(1, 'One', '2026-03-04 05:06:07'), (2, 'Two', '2020-01-01'), (3, 'Far', 'infinity')"
            }
        };
        bell.source_sql(&format!("insert into clubs values {rows}; truncate schoolbell.change"))
            .await;
        bell.run_ok(&["resync", "--mapping", &mapping, "--since", "2026-01-01T00:00:00Z"]).await;
        let found = bell.target_texts("select name__c from salesforce.club__c order by 1").await;
        assert_eq!(found, ["Far", "One"], "{sql_type}");
        for key in ["1", "2", "3"] {
            let explained = bell.run(&["explain", "club", key, "--mapping", &mapping]).await;
            assert!(explained.code < 2, "{sql_type}: {explained}");
        }
        let verified = bell.run(&["verify", "--mapping", &mapping]).await;
        assert_eq!(verified.code, 1, "one is missing: {verified}");
    }
}
