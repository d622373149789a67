//! Bad input gets one clear sentence with the reason and the next step, and loses nothing.

use crate::support::TestBell;
use crate::support::program::Program;

use super::{assert_refused, program};

#[tokio::test]
async fn a_missing_schema_is_refused_with_migrate_as_the_remedy() {
    let bell = TestBell::bare().await;
    for command in [
        &["run"][..],
        &["run", "--drain"],
        &["resync"],
        &["resync", "--dry-run"],
        &["status"],
        &["status", "--json"],
        &["parked", "list"],
    ] {
        let ended = bell.run(command).await;

        assert_refused(
            &ended,
            &["the source database has no schema schoolbell; run `schoolbell migrate` first"],
        );
    }
}

#[tokio::test]
async fn a_target_that_does_not_fit_the_mapping_is_refused_by_object_and_field() {
    let damages: [(&str, &[&str]); 5] = [
        (
            "alter table salesforce.editor__c rename to editor",
            &[
                "object school: target: ",
                "no table salesforce.editor__c",
                "map it in Heroku Connect",
            ],
        ),
        (
            "alter table salesforce.editor__c rename postcode__c to postalcode__c",
            &["object school: postcode__c: ", "no column postcode__c; did you mean postalcode__c?"],
        ),
        (
            "alter table salesforce.contact_editor_affiliation__c drop affiliation_id__c",
            &["object role: external_id: ", "no column affiliation_id__c"],
        ),
        (
            "alter table salesforce.editor__c alter verifiedat__c type integer using null",
            &[
                "object school: verifiedat__c: ",
                "timestamp without time zone, the column is integer",
                "sql = ",
            ],
        ),
        (
            "alter table salesforce.contact drop sfid",
            &["object contact: target: ", "has no column sfid"],
        ),
    ];
    for (damage, parts) in damages {
        let bell = TestBell::installed().await;
        bell.target_sql(damage).await;

        for command in [&["run"][..], &["run", "--drain"], &["resync"]] {
            let ended = bell.run(command).await;

            assert_refused(&ended, parts);
            assert_refused(&ended, &["built-in mapping:"]);
        }
        let check = bell.run(&["mapping", "--check"]).await;
        assert_eq!(check.code, 2, "{check}");
        assert!(check.stdout.starts_with("built-in mapping:"), "{check}");
        for part in parts {
            assert!(check.stdout.contains(part), "{part:?} is missing: {check}");
        }
    }
}

#[tokio::test]
async fn a_mapping_file_that_is_missing_broken_or_names_unknown_things_is_refused_with_file_and_line()
 {
    let bell = TestBell::installed().await;
    let absent = Program::new(&["mapping", "--mapping", "/no/such/file.toml"]).run().await;
    assert_refused(&absent, &["/no/such/file.toml: cannot read the file: No such file"]);
    let cases = [
        ("version = \n", vec![":1:11: string values must be quoted"]),
        (
            "version = 1\n[object.school]\nsource = \"schools\"\nkee = \"id\"\n",
            vec![":4: object school: kee: unknown key; did you mean key?"],
        ),
        ("version = 1\n", vec![": names no object; begin one with [object.NAME]"]),
        ("version = 2\n", vec![":1: version: is 2, but this program reads version 1"]),
    ];
    for (content, parts) in cases {
        let file = bell.mapping_file(content);
        for command in
            [&["run"][..], &["migrate"], &["resync"], &["status"], &["doctor"], &["mapping"]]
        {
            let flag = bell.run(&[command, &["--mapping", file.to_str().unwrap()]].concat()).await;
            let variable = program(&bell, command)
                .env("SCHOOLBELL_MAPPING", file.to_str().unwrap())
                .run()
                .await;

            for ended in [flag, variable] {
                assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
                assert!(
                    ended.stderr.starts_with(&format!("schoolbell: {}:", file.display())),
                    "{ended}"
                );
                assert!(!ended.stderr.contains("panicked"), "{ended}");
                for part in &parts {
                    assert!(ended.stderr.contains(part), "{part:?} is missing: {ended}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_object_or_time_is_refused() {
    let bell = TestBell::installed().await;
    let cases: [(&[&str], &str); 4] = [
        (&["resync", "pupil"], "the mapping has no object pupil; it has contact, school, role"),
        (
            &["resync", "--since", "yesterday-ish"],
            "use 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 2h or 3d",
        ),
        (&["resync", "--key", "1"], "--key needs exactly one object"),
        (&["resync", "school", "role", "--key", "1"], "--key needs exactly one object"),
    ];
    for (command, sentence) in cases {
        assert_refused(&bell.run(command).await, &[sentence]);
    }
}

#[tokio::test]
async fn what_cannot_be_parsed_ends_with_2_and_says_where_help_is() {
    for arguments in [
        &["ring"][..],
        &[],
        &["run", "--drian"],
        &["migrate", "--notify", "loudly"],
        &["parked"],
        &["resync", "--limit", "0"],
        &["completions", "tcsh"],
        &["status", "--log-format", "xml"],
    ] {
        let ended = Program::new(arguments).run().await;

        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
        assert!(ended.stderr.contains("--help"), "{ended}");
    }
}
