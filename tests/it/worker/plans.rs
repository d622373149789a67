//! The service keeps the plans of its statements while tables grow. A plan that was made while every table was empty, and
//! analysed as such, still looks rows up through an index when there are a million.

use schoolbell::postgres::db::{Database, Direct};
use schoolbell::service::Ground;
use schoolbell::worker::Lane;

use crate::support::TestBell;

/// The statements of the loop about tables of ours that grow, with the types of parameters that are not cast.
const OURS: [(&str, &[(&str, &str)]); 10] = [
    ("claim", &[]),
    ("acknowledge", &[]),
    ("parked_any", &[]),
    ("parked_awaited", &[]),
    ("parked_awaited_each", &[]),
    ("parked_circles", &[]),
    ("parked_due", &[("$5", "$5::timestamptz")]),
    ("parked_reserve", &[]),
    ("parked_wake", &[]),
    ("brake_note", &[]),
];
/// What has few rows, whatever happens: a table, and the index of what the brake holds.
const SMALL: [&str; 2] = [" on pairing", " using parked_held "];

/// Statements that are planned each time, or are about all rows.
const NOT_KEPT: [&str; 4] = ["copy_table", "copy", "copy_write", "standing"];
/// The tables of both databases that grow.
const GROWING: &str = "schools, roles, schoolbell.change, schoolbell.parked, schoolbell.deletion";
const GROWING_IN_TARGET: &str =
    "salesforce.editor__c, salesforce.contact, salesforce.contact_editor_affiliation__c";

/// The plan of a statement, as it is kept.
async fn kept_plan(session: &Direct, sql: &str) -> Vec<String> {
    let places = (1..40).rev().find(|place| sql.contains(&format!("${place}"))).unwrap_or(0);
    let nulls = vec!["null"; places].join(", ");
    let nulls = if places == 0 { String::new() } else { format!("({nulls})") };
    session.rows(&format!("prepare kept as {sql}"), &[]).await.unwrap();
    let plan = session.rows(&format!("explain (costs off) execute kept{nulls}"), &[]).await;
    session.rows("deallocate kept", &[]).await.unwrap();
    plan.unwrap().iter().map(|row| row.get(0)).collect()
}

/// The steps that read all rows of a table.
fn whole_reads(plan: &[String]) -> Vec<&str> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut whole = Vec::new();
    for (place, line) in plan.iter().enumerate() {
        let step = line.trim_start().trim_start_matches("->").trim_start();
        let is_small = SMALL.iter().any(|small| step.contains(small));
        let mut below = plan[place + 1..].iter().map(|line| line.as_str());
        let mut conditions = below.by_ref().take_while(|below| {
            depth(below) > depth(line) && !below.trim_start().starts_with("->")
        });
        let looks_up = conditions.any(|line| {
            let line = line.trim_start();
            line.starts_with("Index Cond: ") || line.starts_with("TID Cond: ")
        });
        let is_scan =
            ["Seq Scan on ", "Index Scan using ", "Index Only Scan using ", "Tid Scan on "]
                .iter()
                .any(|scan| step.starts_with(scan));
        if is_scan && !looks_up && !is_small {
            whole.push(step);
        }
    }
    whole
}

#[tokio::test]
async fn plans_that_were_made_while_every_table_was_empty_still_look_rows_up() {
    let bell = TestBell::that_deletes().await;
    bell.source_sql(&format!("truncate {GROWING}; analyze")).await;
    bell.target_sql(&format!("truncate {GROWING_IN_TARGET}; analyze")).await;
    for table in GROWING.split(", ") {
        bell.source_sql(&format!("vacuum {table}")).await;
    }
    for table in GROWING_IN_TARGET.split(", ") {
        bell.target_sql(&format!("vacuum {table}")).await;
    }
    // And whatever an administrator has set for the databases.
    for setting in ["indexscan", "indexonlyscan", "bitmapscan", "tidscan", "nestloop", "hashjoin"] {
        let off = |name: &str| format!("alter database {name} set enable_{setting} = off");
        bell.source_sql(&off(&bell.source_name)).await;
        bell.target_sql(&off(&bell.target_name)).await;
    }
    let database = |url| Database::new(url, "test").unwrap().with_kept_plans();
    let source = database(bell.config().source).session().await.unwrap().direct().unwrap();
    let target = database(bell.config().target).writing_session().await.unwrap();

    let mut slow = Vec::new();
    let mut looked_at = 0;
    for (name, replaced) in OURS {
        let file = format!("{}/sql/{name}.sql", env!("CARGO_MANIFEST_DIR"));
        let mut sql = std::fs::read_to_string(file).unwrap();
        for (place, typed) in replaced {
            sql = sql.replace(place, typed);
        }
        let plan = kept_plan(&source, &sql).await;
        looked_at += 1;
        if !whole_reads(&plan).is_empty() {
            slow.push((name.to_string(), plan));
        }
    }
    let ground = Ground::check(&bell.config(), &bell.mapping).await.unwrap();
    for route in ground.routes() {
        for shown in Lane::new(route.clone()).shown() {
            let is_kept = !NOT_KEPT.contains(&shown.name.as_str());
            if !is_kept || !shown.purpose.starts_with("Target") {
                continue;
            }
            let plan = kept_plan(&target, &shown.sql).await;
            looked_at += 1;
            if !whole_reads(&plan).is_empty() {
                slow.push((format!("{} {}", route.object.name, shown.name), plan));
            }
        }
    }
    assert!(looked_at > 30, "{looked_at}");
    assert!(slow.is_empty(), "{slow:#?}");
}

/// Kinds of indexes, and whether rows are looked up through one.
const INDEXES: [(&str, bool); 9] = [
    ("create unique index one on salesforce.editor__c (editoruuid__c)", true),
    ("create index one on salesforce.editor__c (editoruuid__c desc nulls last, name)", true),
    ("create index one on salesforce.editor__c (editoruuid__c varchar_ops)", true),
    ("create index one on salesforce.editor__c (name, editoruuid__c)", false),
    ("create index one on salesforce.editor__c (lower(editoruuid__c))", false),
    ("create index one on salesforce.editor__c (editoruuid__c) where sfid is not null", false),
    ("create index one on salesforce.editor__c (editoruuid__c text_pattern_ops)", false),
    ("create index one on salesforce.editor__c using hash (editoruuid__c)", false),
    ("create index one on salesforce.editor__c using brin (editoruuid__c)", false),
];

#[tokio::test]
async fn rows_are_looked_up_only_through_an_index_with_the_column_s_own_equality_and_order() {
    let bell = TestBell::installed().await;
    bell.target_sql("drop index salesforce.hcu_idx_editor__c_editoruuid__c").await;
    let flags = async || {
        let ground = Ground::check(&bell.config(), &bell.mapping).await.unwrap();
        let school = ground.routes().find(|route| route.object.name == "school").unwrap();
        let role = ground.routes().find(|route| route.object.name == "role").unwrap();
        let parent = role.parents.iter().find(|parent| parent.object == "school").unwrap();
        (school.external_id_is_indexed, parent.is_indexed)
    };
    assert_eq!(flags().await, (false, false));
    for (create, serves) in INDEXES {
        bell.target_sql(create).await;
        assert_eq!(flags().await, (serves, serves), "{create}");
        bell.target_sql("drop index salesforce.one").await;
    }
    let other = "create index one on salesforce.editor__c (editoruuid__c collate \"POSIX\")";
    bell.target_sql(other).await;
    assert_eq!(flags().await, (false, false), "{other}");
}
