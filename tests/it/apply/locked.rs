//! Target rows that another session has locked: Heroku Connect itself writes them, many in one
//! statement, in an order of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use schoolbell::demo::cluster::Options;

use crate::support::{TestBell, deleting_mapping};

const ROWS: i64 = 600;
/// As Heroku Connect does when Salesforce has accepted rows, in an order that the server chooses.
const RIVAL: &str = "update salesforce.editor__c as t set systemmodstamp = now(), sfid = coalesce(t.sfid, 'S' || t.id) \
                     from (select id from salesforce.editor__c order by random() offset 0) as r where t.id = r.id";
const LEFT: &str = "select count(*) from schoolbell.parked where object = 'school'";

async fn drained(bell: &TestBell) {
    loop {
        bell.drain().await;
        if bell.source_count(LEFT).await == 0 {
            return;
        }
        bell.source_sql("update schoolbell.parked set due_at = now()").await;
    }
}

/// What the server has said of deadlocks.
fn deadlocks(bell: &TestBell) -> Vec<String> {
    let log = std::fs::read(bell.cluster().folder().join("server.log")).unwrap();
    let log = String::from_utf8_lossy(&log);
    log.lines().filter(|line| line.contains("deadlock detected")).map(str::to_string).collect()
}

#[tokio::test]
async fn no_order_in_which_heroku_connect_writes_rows_ends_in_a_deadlock() {
    let settings = vec!["deadlock_timeout = '10ms'".to_string()];
    let mut bell = TestBell::in_a_cluster_with(Options { settings, ..Options::open() }).await;
    bell.use_mapping(&deleting_mapping()).await;
    bell.source_sql(&format!(
        "insert into schools (name, address_line_1, municipality, country_code, creator_id, website, created_at, updated_at) \
         select 'S' || g, 'x', 'y', 'GB', gen_random_uuid(), 'z', now(), now() from generate_series(1, {ROWS}) g"
    ))
    .await;
    drained(&bell).await;
    let enough = Arc::new(AtomicBool::new(false));
    let (session, told) = (bell.target_session().await, enough.clone());
    let rival = tokio::spawn(async move {
        let mut statements = 0_u64;
        while !told.load(Ordering::Relaxed) {
            session.batch_execute(RIVAL).await?;
            statements += 1;
        }
        Ok::<u64, tokio_postgres::Error>(statements)
    });
    for round in 0..5 {
        let change = match round {
            // Some leave, too.
            3 => "delete from schools where name like '%7'".to_string(),
            _ => format!("update schools set municipality = 'round {round}'"),
        };
        bell.source_sql(&change).await;
        drained(&bell).await;
    }
    enough.store(true, Ordering::Relaxed);
    let statements = rival.await.unwrap().expect("its transaction was cancelled");
    assert!(statements > 0);
    assert_eq!(deadlocks(&bell), Vec::<String>::new());
    let wrong = "select count(*) from salesforce.editor__c where editormunicipality__c <> 'round 4' or name like '%7'";
    assert_eq!(bell.target_count(wrong).await, 0);
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, ROWS * 9 / 10);
}

#[tokio::test]
async fn a_row_that_stays_locked_holds_up_neither_its_batch_nor_those_after_it() {
    let bell = TestBell::that_deletes().await;
    for name in ["Held", "Held too", "Leaves", "Free"] {
        bell.insert_school(name).await;
    }
    bell.caught_up().await;
    let holder = bell.target_session().await;
    holder
        .batch_execute("begin; select from salesforce.editor__c where name <> 'Free' for update")
        .await
        .unwrap();
    let towns = "select name || ' ' || editormunicipality__c from salesforce.editor__c order by 1";
    for town in ["Here", "There"] {
        bell.source_sql(&format!("update schools set municipality = '{town}'")).await;
        bell.source_sql("delete from schools where name = 'Leaves'").await;
        let free = format!("Free {town}");
        bell.target_becomes(towns, &[&free, "Held Town", "Held too Town", "Leaves Town"]).await;
    }
    let told = "select distinct concat_ws(' ', state, sqlstate, reason) from schoolbell.parked where object = 'school'";
    assert_eq!(
        bell.source_texts(told).await,
        ["retrying 55P03 another transaction has the target row locked"]
    );
    holder.batch_execute("rollback").await.unwrap();
    bell.target_becomes(towns, &["Free There", "Held There", "Held too There"]).await;
    bell.caught_up().await;
}
