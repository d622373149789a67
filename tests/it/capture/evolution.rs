//! A mapping that changes on a live system: what `migrate` says of it, what it notes, and whose resyncs are carried out.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::load::stretched;
use crate::support::program::Program;
use crate::support::{SCHOOL_NAMES, TestBell, eventually};

const ROLES: &str = r#"
[object.role]
source = "roles"
key = "id"
target = "contact_editor_affiliation__c"
external_id = "affiliation_id__c"

[object.role.fields]
editor__r__editoruuid__c = "school_id"
"#;
/// Appended to SCHOOL_NAMES.
const TOWN: &str = "editormunicipality__c = \"municipality\"\n";

const NOTED: &str = "select content from schoolbell.mapping";
const REPLAYS: &str =
    "select concat_ws(' ', object, state, mapping is not null) from schoolbell.resync order by id";
const TOWNS: &str = "select coalesce(editormunicipality__c, 'none') from salesforce.editor__c";

fn with_town() -> String {
    format!("{SCHOOL_NAMES}{TOWN}")
}

/// Two schools in the target, as a mapping of names has them, and nothing left to do.
async fn with_names() -> TestBell {
    let mut bell = TestBell::bare().await;
    bell.use_mapping(SCHOOL_NAMES).await;
    for name in ["Acme", "Bond"] {
        bell.insert_school(name).await;
    }
    bell.drain().await;
    bell
}

