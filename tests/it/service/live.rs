//! Tables, triggers and mappings that change while the service runs: a mismatch is reported by
//! name, everything else continues, nothing is lost, and all rows are right when both fit again.

use std::time::Duration;

use schoolbell::mapping::BUILT_IN;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::log::Log;
use crate::support::program::{Program, signal};
use crate::support::{TestBell, eventually};

const NAMES: &str = "select name from salesforce.editor__c order by name";

/// A service at work that looks this often at whether its mapping still fits. With `HARDLY_EVER` a test would wait in vain
/// for the clock: it looks when something makes it doubt.
async fn watchful(log: &Log, replan: Duration) -> TestBell {
    let mut bell = TestBell::installed().await;
    bell.pace.replan = replan;
    bell.service_starts();
    says(log, "working as the writer").await;
    bell
}

const OFTEN: Duration = Duration::from_millis(50);
const HARDLY_EVER: Duration = Duration::from_hours(1);

async fn says(log: &Log, what: &str) -> String {
    let sentence = format!("it says {what:?}");
    eventually(&sentence, || async { log.lines(what).pop().ok_or(log.lines("")) }).await
}

/// Nothing is parked any more, and every row is right.
async fn heals(bell: &TestBell) {
    eventually("nothing is parked", || async {
        let parked = bell.parked().await;
        let refused: Vec<String> =
            parked.into_iter().filter(|key| !key.contains(" waiting ")).collect();
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    })
    .await;
    bell.caught_up().await;
}

#[tokio::test]
async fn a_target_column_that_is_made_shorter_makes_no_row_dead_and_texts_are_cut_to_it() {
    let log = Log::listen();
    let bell = watchful(&log, HARDLY_EVER).await;
    bell.insert_school("Short").await;
    bell.caught_up().await;
    bell.target_sql("alter table salesforce.editor__c alter column name type varchar(10)").await;

    bell.insert_school("A name that is longer than ten").await;

    bell.target_becomes(NAMES, &["A name th…", "Short"]).await;
    heals(&bell).await;
    let told = says(&log, "planned again").await;
    assert!(
        told.contains("school.name was character varying(80) and is character varying(10)"),
        "{told}"
    );
    let dead = "select count(*) from schoolbell.parked where state = 'dead'";
    assert_eq!(bell.source_count(dead).await, 0);
}

#[tokio::test]
async fn a_value_that_does_not_fit_a_table_that_is_as_it_was_is_dead_all_the_same() {
    let log = Log::listen();
    let bell = watchful(&log, HARDLY_EVER).await;
    bell.target_sql(
        "create function salesforce.refuse() returns trigger language plpgsql as $$ begin \
         raise exception 'too long' using errcode = '22001'; end $$; \
         create trigger refuse before insert on salesforce.editor__c for each row execute function salesforce.refuse()",
    )
    .await;
    let school = bell.insert_school("Acme").await;
    eventually("it is dead", || async {
        let parked = bell.parked().await;
        if parked.contains(&format!("school {school} dead")) { Ok(()) } else { Err(parked) }
    })
    .await;
}

#[tokio::test]
async fn a_target_column_that_is_made_longer_is_noticed_and_filled() {
    let log = Log::listen();
    let bell = watchful(&log, OFTEN).await;
    let long = "A".repeat(100);
    bell.insert_school(&long).await;
    bell.target_becomes(NAMES, &[&format!("{}…", "A".repeat(79))]).await;
    bell.target_sql("alter table salesforce.editor__c alter column name type varchar(200)").await;
    says(&log, "school.name was character varying(80) and is character varying(200)").await;

    bell.source_sql("update schools set updated_at = updated_at + interval '1 minute'").await;
    bell.target_becomes(NAMES, &[&long]).await;
}

