//! Changes of a captured table that no trigger reports: what can be captured is captured,
//! everything else is noticed, named, and answered with a resync.

use schoolbell::demo::cluster::{Options, Shutdown};

use crate::support::{HEROKU_CONNECT, TestBell, left_out};

const MAPPING: &str = "version = 1\n[object.person]\nsource = \"people\"\nkey = \"id\"\ntarget = \"person__c\"\n\
                       external_id = \"id__c\"\non_delete = \"delete\"\nbrake = { rows = 1000, share = 1.0, within = \"1d\" }\n\
                       [object.person.fields]\nname__c = { sql = \"name::text\" }\n";

/// A table of people, made by this SQL, with triggers.
async fn people(table: &str) -> TestBell {
    people_on(TestBell::bare().await, table).await
}

async fn people_on(mut bell: TestBell, table: &str) -> TestBell {
    bell.source_sql(table).await;
    bell.target_sql(&format!(
        "create table salesforce.person__c (id__c int unique, name__c varchar(80), {HEROKU_CONNECT})"
    ))
    .await;
    bell.use_mapping(MAPPING).await;
    bell
}

async fn names(bell: &TestBell) -> Vec<String> {
    bell.drain().await;
    bell.target_texts("select id__c || ' ' || name__c from salesforce.person__c order by id__c")
        .await
}

/// The same, after the brake has held this many deletions and somebody has released them: of rows that nobody has named
/// none is deleted unasked.
async fn names_after(bell: &TestBell, deletions: i64) -> Vec<String> {
    bell.drain().await;
    let held = "select count(*) from schoolbell.parked where held";
    assert_eq!(bell.source_count(held).await, deletions, "{:?}", bell.parked().await);
    bell.run_ok(&["parked", "retry", "person", "--yes"]).await;
    names(bell).await
}

async fn status(bell: &TestBell) -> String {
    let mapping = bell.mapping_file(MAPPING).display().to_string();
    bell.run(&["status", "--mapping", &mapping]).await.stdout
}

const PARTITIONED: &str = "create table people (id int primary key, name text) partition by range (id); \
                           create table people_1 partition of people for values from (0) to (10); \
                           create table people_2 partition of people for values from (10) to (20)";

#[tokio::test]
async fn partitions_that_are_truncated_detached_dropped_and_attached_are_followed() {
    let bell = people(PARTITIONED).await;
    bell.source_sql("insert into people values (1, 'a'), (11, 'b')").await;
    assert_eq!(names(&bell).await, ["1 a", "11 b"]);
    bell.source_sql("truncate people_1").await;
    assert_eq!(names_after(&bell, 1).await, ["11 b"]);

    bell.source_sql("alter table people detach partition people_2").await;
    assert!(status(&bell).await.contains("public.people: partitions or children came or went"));
    assert_eq!(names_after(&bell, 1).await, Vec::<String>::new());
    assert!(!status(&bell).await.contains("came or went"));
    // A table that is no part any more is not captured.
    bell.source_sql("update people_2 set name = 'changed'").await;
    bell.source_sql("alter table people attach partition people_2 for values from (10) to (20)")
        .await;
    assert_eq!(names(&bell).await, ["11 changed"]);
    bell.source_sql("drop table people_2").await;
    assert_eq!(names_after(&bell, 1).await, Vec::<String>::new());

    // A new one is named until it has its trigger.
    bell.source_sql("create table people_3 partition of people for values from (30) to (40)").await;
    bell.source_sql("insert into people values (31, 'c')").await;
    assert_eq!(names(&bell).await, ["31 c"]);
    let told = "trigger schoolbell_truncate_of_people on public.people_3 is missing";
    assert!(status(&bell).await.contains(told), "{}", status(&bell).await);
    migrated(&bell).await;
    assert!(!status(&bell).await.contains("is missing"));
    bell.source_sql("truncate people_3").await;
    assert_eq!(names_after(&bell, 1).await, Vec::<String>::new());
}