async fn migrate(bell: &TestBell, mapping: &str, arguments: &[&str]) -> String {
    let file = bell.mapping_file(mapping);
    let arguments = [&["migrate", "--mapping", file.to_str().unwrap()], arguments].concat();
    // The same in each run, so that it can be compared.
    let said = bell.run_ok(&arguments).await.replace(file.to_str().unwrap(), "NEW");
    let lines = said.lines().map(|line| match line.split_once("since the mapping of ") {
        Some((before, _)) => format!("{before}since the mapping of THEN:"),
        None => line.to_string(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn at_first_only_the_resync_is_named_and_at_the_second_time_nothing_is_said() {
    let bell = TestBell::bare().await;

    let first = migrate(&bell, SCHOOL_NAMES, &[]).await;
    let then = bell.source_texts("select migrated_at::text from schoolbell.mapping").await;
    assert_eq!(bell.source_texts(NOTED).await, [SCHOOL_NAMES]);
    let file = bell.mapping_file(SCHOOL_NAMES);
    let program = Program::new(&["migrate"])
        .env("DATABASE_URL", &bell.source_url())
        .env("SCHOOLBELL_MAPPING", file.to_str().unwrap());
    program.run().await;
    let renamed = bell.source_texts("select migrated_at::text from schoolbell.mapping").await;
    let third = program.run().await;

    assert!(first.starts_with("migrated V1__outbox\n"), "{first}");
    let end = "notify mode: doorbell\ntriggers of public.schools: up to date\n\
               to write the rows that exist already: schoolbell resync --mapping NEW";
    assert!(first.ends_with(end), "{first}");
    assert_ne!(renamed, then, "the file has another name");
    assert_eq!(third.stdout, "nothing to do: schema and triggers are up to date\n", "{third}");
    let at_last = bell.source_texts("select migrated_at::text from schoolbell.mapping").await;
    assert_eq!(at_last, renamed);
}

#[tokio::test]
async fn a_changed_mapping_is_told_with_what_it_means_and_noted_for_the_next_time() {
    let bell = with_names().await;
    let wider = format!("{}{ROLES}", with_town());

    let said = migrate(&bell, &wider, &[]).await;
    let again = migrate(&bell, &wider, &[]).await;
    let back = migrate(&bell, &format!("# Another comment\n{SCHOOL_NAMES}{ROLES}"), &[]).await;

    assert_eq!(
        said,
        "since the mapping of THEN:\n  \
         role: is new: its rows are written by a resync\n  \
         school: editormunicipality__c = \"municipality\" is new: rows that exist get it by a resync\n\
         triggers of public.roles: missing; watched from now on: id, school_id\n\
         triggers of public.roles: up to date\n\
         triggers of public.schools: outdated; watched from now on: municipality\n\
         triggers of public.schools: up to date\n\
         reload the service (SIGHUP, or a restart); then rows that exist are made right by: \
         schoolbell resync role school --mapping NEW"
    );
    assert_eq!(again, "nothing to do: schema and triggers are up to date");
    assert_eq!(
        back,
        "since the mapping of THEN:\n  \
         school: editormunicipality__c is gone: it keeps its values in the target\n\
         triggers of public.schools: outdated; no longer watched: municipality\n\
         triggers of public.schools: up to date"
    );
    assert_eq!(
        bell.source_texts(NOTED).await,
        [format!("# Another comment\n{SCHOOL_NAMES}{ROLES}")]
    );
    let said = migrate(&bell, &format!("{SCHOOL_NAMES}{ROLES}"), &[]).await;
    assert_eq!(
        said, "nothing to do: schema and triggers are up to date",
        "a comment means nothing"
    );
    assert_eq!(bell.source_texts(NOTED).await, [format!("{SCHOOL_NAMES}{ROLES}")]);
}

#[tokio::test]
async fn triggers_are_renewed_with_the_reason_table_by_table() {
    let bell = with_names().await;
    bell.source_sql(
        "alter table schools disable trigger schoolbell_update; drop trigger schoolbell_insert on schools",
    )
    .await;

    let said = migrate(&bell, SCHOOL_NAMES, &[]).await;

    assert_eq!(
        said,
        "triggers of public.schools: schoolbell_insert missing; schoolbell_update not enabled always\n\
         triggers of public.schools: up to date"
    );
}

#[tokio::test]
async fn a_dry_run_of_a_change_is_sql_that_leaves_the_same_behind() {
    let (by_hand, migrated) = (with_names().await, with_names().await);
    // Text that could end a comment or a literal, or be taken for a placeholder.
    let filter = "filter = \"\"\"name <> 'it''s {file} $1 \\\\'\nand true\"\"\"\ntarget =";
    let wider = format!("{}{ROLES}", with_town()).replacen("target =", filter, 1);
    for bell in [&by_hand, &migrated] {
        // Asked for with a mapping that is not the one to come.
        let file = bell.mapping_file(SCHOOL_NAMES);
        let file = file.to_str().unwrap();
        bell.run_ok(&["resync", "--detach", "--mapping", file]).await;
    }
    let state = "select content from schoolbell.mapping union all \
                 select concat_ws(' ', object, state, mapping) from schoolbell.resync union all \
                 select concat_ws(' ', tgrelid::regclass, tgname, obj_description(oid, 'pg_trigger')) \
                 from pg_trigger where not tgisinternal order by 1";
    let before = by_hand.source_texts(state).await;

    let sql = migrate(&by_hand, &wider, &["--dry-run"]).await;
    assert_eq!(by_hand.source_texts(state).await, before);
    by_hand.source_sql(&sql.replace("NEW'", "m.toml'")).await;
    migrate(&migrated, &wider, &[]).await;

    for part in ["\n--   school: filter = ", "\n--   role: is new: ", "\n-- reload the service"] {
        assert!(sql.contains(part), "{part}: {sql}");
    }
    assert_eq!(by_hand.source_texts(state).await, migrated.source_texts(state).await);
    assert_eq!(by_hand.source_texts(NOTED).await, std::slice::from_ref(&wider));
    assert_eq!(by_hand.source_texts(REPLAYS).await, ["school queued f"]);
    let nothing = migrate(&by_hand, &wider, &[]).await;
    assert_eq!(nothing, "nothing to do: schema and triggers are up to date");
}

#[tokio::test]
async fn of_a_dropped_object_it_is_counted_what_nobody_looks_at_any_more() {
    let mut bell = TestBell::bare().await;
    bell.use_mapping(&format!("{SCHOOL_NAMES}{ROLES}")).await;
    let school = bell.insert_school("Acme").await;
    bell.insert_role(&school, 1).await;
    bell.insert_role(&school, 2).await;
    bell.source_sql("insert into schoolbell.parked (object, key, state, reason) values ('role', 'a', 'dead', 'test')").await;

    let said = migrate(&bell, SCHOOL_NAMES, &[]).await;

    let told = [
        "  role: is dropped: its rows in salesforce.contact_editor_affiliation__c stay as they are",
        "  role: 2 pending changes that only the former mapping applies: `schoolbell run --drain` with that; or to \
         forget them: delete from schoolbell.change where concerns = 'role' or concerns is null and source_table = \
         'public.roles';",
        "  role: 1 parked key that nothing uses any longer: `schoolbell parked drop role`",
        "triggers of public.roles: not needed; no longer watched: id, school_id",
    ];
    for line in told {
        assert!(said.lines().any(|said| said == line), "{line}\n{said}");
    }
    // The printed advice works.
    let delete = told[1].split_once("forget them: ").unwrap().1;
    bell.source_sql(delete).await;
    bell.run_ok(&["parked", "drop", "role", "--yes"]).await;
    let left = "select source_table from schoolbell.change";
    assert_eq!(bell.source_texts(left).await, ["public.schools"]);
    assert!(bell.parked().await.is_empty());
}

/// Two objects of a table: what is recorded for both is still applied for the one that stays.
#[tokio::test]
async fn changes_that_another_object_is_read_from_are_not_called_orphaned() {
    let mut bell = TestBell::bare().await;
    let people = "[object.person]\nsource = \"schools\"\nkey = \"creator_id\"\nwinner = { order = \"id\" }\n\
                  target = \"contact\"\nexternal_id = \"pi_accounts_unique_id__c\"\nupdate_only = true\n\
                  [object.person.fields]\neditoragreetouxcontact__c = \"creator_agree_to_ux_contact\"\n";
    bell.use_mapping(&format!("{SCHOOL_NAMES}{people}")).await;
    bell.insert_school("Acme").await;
    bell.source_sql("update schools set creator_agree_to_ux_contact = true").await;
    let concerned = "select coalesce(concerns, 'all') from schoolbell.change order by id";
    assert_eq!(bell.source_texts(concerned).await, ["all", "person"]);

    let said = migrate(&bell, SCHOOL_NAMES, &[]).await;

    assert!(said.contains("person: 1 pending change that only"), "{said}");
    assert!(said.contains("where concerns = 'person';"), "{said}");
}

#[tokio::test]
async fn a_mapping_that_this_program_cannot_read_is_said_and_is_no_hindrance() {
    let bell = with_names().await;
    bell.source_sql("update schoolbell.mapping set file = 'later.toml', content = 'version = 2'")
        .await;

    let said = migrate(&bell, &with_town(), &["--resync"]).await;

    let told = "(later.toml) cannot be read by this program, so what this one changes is not known: version: is 2";
    assert!(said.contains(told), "{said}");
    assert!(said.contains("triggers of public.schools: outdated\n"), "{said}");
    assert!(said.ends_with("nothing to resync: what this mapping changes is not known; `schoolbell resync` resyncs \
                            everything"), "{said}");
    assert_eq!(bell.source_texts(NOTED).await, [with_town()]);
}

/// A `migrate` that follows an interrupted one says the same.
#[tokio::test]
async fn a_mapping_is_noted_only_when_everything_is_installed() {
    let bell = with_names().await;
    bell.source_sql(
        "create function refuse() returns event_trigger language plpgsql as $$begin raise 'not now'; end$$; \
         create event trigger refuse on ddl_command_end when tag in ('CREATE TRIGGER') execute function refuse()",
    )
    .await;
    let file = bell.mapping_file(&with_town());
    let failed = bell.run(&["migrate", "--resync", "--mapping", file.to_str().unwrap()]).await;
    assert_eq!(failed.code, 2, "{failed}");
    // The message is the event trigger's own.
    let reason =
        "a trigger or function raised an error; its message is in the server's log (P0001)";
    assert!(failed.stderr.contains(reason), "{failed}");
    assert_eq!(bell.source_texts(NOTED).await, [SCHOOL_NAMES]);
    assert_eq!(bell.source_texts(REPLAYS).await, [""; 0]);
    bell.source_sql("drop event trigger refuse").await;

    let said = migrate(&bell, &with_town(), &["--resync"]).await;

    assert!(said.contains("editormunicipality__c = \"municipality\" is new"), "{said}");
    assert_eq!(bell.source_texts(NOTED).await, [with_town()]);
    assert_eq!(bell.source_texts(REPLAYS).await, ["school queued t"]);
}

#[tokio::test]
async fn resyncs_that_are_stored_at_once_are_carried_out_by_the_new_mapping_and_not_by_the_old() {
    let mut bell = with_names().await;
    bell.service_starts();
    bell.asleep().await;

    let said = migrate(&bell, &with_town(), &["--resync"]).await;
    assert!(
        said.ends_with(
            "stored as 1: a resync of school, for a service with this mapping; `schoolbell status` shows how far it is"
        ),
        "{said}"
    );
    let passed_over = "select count(*) from schoolbell.resync where passed_over_at is not null";
    eventually("the old service has passed it over", || async {
        match bell.source_count(passed_over).await {
            1 => Ok(()),
            found => Err(found),
        }
    })
    .await;
    // A resync behind it that the service can carry out is not held up.
    let old = bell.mapping_file(SCHOOL_NAMES);
    bell.target_sql("update salesforce.editor__c set name = 'Wrong'").await;
    let arguments = ["resync", "--mapping", old.to_str().unwrap()];
    let resynced =
        tokio::time::timeout(stretched(Duration::from_secs(20)), bell.run_ok(&arguments)).await;
    assert!(resynced.is_ok(), "it waits for the one before it");
    let names = "select name from salesforce.editor__c order by 1";
    assert_eq!(bell.target_texts(names).await, ["Acme", "Bond"]);
    assert_eq!(bell.source_texts(REPLAYS).await, ["school queued t", "school done t"]);
    assert_eq!(bell.target_texts(TOWNS).await, ["none", "none"]);

    let new = bell.mapping_file(&with_town());
    let status = bell.run(&["status", "--mapping", new.to_str().unwrap()]).await;
    let json = bell.run(&["status", "--json", "--mapping", new.to_str().unwrap()]).await;
    assert_eq!(status.code, 1, "{status}");
    let line = "resync     school 0 of 2 (0 %), waits for a service with the mapping it was asked for with\n";
    assert!(status.stdout.contains(line), "{status}");
    assert!(
        status.stdout.starts_with("now        A resync of school waits for a service with"),
        "{status}"
    );
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(report["headline"]["level"], "attention", "{json}");
    assert!(report["resyncs"][0]["passed_over_at"].is_string(), "{json}");

    bell.service_stops().await;
    bell.mapping = schoolbell::mapping::Mapping::load(Some(&new)).unwrap();
    bell.service_starts();
    bell.caught_up().await;
    assert_eq!(bell.target_texts(TOWNS).await, ["Town", "Town"]);
    assert_eq!(bell.source_count(passed_over).await, 0);
    let status = bell.run(&["status", "--mapping", new.to_str().unwrap()]).await;
    assert_eq!(status.code, 0, "{status}");
}

#[tokio::test]
async fn a_resync_that_the_service_cannot_carry_out_says_so_and_is_done_once_the_service_has_the_mapping()
 {
    let mut bell = with_names().await;
    bell.service_starts();
    bell.asleep().await;
    let new = bell.mapping_file(&with_town());
    let new = new.to_str().unwrap();
    bell.run_ok(&["migrate", "--mapping", new]).await;

    let mut resync = Program::new(&["resync", "--mapping", new])
        .env("DATABASE_URL", &bell.source_url())
        .env("SALESFORCE_CONNECT_URL", &bell.target_url())
        .env("SALESFORCE_ENABLED", "true")
        .spawn();
    let mut said = BufReader::new(resync.stderr.take().unwrap()).lines();
    let telling = async {
        loop {
            let line = said.next_line().await.unwrap().expect("it says why it waits");
            if line.starts_with("the service works with another mapping of school than this one (")
            {
                break line;
            }
        }
    };
    let told = tokio::time::timeout(stretched(Duration::from_secs(20)), telling).await.unwrap();
    assert!(told.ends_with("so the resync waits until it has taken this one"), "{told}");
    assert!(resync.try_wait().unwrap().is_none(), "it has ended");
    assert_eq!(bell.target_texts(TOWNS).await, ["none", "none"]);
    bell.service_stops().await;
    bell.mapping = schoolbell::mapping::Mapping::load(Some(new.as_ref())).unwrap();
    bell.service_starts();

    assert!(resync.wait().await.unwrap().success());
    assert_eq!(bell.target_texts(TOWNS).await, ["Town", "Town"]);
}

/// The service with the former mapping continues with it, and so does the one with the new.
#[tokio::test]
async fn a_resync_of_the_former_mapping_is_not_left_behind_by_the_new_one() {
    let mut bell = with_names().await;
    let old = bell.mapping_file(SCHOOL_NAMES);
    bell.run_ok(&["resync", "--detach", "--mapping", old.to_str().unwrap()]).await;

    let said = migrate(&bell, &with_town(), &["--resync"]).await;
    assert!(
        said.contains("left to whichever mapping the service has: 1 resync of another one"),
        "{said}"
    );
    // The second is not the first that continues: rows before its position would lack the field.
    assert_eq!(bell.source_texts(REPLAYS).await, ["school queued f", "school queued t"]);

    bell.drain().await;
    assert_eq!(bell.source_texts(REPLAYS).await, ["school done f", "school queued t"]);
    let new = bell.mapping_file(&with_town());
    bell.mapping = schoolbell::mapping::Mapping::load(Some(&new)).unwrap();
    bell.drain().await;
    assert_eq!(bell.source_texts(REPLAYS).await, ["school done f", "school done t"]);
    assert_eq!(bell.target_texts(TOWNS).await, ["Town", "Town"]);
}

#[tokio::test]
async fn a_resync_of_an_object_that_the_service_does_not_have_waits_unless_any_mapping_will_do() {
    let mut bell = with_names().await;
    migrate(&bell, &format!("{SCHOOL_NAMES}{ROLES}"), &["--resync"]).await;
    bell.drain().await;
    assert_eq!(bell.source_texts(REPLAYS).await, ["role queued t"]);

    // The mapping without it is what the triggers are installed for again.
    migrate(&bell, SCHOOL_NAMES, &[]).await;
    bell.drain().await;

    assert_eq!(bell.source_texts(REPLAYS).await, ["role failed f"]);
    let reason = "select reason from schoolbell.resync";
    assert_eq!(bell.source_texts(reason).await, ["the mapping has no object role"]);
    bell.service_starts();
    bell.caught_up().await;
}

#[tokio::test]
async fn at_the_first_time_every_object_may_be_resynced_at_once() {
    let bell = TestBell::bare().await;
    bell.insert_school("Before").await;

    let said = migrate(&bell, &format!("{SCHOOL_NAMES}{ROLES}"), &["--resync"]).await;
    assert!(said.contains("stored as 1, 2: a resync of role, school, for"), "{said}");
    let file = bell.mapping_file(&format!("{SCHOOL_NAMES}{ROLES}"));
    bell.run_ok(&["run", "--drain", "--mapping", file.to_str().unwrap()]).await;

    let names = "select name from salesforce.editor__c";
    assert_eq!(bell.target_texts(names).await, ["Before"]);
}
