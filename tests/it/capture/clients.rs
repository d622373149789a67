//! Every committed write reaches the target, whichever client made it.

use futures_util::SinkExt;

use crate::support::{TestBell, eventually};

const INSERT_THREE: &str = "insert into schools (name, address_line_1, municipality, country_code, website, created_at, \
    updated_at) select 'School ' || n, 'Road', 'Town', 'GB', 'w', now(), now() from generate_series(1, 3) n";

/// The target has the schools of the source, no more and no less, and each of their values.
async fn all_is_right(bell: &TestBell, schools: usize) {
    bell.caught_up().await;
    let wanted = bell.source_texts("select id::text from schools order by id").await;
    assert_eq!(wanted.len(), schools);
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, wanted);
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn single_statements() {
    let bell = TestBell::that_deletes().await;

    let school = bell.insert_school("Acme").await;
    let gone = bell.insert_school("Gone").await;
    bell.insert_role(&school, 2).await;
    all_is_right(&bell, 2).await;
    bell.source_sql(&format!("update schools set name = 'Beta' where id = '{school}'")).await;
    all_is_right(&bell, 2).await;
    bell.source_sql(&format!("delete from schools where id = '{gone}'")).await;

    all_is_right(&bell, 1).await;
}

#[tokio::test]
async fn bulk_statements() {
    let bell = TestBell::that_deletes().await;

    bell.source_sql(INSERT_THREE).await;
    all_is_right(&bell, 3).await;
    bell.source_sql("update schools set name = name || ' renamed', rejected_at = now()").await;
    all_is_right(&bell, 3).await;
    bell.source_sql("delete from schools where name like '%2%' or name like '%3%'").await;
    all_is_right(&bell, 1).await;
    bell.source_sql("truncate schools").await;
    bell.released(1).await;

    all_is_right(&bell, 0).await;
}

#[tokio::test]
async fn copy() {
    let bell = TestBell::that_deletes().await;

    let sink = bell
        .source
        .copy_in::<_, bytes::Bytes>(
            "copy schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) from stdin",
        )
        .await
        .unwrap();
    let mut sink = std::pin::pin!(sink);
    for name in ["One", "Two"] {
        let line = format!("{name}\tRoad\tTown\tGB\tw\t2026-01-01\t2026-01-01\n");
        sink.send(line.into()).await.unwrap();
    }
    sink.close().await.unwrap();

    all_is_right(&bell, 2).await;
}

#[tokio::test]
async fn a_session_in_replica_role() {
    let bell = TestBell::that_deletes().await;

    bell.source_sql("set session_replication_role = replica").await;
    bell.source_sql(INSERT_THREE).await;
    all_is_right(&bell, 3).await;
    bell.source_sql("update schools set website = 'https://new.example'").await;
    all_is_right(&bell, 3).await;
    bell.source_sql("delete from schools where name like '%2%'").await;
    all_is_right(&bell, 2).await;
    bell.source_sql("truncate schools").await;
    bell.released(2).await;

    all_is_right(&bell, 0).await;
}

#[tokio::test]
async fn a_logical_replication_subscription() {
    // A cluster of its own: a replication slot waits for every transaction that runs, also other tests'.
    let mut bell = TestBell::in_a_cluster_of_its_own(&["wal_level = logical"]).await;
    bell.service_stops().await;
    bell.use_mapping(&crate::support::deleting_mapping()).await;
    bell.service_starts();
    bell.cluster().create_database("upstream", None).await.unwrap();
    let upstream = bell.cluster().connect("upstream").await.unwrap();
    schoolbell::demo::stand_in::install_application(&upstream).await.unwrap();
    let insert = "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
                  values ('S', 'R', 'T', 'GB', 'w', now(), now())";
    upstream
        .batch_execute(&format!("create publication p for table schools; {insert}"))
        .await
        .unwrap();
    // Publisher and subscriber are one server: the slot must be there before, or it waits for the subscription.
    upstream
        .batch_execute("select pg_create_logical_replication_slot('s', 'pgoutput')")
        .await
        .unwrap();
    let url = bell.cluster().url("upstream");
    bell.source_sql(&format!(
        "create subscription s connection '{url}' publication p with (create_slot = false, slot_name = 's')"
    ))
    .await;

    let all = "select coalesce(string_agg(s::text, ';' order by id), '') from schools s";
    let replicated = |wanted: usize, what: &'static str| {
        let (bell, upstream) = (&bell, &upstream);
        async move {
            upstream.batch_execute(what).await.unwrap();
            let there = crate::support::texts(upstream, all).await;
            eventually(what, || async {
                let here = bell.source_texts(all).await;
                if here == there { Ok(()) } else { Err(here) }
            })
            .await;
            if what.starts_with("truncate") {
                bell.released(1).await;
            }
            all_is_right(bell, wanted).await;
        }
    };
    replicated(2, insert).await;
    replicated(2, "update schools set website = 'https://new.example'").await;
    replicated(1, "delete from schools where id = (select min(id::text)::uuid from schools)").await;
    replicated(0, "truncate schools").await;
    bell.source_sql("drop subscription s").await;
}

