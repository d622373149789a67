//! `mapping` prints and checks.

use schoolbell::mapping::BUILT_IN;

use crate::support::TestBell;
use crate::support::program::Program;

use super::program;

// Mapping -------------------------------------------------------------------------------------------

#[tokio::test]
async fn mapping_prints_the_mapping_in_use_byte_for_byte() {
    let bell = TestBell::bare().await;
    let other = format!("{BUILT_IN}\n# One more line, with a tail of blanks   \n\n");
    let file = bell.mapping_file(&other);

    assert_eq!(Program::new(&["mapping"]).run().await.stdout, BUILT_IN);
    assert_eq!(bell.run_ok(&["mapping", "--mapping", file.to_str().unwrap()]).await, other);
    assert_eq!(BUILT_IN, include_str!("../../../mappings/editor-api.toml"));
}

#[tokio::test]
async fn mapping_check_goes_as_far_as_there_are_databases() {
    let bell = TestBell::bare().await;

    let alone = Program::new(&["mapping", "--check"]).run().await;
    let with_both = program(&bell, &["mapping", "--check"]).run().await;

    assert_eq!((alone.code, alone.stderr.as_str()), (0, ""), "{alone}");
    assert!(alone.stdout.contains("3 objects, sound in itself; set DATABASE_URL"), "{alone}");
    assert_eq!((with_both.code, with_both.stderr.as_str()), (0, ""), "{with_both}");
    assert!(with_both.stdout.contains("3 objects fit both databases"), "{with_both}");
}

#[tokio::test]
async fn a_missing_unique_index_is_reported_with_the_sql_that_adds_it_and_hinders_nothing() {
    let bell = TestBell::installed().await;
    bell.target_sql("drop index salesforce.hcu_idx_editor__c_editoruuid__c").await;
    let school = bell.insert_school("Acme").await;

    let check = bell.run(&["mapping", "--check"]).await;
    let run = bell.run(&["run", "--drain"]).await;

    assert_eq!(check.code, 1, "{check}");
    assert!(
        check
            .stdout
            .contains("object school: external_id: salesforce.editor__c has no unique index"),
        "{check}"
    );
    assert_eq!(run.code, 0, "{run}");
    assert!(run.stderr.contains("has no unique index on editoruuid__c"), "{run}");
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [school]);
    let remedy = check.stdout.lines().find_map(|line| line.split_once(", or: ")).unwrap().1;
    bell.target_sql(remedy).await;
    assert_eq!(bell.run(&["mapping", "--check"]).await.code, 0);
}