#[tokio::test]
async fn a_target_column_that_is_gone_is_told_by_name_the_rest_goes_on_and_it_heals_with_the_column_or_the_mapping()
 {
    let log = Log::listen();
    let mut bell = watchful(&log, HARDLY_EVER).await;
    let creator = "c0000000-0000-4000-8000-000000000001";
    bell.salesforce_has_contact(creator).await;
    let old = bell.insert_school("Old").await;
    bell.source_sql(&format!("update schools set creator_id = '{creator}'")).await;
    bell.caught_up().await;
    bell.target_sql("alter table salesforce.editor__c drop column website__c").await;

    // The contact is read from the same table and is still written.
    bell.source_sql("update schools set website = 'new', creator_agree_to_ux_contact = true").await;
    bell.target_becomes(
        "select editoragreetouxcontact__c::text from salesforce.contact",
        &["true"],
    )
    .await;
    let told =
        says(&log, "object school: website__c: salesforce.editor__c has no column website__c")
            .await;
    assert!(
        told.contains("WARN") && told.contains("are parked and retried; other rows are written"),
        "{told}"
    );
    assert_eq!(bell.parked().await, [format!("school {old} retrying")]);
    assert_eq!(log.lines("has no column website__c").len(), 1, "once is enough");
    let status = bell.run(&["status"]).await;
    assert_eq!(status.code, 1);
    assert!(status.stdout.contains("The mapping does not fit, built-in mapping:"), "{status}");
    assert!(status.stdout.contains("salesforce.editor__c has no column website__c"), "{status}");

    // A command about another object does not report that this one does not fit.
    let contact = bell.run(&["explain", "contact", creator]).await;
    assert!(contact.stdout.contains("target     salesforce.contact id "), "{contact}");
    bell.run_ok(&["verify", "contact"]).await;
    let asked = bell.run(&["explain", "school", &old]).await;
    assert_eq!(asked.code, 2);
    assert!(asked.stderr.contains("salesforce.editor__c has no column website__c"), "{asked}");
    // Not the clock, but the mapping that fits again, makes it due.
    bell.source_sql("update schoolbell.parked set due_at = now() + interval '1 hour'").await;
    // A mapping without the column, as SIGHUP gives it.
    let line = "website__c = \"website\"\n";
    assert!(BUILT_IN.contains(line));
    bell.service_gets(&BUILT_IN.replace(line, ""));
    says(&log, "now using this mapping").await;
    heals(&bell).await;
    bell.source_sql("update schools set name = 'New'").await;
    bell.target_becomes(NAMES, &["New"]).await;

    // Heroku Connect has the column again, and the mapping from before is given back.
    bell.target_sql("alter table salesforce.editor__c add column website__c varchar(255)").await;
    bell.service_gets(BUILT_IN);
    says(&log, "school.website__c is new").await;
    bell.source_sql("update schools set name = 'Newer'").await;
    bell.target_becomes("select website__c from salesforce.editor__c", &["new"]).await;
}

#[tokio::test]
async fn a_target_table_that_is_away_for_a_while_costs_nothing_but_time() {
    let log = Log::listen();
    let bell = watchful(&log, OFTEN).await;
    bell.target_sql("alter table salesforce.editor__c rename to elsewhere").await;
    let school = bell.insert_school("Acme").await;
    says(&log, "the target database has no table salesforce.editor__c").await;
    eventually("it is parked", || async {
        let parked = bell.parked().await;
        if parked.contains(&format!("school {school} retrying")) { Ok(()) } else { Err(parked) }
    })
    .await;
    // Not the clock, but the table that is back, makes it due.
    bell.source_sql(
        "update schoolbell.parked set due_at = now() + interval '1 hour' where object = 'school'",
    )
    .await;
    bell.target_sql("alter table salesforce.elsewhere rename to editor__c").await;
    bell.target_becomes(NAMES, &["Acme"]).await;
    heals(&bell).await;
    assert_eq!(log.lines("has no table salesforce.editor__c").len(), 1, "once is enough");
}