#[tokio::test]
async fn savepoints() {
    let bell = TestBell::that_deletes().await;
    let stays = bell.insert_school("Stays").await;

    bell.source_sql("begin").await;
    let kept = bell.insert_school("Kept").await;
    bell.source_sql("savepoint s").await;
    bell.insert_school("Undone").await;
    bell.source_sql("delete from schools where name = 'Stays'").await;
    bell.source_sql("rollback to savepoint s; savepoint t").await;
    let also_kept = bell.insert_school("Also kept").await;
    bell.source_sql("update schools set name = 'Stays, renamed' where name = 'Stays'").await;
    bell.source_sql("release savepoint t; commit").await;

    all_is_right(&bell, 3).await;
    let mut wanted = [stays, kept, also_kept];
    wanted.sort();
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, wanted);
}

#[tokio::test]
async fn rollbacks_change_nothing() {
    let bell = TestBell::start().await;
    bell.insert_school("Acme").await;
    bell.caught_up().await;
    let writes = bell.salesforce_writes().await;

    bell.source_sql("begin; update schools set name = 'Undone'; rollback").await;
    bell.source_sql(&format!("begin; {INSERT_THREE}; rollback")).await;

    all_is_right(&bell, 1).await;
    assert_eq!(bell.salesforce_writes().await, writes);
}

#[tokio::test]
async fn repeatable_read_and_serializable_transactions() {
    let bell = TestBell::that_deletes().await;

    for (level, left) in [("repeatable read", 2), ("serializable", 4)] {
        bell.source_sql(&format!("begin isolation level {level}; {INSERT_THREE}")).await;
        bell.source_sql("update schools set name = name || '!'").await;
        bell.source_sql("delete from schools where name = 'School 2!'; commit").await;
        all_is_right(&bell, left).await;
    }
}

#[tokio::test]
async fn a_transaction_that_commits_long_after_later_ones() {
    let bell = TestBell::start().await;
    let slow = bell.source_session().await;
    slow.batch_execute(&format!("begin; {INSERT_THREE}")).await.unwrap();

    for _ in 0..20 {
        bell.insert_school("Quick").await;
    }
    eventually("the quick ones are there", || async {
        match bell.target_count("select count(*) from salesforce.editor__c").await {
            20 => Ok(()),
            found => Err(found),
        }
    })
    .await;
    slow.batch_execute("commit").await.unwrap();

    all_is_right(&bell, 23).await;
}

#[tokio::test]
async fn a_changed_primary_key_publishes_the_new_row_and_reports_the_old() {
    let bell = TestBell::start().await;
    let old = bell.insert_school("Acme").await;
    bell.caught_up().await;
    let new = "00000000-0000-0000-0000-00000000000a";

    bell.source_sql(&format!("update schools set id = '{new}'")).await;

    bell.caught_up().await;
    let mut wanted = [old, new.to_string()];
    wanted.sort();
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, wanted);
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn source_and_target_in_one_database() {
    let mut bell = TestBell::installed().await;
    let sql = include_str!("../../../sql/stand_in/heroku_connect.sql");
    bell.source_sql(sql).await;
    bell.target_through(&bell.source_url());
    bell.target = bell.source_session().await;
    bell.service_starts();

    bell.source_sql(INSERT_THREE).await;

    all_is_right(&bell, 3).await;
}