/// What happened to a partition between two looks, or to its triggers alone.
#[tokio::test]
async fn a_partition_that_was_away_for_a_moment_or_whose_triggers_were_disabled_is_noticed() {
    let bell = people(PARTITIONED).await;
    bell.source_sql("insert into people values (1, 'a'), (11, 'b')").await;
    assert_eq!(names(&bell).await, ["1 a", "11 b"]);

    bell.source_sql(
        "alter table people detach partition people_2; update people_2 set name = 'away'",
    )
    .await;
    bell.source_sql("alter table people attach partition people_2 for values from (10) to (20)")
        .await;
    assert!(status(&bell).await.contains("triggers were changed"), "{}", status(&bell).await);
    assert_eq!(names(&bell).await, ["1 a", "11 away"]);

    bell.source_sql(
        "alter table people_2 disable trigger schoolbell_update; update people_2 set name = 'off'",
    )
    .await;
    bell.source_sql("alter table people_2 enable always trigger schoolbell_update").await;
    assert_eq!(names(&bell).await, ["1 a", "11 off"]);

    bell.source_sql("alter table people_2 disable trigger schoolbell_update").await;
    let told = "trigger schoolbell_update on public.people is not enabled always";
    assert!(status(&bell).await.contains(told), "{}", status(&bell).await);
    let examined = examined(&bell).await;
    assert!(examined.contains(told), "{examined}");
    migrated(&bell).await;
    assert!(!status(&bell).await.contains("not enabled"), "{}", status(&bell).await);
    bell.source_sql("update people_2 set name = 'on'").await;
    assert_eq!(names(&bell).await, ["1 a", "11 on"]);
}

#[tokio::test]
async fn children_by_inheritance_are_captured_and_one_of_another_owner_is_named() {
    let bell = people(
        "create table people (id int primary key, name text); \
         create table past_people (left_at date) inherits (people); \
         create table oldest_people (primary key (id)) inherits (past_people)",
    )
    .await;
    bell.source_sql(
        "insert into people values (1, 'a'); insert into past_people values (2, 'b'); \
         insert into oldest_people values (3, 'c')",
    )
    .await;
    assert_eq!(names(&bell).await, ["1 a", "2 b", "3 c"]);
    bell.source_sql(
        "update past_people set name = upper(name); delete from oldest_people where id = 3",
    )
    .await;
    assert_eq!(names(&bell).await, ["1 a", "2 B"]);
    bell.source_sql("truncate past_people").await;
    assert_eq!(names_after(&bell, 1).await, ["1 a"]);
    assert!(
        status(&bell).await.contains("OK: ")
            || status(&bell).await.contains("no service is running")
    );

    let other = format!("other_{}", bell.source_name);
    bell.on_every_server(&format!("create role {other}")).await;
    bell.source_sql(&format!(
        "create table their_people () inherits (people); alter table their_people owner to {other}"
    ))
    .await;
    let told = format!(
        "public.their_people holds rows of public.people, and belongs to another role, {other}"
    );
    assert!(status(&bell).await.contains(&told), "{}", status(&bell).await);
    let examined = examined(&bell).await;
    assert!(examined.contains(&told), "{examined}");
    bell.source_sql("alter table their_people owner to current_user").await;
    assert!(
        status(&bell)
            .await
            .contains("schoolbell_insert_of_people on public.their_people is missing")
    );
}

/// Each rewrites values without a trigger.
#[tokio::test]
async fn columns_that_are_altered_and_values_that_are_renamed_are_resynced() {
    let bell = people(
        "create type mood as enum ('sad', 'glad'); create domain feeling as mood; \
         create table people (id int primary key, name feeling, note text)",
    )
    .await;
    bell.source_sql("insert into people values (1, 'sad')").await;
    assert_eq!(names(&bell).await, ["1 sad"]);
    bell.source_sql("alter type mood rename value 'sad' to 'low'").await;
    assert!(
        status(&bell).await.contains("public.people: altered was name"),
        "{}",
        status(&bell).await
    );
    assert_eq!(names(&bell).await, ["1 low"]);
    bell.source_sql("alter table people alter column name type text using upper(name::text)").await;
    assert_eq!(names(&bell).await, ["1 LOW"]);
    // The type is the same, and the values are others.
    bell.source_sql("alter table people alter column name type text using name || '!'").await;
    assert_eq!(names(&bell).await, ["1 LOW!"]);

    // A rewrite of the table that changes no value is no reason for a resync.
    let resyncs = "select count(*) from schoolbell.resync";
    let before = bell.source_count(resyncs).await;
    bell.source_sql("vacuum full people").await;
    bell.source_sql("analyze people").await;
    bell.source_sql("alter table people add column other int default 1").await;
    bell.source_sql("alter table people alter column note type varchar(9)").await;
    let mapping = bell.mapping_file(MAPPING).display().to_string();
    bell.run_ok(&["migrate", "--notify", "never", "--mapping", &mapping]).await;
    bell.drain().await;
    assert_eq!(bell.source_count(resyncs).await, before);
}