#[tokio::test]
async fn a_source_column_that_is_renamed_is_told_by_name_with_the_new_one_and_heals_with_the_mapping()
 {
    let log = Log::listen();
    let mut bell = watchful(&log, HARDLY_EVER).await;
    let school = bell.insert_school("Old").await;
    let role = bell.insert_role(&school, 2).await;
    bell.salesforce_has_contact(&bell.user_of(&role).await).await;
    bell.caught_up().await;
    bell.salesforce_accepts("editor__c", "editoruuid__c", &school).await;
    bell.source_sql("alter table schools rename column website to websites").await;

    bell.source_sql("update schools set name = 'New'").await;
    let told = says(&log, "public.schools has no column website").await;
    assert!(
        told.contains("object school: website__c: ") && told.contains("did you mean websites?"),
        "{told}"
    );
    // Roles continue.
    bell.source_sql("update roles set role = 1").await;
    bell.target_becomes(
        "select roletype__c from salesforce.contact_editor_affiliation__c",
        &["teacher"],
    )
    .await;

    let mended = BUILT_IN.replace("\"website\"", "\"websites\"");
    bell.service_gets(&mended);
    heals(&bell).await;
    bell.target_becomes(NAMES, &["New"]).await;
    // The triggers still name the former column, and that is reported until `migrate` has been run.
    says(&log, "trigger schoolbell_update on public.schools is outdated: another mapping or release was migrated")
        .await;
    let file = bell.mapping_file(&mended);
    bell.run_ok(&["migrate", "--mapping", file.to_str().unwrap()]).await;
    bell.source_sql("update schools set websites = 'w2'").await;
    bell.target_becomes("select website__c from salesforce.editor__c", &["w2"]).await;
}

#[tokio::test]
async fn capture_that_is_changed_under_a_running_service_is_told() {
    let log = Log::listen();
    let bell = watchful(&log, OFTEN).await;
    bell.insert_school("Acme").await;
    bell.caught_up().await;
    assert!(log.lines("WARN").is_empty());

    bell.source_sql("drop trigger schoolbell_update on schools").await;
    says(&log, "trigger schoolbell_update on public.schools is missing: changes may be missed; run `schoolbell migrate`")
        .await;
    bell.run_ok(&["migrate"]).await;
    // A mapping that captures less, migrated before it is deployed.
    let file = bell.mapping_file(&BUILT_IN.replace("website__c = \"website\"\n", ""));
    bell.run_ok(&["migrate", "--mapping", file.to_str().unwrap()]).await;
    says(&log, "trigger schoolbell_update on public.schools is outdated").await;
}

#[tokio::test]
async fn a_mapping_that_does_not_fit_yet_waits_for_the_tables_and_the_one_before_works_on() {
    let log = Log::listen();
    let mut bell = watchful(&log, OFTEN).await;
    let more = BUILT_IN
        .replace("website__c = \"website\"\n", "website__c = \"website\"\ncode__c = \"code\"\n");
    bell.service_gets(&more);
    let told = says(&log, "salesforce.editor__c has no column code__c").await;
    assert!(
        told.contains("test.toml:")
            && told.contains("the mapping from before stays in use until this one fits"),
        "{told}"
    );
    bell.insert_school("Acme").await;
    bell.target_becomes(NAMES, &["Acme"]).await;

    bell.target_sql("alter table salesforce.editor__c add column code__c varchar(40)").await;
    says(&log, "school.code__c is new").await;
    bell.source_sql("update schools set code = '12', updated_at = now() + interval '1 minute'")
        .await;
    bell.target_becomes("select code__c from salesforce.editor__c", &["12"]).await;
}

#[tokio::test]
async fn many_rows_at_a_time_are_written_by_another_mapping_on_the_same_session() {
    let log = Log::listen();
    let mut bell = watchful(&log, HARDLY_EVER).await;
    let many = "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
                select 'School', 'Road', 'Town', 'GB', 'w', now(), now() from generate_series(1, 600) n";
    bell.source_sql(many).await;
    bell.target_becomes(
        "select count(*)::text from salesforce.editor__c where name = 'School'",
        &["600"],
    )
    .await;

    let column = "website__c = \"website\"\n";
    bell.service_gets(&BUILT_IN.replace(column, ""));
    says(&log, "school.website__c is gone").await;
    bell.source_sql("update schools set name = 'Academy'").await;

    let academies = "select count(*)::text from salesforce.editor__c where name = 'Academy'";
    bell.target_becomes(academies, &["600"]).await;
    heals(&bell).await;
    // Each way of writing has its own table for the rows on their way.
    let tables =
        "select count(*) from pg_class where relname like 'schoolbell%' and relpersistence = 't'";
    assert_eq!(bell.target_count(tables).await, 2);
}

#[tokio::test]
async fn after_an_interruption_with_a_mapping_that_no_longer_fits_the_rest_goes_on() {
    let log = Log::listen();
    let mut bell = watchful(&log, HARDLY_EVER).await;
    let creator = "c0000000-0000-4000-8000-000000000001";
    bell.salesforce_has_contact(creator).await;
    bell.insert_school("Acme").await;
    bell.caught_up().await;
    bell.target_sql("alter table salesforce.editor__c drop column website__c").await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'schoolbell%' \
               and datname = current_database()";
    assert!(bell.source_count(cut).await + bell.target_count(cut).await > 0);
    says(&log, "has no column website__c").await;
    bell.source_sql(&format!(
        "update schools set creator_id = '{creator}', creator_agree_to_ux_contact = true"
    ))
    .await;
    bell.target_becomes(
        "select editoragreetouxcontact__c::text from salesforce.contact",
        &["true"],
    )
    .await;
    _ = bell.service_stops().await;
}

/// Of the program itself: a process that is sent SIGHUP reads its file again.
#[tokio::test]
async fn sighup_makes_the_program_read_its_file_anew_and_a_broken_one_changes_nothing() {
    let bell = TestBell::installed().await;
    let file = bell.mapping_file(BUILT_IN);
    let program = Program::new(&["run", "--mapping", file.to_str().unwrap()])
        .env("DATABASE_URL", &bell.source_url())
        .env("HEROKUCONNECT_URL", &bell.target_url())
        .env("SALESFORCE_ENABLED", "true");
    let mut child = program.spawn();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut says = async |what: &str| {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(what) {
                return;
            }
        }
        panic!("it ended without saying {what:?}");
    };
    says("working as the writer").await;

    std::fs::write(&file, "version = 1\n[object.school]\nsource = \"schools\"\n").unwrap();
    signal(&child, "HUP");
    says("object school: key: is missing; the mapping from before stays in use").await;
    bell.insert_school("Acme").await;
    let websites = "select website__c from salesforce.editor__c order by name";
    bell.target_becomes(websites, &["https://school.example"]).await;

    let shouting = "website__c = { sql = \"upper(website)\" }";
    std::fs::write(&file, BUILT_IN.replace("website__c = \"website\"", shouting)).unwrap();
    signal(&child, "HUP");
    says("now using this mapping").await;
    bell.insert_school("Beta").await;
    bell.target_becomes(websites, &["https://school.example", "HTTPS://SCHOOL.EXAMPLE"]).await;
    signal(&child, "TERM");
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

/// Rows are looked up one by one where there is an index, which takes for ever without it.
#[tokio::test]
async fn an_index_that_is_dropped_under_way_holds_up_the_work_for_one_attempt_only() {
    let log = Log::listen();
    let bell = watchful(&log, HARDLY_EVER).await;
    bell.source_sql(
        "insert into schools (name, address_line_1, municipality, country_code, website, creator_id, created_at, \
         updated_at) select 'School ' || n, 'Road', 'Town', 'GB', 'w', gen_random_uuid(), now(), now() \
         from generate_series(1, 20000) as n",
    )
    .await;
    bell.caught_up().await;
    bell.target_sql("drop index salesforce.hcu_idx_editor__c_editoruuid__c").await;

    bell.source_sql("update schools set name = name || '!'").await;

    bell.caught_up().await;
    let renamed = "select count(*) from salesforce.editor__c where name like '%!'";
    assert_eq!(bell.target_count(renamed).await, 20_000);
}