#[tokio::test]
async fn triggers_that_were_disabled_for_a_while_are_noticed_however_soon_they_are_enabled_again() {
    let bell = people("create table people (id int primary key, name text)").await;
    bell.source_sql("insert into people values (1, 'a')").await;
    assert_eq!(names(&bell).await, ["1 a"]);

    bell.source_sql("alter table people disable trigger all").await;
    bell.source_sql("insert into people values (2, 'b')").await;
    bell.source_sql("update people set name = 'missed' where id = 1").await;
    for trigger in ["insert", "update", "delete", "truncate"] {
        bell.source_sql(&format!("alter table people enable always trigger schoolbell_{trigger}"))
            .await;
    }
    assert!(status(&bell).await.contains("triggers were changed, or disabled for a while"));
    assert_eq!(names(&bell).await, ["1 missed", "2 b"]);

    // Also where `migrate` enables them again.
    bell.source_sql("alter table people disable trigger schoolbell_insert").await;
    bell.source_sql("insert into people values (3, 'c')").await;
    migrated(&bell).await;
    assert_eq!(names(&bell).await, ["1 missed", "2 b", "3 c"]);
}

/// A service that runs notices it, too.
#[tokio::test]
async fn a_running_service_answers_by_itself() {
    let mut bell = people(PARTITIONED).await;
    bell.pace.replan = std::time::Duration::from_millis(200);
    bell.service_starts();
    bell.source_sql("insert into people values (1, 'a')").await;
    let rows = "select name__c from salesforce.person__c";
    bell.target_becomes(rows, &["a"]).await;
    bell.source_sql("create table people_9 (id int primary key, name text)").await;
    bell.source_sql("insert into people_9 values (90, 'z')").await;
    bell.source_sql("alter table people attach partition people_9 for values from (90) to (99)")
        .await;
    bell.target_becomes(&format!("{rows} order by 1"), &["a", "z"]).await;
}

/// A table whose names are generated by the server, which keeps them or computes them again.
fn generated(kind: &str) -> String {
    format!(
        "create table people (id int primary key, first text, last text, \
         name text generated always as (first || ' ' || last) {kind})"
    )
}

async fn follows_what_a_name_is_made_of(bell: &TestBell) {
    bell.source_sql("insert into people values (1, 'Ann', 'A')").await;
    assert_eq!(names(bell).await, ["1 Ann A"]);
    bell.source_sql("update people set last = 'B'").await;
    assert_eq!(names(bell).await, ["1 Ann B"]);
    bell.source_sql("update people set first = 'Bea'").await;
    assert_eq!(names(bell).await, ["1 Bea B"]);
}

#[tokio::test]
async fn a_generated_column_is_captured() {
    let bell = people(&generated("stored")).await;
    follows_what_a_name_is_made_of(&bell).await;
}

/// Its value is computed when it is read: the trigger watches what it is computed from.
#[tokio::test]
async fn a_generated_column_that_is_virtual_is_captured() {
    let Some(programs) = left_out::programs(left_out::NEW_SERVER) else { return };
    let options = Options { programs: Some(programs), ..Options::open() };
    let bell = people_on(TestBell::in_a_cluster_with(options).await, &generated("virtual")).await;
    follows_what_a_name_is_made_of(&bell).await;
    bell.source_sql("alter table people alter column name set expression as (last)").await;
    assert_eq!(names(&bell).await, ["1 B"]);
}

async fn examined(bell: &TestBell) -> String {
    let mapping = bell.mapping_file(MAPPING).display().to_string();
    bell.run(&["doctor", "--mapping", &mapping]).await.stdout
}

async fn migrated(bell: &TestBell) -> String {
    let mapping = bell.mapping_file(MAPPING).display().to_string();
    bell.run_ok(&["migrate", "--mapping", &mapping]).await
}

/// A role that owns nothing yet.
async fn other_role(bell: &TestBell) -> String {
    let other = format!("other_{}", bell.source_name);
    bell.on_every_server(&format!("create role {other}")).await;
    bell.source_sql(&format!("grant create on schema public to {other}")).await;
    other
}

/// Of a whole table, of one with partitions, and of one with children: after `alter … owner` nothing is lost unseen, and
/// `migrate` makes it as it was.
#[tokio::test]
async fn a_table_that_gets_another_owner_is_captured_or_it_is_said_that_it_is_not() {
    const WHOLE: &str = "create table people (id int primary key, name text)";
    const CHILD: &str = "create table people (id int primary key, name text); \
                         create table people_1 () inherits (people)";
    for (table, part, goes_on) in
        [(WHOLE, "people", true), (PARTITIONED, "people_1", true), (CHILD, "people_1", false)]
    {
        let bell = people(table).await;
        bell.source_sql(&format!("insert into {part} values (1, 'a')")).await;
        assert_eq!(names(&bell).await, ["1 a"], "{part}");
        let other = other_role(&bell).await;
        bell.source_sql(&format!("alter table people owner to {other}")).await;
        if part != "people" {
            bell.source_sql(&format!("alter table {part} owner to {other}")).await;
        }

        bell.source_sql(&format!("update {part} set name = 'b'")).await;
        let changes = bell.source_count("select count(*) from schoolbell.change").await;
        assert_eq!(changes, i64::from(goes_on), "{table}");
        let status = status(&bell).await;
        assert_eq!(status.contains("Changes may be missed"), !goes_on, "{status}");
        assert!(status.contains("not its table owner's"), "{status}");
        let examined = examined(&bell).await;
        assert!(examined.contains("not its table owner's"), "{examined}");
        assert_eq!(examined.contains("changes may be missed"), !goes_on, "{examined}");

        migrated(&bell).await;
        assert_eq!(names(&bell).await, ["1 b"], "{table}");
        bell.source_sql(&format!("update {part} set name = 'c'")).await;
        assert_eq!(names(&bell).await, ["1 c"], "{table}");
        assert!(migrated(&bell).await.contains("nothing to do"), "{table}");
    }
}

/// The one function belongs to the owner of the whole table, also where its partitions have other owners.
#[tokio::test]
async fn partitions_may_have_other_owners_than_the_table_that_they_are_part_of() {
    let bell = people(PARTITIONED).await;
    let other = other_role(&bell).await;
    for table in ["people_1", "people"] {
        bell.source_sql("alter table people owner to current_user").await;
        bell.source_sql("alter table people_1 owner to current_user").await;
        bell.source_sql(&format!("alter table {table} owner to {other}")).await;
        for run in 0..3 {
            migrated(&bell).await;
            bell.source_sql("truncate people; delete from schoolbell.change").await;
            bell.source_sql("insert into people values (1, 'a'), (11, 'b')").await;
            bell.source_sql("truncate people_1; truncate people_2").await;
            let changes = bell.source_texts(
                "select operation || coalesce(keys ->> 'id', '') from schoolbell.change order by id",
            );
            let wanted = ["INSERT1", "INSERT11", "TRUNCATE", "TRUNCATE"];
            assert_eq!(changes.await, wanted, "{table} {run}");
        }
        assert!(migrated(&bell).await.contains("nothing to do"), "{table}");
        let status = status(&bell).await;
        assert!(!status.contains("owner"), "{status}");
    }
}

/// Both would have a trigger of one name.
#[tokio::test]
async fn a_partition_and_its_table_cannot_both_be_sources() {
    let bell = people(PARTITIONED).await;
    let second =
        MAPPING.split_once("[object.person]").unwrap().1.replace("object.person", "object.part");
    let second = second.replace("person__c", "part__c").replace("\"people\"", "\"people_1\"");
    let both = format!("{MAPPING}[object.part]{second}");
    bell.target_sql(&format!(
        "create table salesforce.part__c (id__c int unique, name__c varchar(80), {HEROKU_CONNECT})"
    ))
    .await;
    let file = bell.mapping_file(&both).display().to_string();
    let told = "object part: source: public.people_1 is a partition of public.people, which this mapping reads, too";
    let checked = bell.run(&["mapping", "--check", &file]).await;
    assert!(checked.stdout.contains(told) && checked.code == 2, "{checked}");
    let migrated = bell.run(&["migrate", "--mapping", &file]).await;
    assert!(migrated.stderr.contains(told) && migrated.code == 2, "{migrated}");

    // One after the other they can be, in both orders.
    let part = MAPPING.replace("\"people\"", "\"people_1\"");
    for mapping in [part.as_str(), MAPPING, part.as_str()] {
        let file = bell.mapping_file(mapping).display().to_string();
        bell.run_ok(&["migrate", "--mapping", &file]).await;
        bell.source_sql("delete from schoolbell.change; insert into people values (1, 'a')").await;
        assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 1);
        bell.source_sql("delete from people").await;
    }
}

/// As one does when a table has become too large.
#[tokio::test]
async fn a_captured_table_that_becomes_a_partition_of_one_with_its_name_is_captured_after_one_migrate()
 {
    let bell = people("create table people (id int primary key, name text)").await;
    bell.source_sql("insert into people values (1, 'a')").await;
    assert_eq!(names(&bell).await, ["1 a"]);
    let other = other_role(&bell).await;
    bell.source_sql(&format!("alter table people owner to {other}")).await;
    migrated(&bell).await;
    bell.source_sql(
        "alter table people rename to people_old; alter index people_pkey rename to people_old_pkey; \
         create table people (id int primary key, name text) partition by range (id); \
         alter table people attach partition people_old for values from (0) to (10); \
         create table people_new partition of people for values from (10) to (20)",
    )
    .await;
    assert!(status(&bell).await.contains("Changes may be missed"), "{}", status(&bell).await);
    migrated(&bell).await;
    assert!(migrated(&bell).await.contains("nothing to do"));
    bell.source_sql("update people set name = 'b'; insert into people values (11, 'c')").await;
    assert_eq!(names(&bell).await, ["1 b", "11 c"]);
}

/// A trigger that is left on a table that is no part any more loses no change.
#[tokio::test]
async fn a_trigger_that_is_left_over_is_no_missed_change() {
    let bell = people(PARTITIONED).await;
    bell.source_sql("alter table people detach partition people_2").await;
    bell.drain().await;
    let status = status(&bell).await;
    assert!(
        status.contains("trigger schoolbell_truncate_of_people on public.people_2 is not needed")
    );
    assert!(!status.contains("Changes may be missed"), "{status}");
    let examined = examined(&bell).await;
    assert!(examined.contains("no change is missed"), "{examined}");
    assert!(!examined.contains("verify --repair"), "{examined}");
    migrated(&bell).await;
    assert!(migrated(&bell).await.contains("nothing to do"));
}

/// A crash empties it, and no trigger reports that.
#[tokio::test]
async fn an_unlogged_table_is_named_and_a_crash_of_its_server_is_noticed() {
    let mut bell = people_on(
        TestBell::in_a_cluster_with(Options::open()).await,
        "create table people (id int primary key, name text) partition by range (id); \
         create unlogged table people_1 partition of people for values from (0) to (10); \
         create table people_2 partition of people for values from (10) to (20)",
    )
    .await;
    bell.source_sql("insert into people values (1, 'a'), (11, 'b')").await;
    assert_eq!(names(&bell).await, ["1 a", "11 b"]);
    let told = "public.people_1 is unlogged";
    let file = bell.mapping_file(MAPPING).display().to_string();
    assert!(bell.run(&["mapping", "--check", &file]).await.stdout.contains(told));
    assert!(bell.run(&["migrate", "--mapping", &file]).await.stderr.contains(told));
    assert!(examined(&bell).await.contains(told));

    bell.cluster().restart(Shutdown::Fast).await.unwrap();
    bell.reconnect().await;
    assert_eq!(names(&bell).await, ["1 a", "11 b"]);
    assert_eq!(bell.source_count("select count(*) from schoolbell.resync").await, 0);

    bell.cluster().restart(Shutdown::Immediate).await.unwrap();
    bell.reconnect().await;
    assert!(
        status(&bell).await.contains("public.people: the server crashed"),
        "{}",
        status(&bell).await
    );
    assert_eq!(names_after(&bell, 1).await, ["11 b"]);
    assert!(!status(&bell).await.contains("crashed"));
}
