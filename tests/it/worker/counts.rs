//! What the work costs, in counts that are the same on every machine and every PostgreSQL.
//!
//! Round trips and statements are counted at the wire, rows by the servers. When a count goes down,
//! lower its constant; when one goes up, every batch pays for it.

use std::time::{Duration, Instant};

use schoolbell::demo::stand_in;

use crate::support::books::Books;
use crate::support::proxy::Proxy;
use crate::support::wire::Traffic;
use crate::support::{TestBell, eventually, texts};

/// A batch on the source. Round trips: the claim with the due keys; the projection; begin, acknowledge, commit.
const BATCH_ON_SOURCE: Traffic = Traffic { round_trips: 5, statements: 6 };
/// A batch of few rows on the target: begin, the rows and commit, sent together.
const FEW_ON_TARGET: Traffic = Traffic { round_trips: 1, statements: 3 };
/// A batch of many rows on the target: begin and commit, and: create the temporary table, prepare COPY, begin it, send
/// the rows, write. Preparing and sending are no statements of their own.
const MANY_ON_TARGET: Traffic = Traffic { round_trips: 7, statements: 5 };
/// A page of a resync on the source. Round trips: the claim with the due keys; the resync; the page's rows; begin,
/// acknowledge, progress, commit.
const PAGE_ON_SOURCE: Traffic = Traffic { round_trips: 7, statements: 8 };
/// A page of a resync on the target: begin, its object's rows and commit, sent together.
const PAGE_ON_TARGET: Traffic = Traffic { round_trips: 1, statements: 3 };
/// A sleeping service's look at the source: the claim with the due keys; the resyncs.
const LOOK_ROUND_TRIPS: u64 = 2;
/// A school whose website changed is read for itself, and not for its creator's contact.
const READS_OF_A_SCHOOL: i64 = 1;
/// A mirrored row that differs is read to compare it, to lock it unless somebody has it, and to update it.
const READS_OF_A_DIFFERING_ROW: i64 = 3;
/// A change is read to claim it and to acknowledge it.
const READS_OF_A_CHANGE: i64 = 2;
/// A plan may read a row or two of a table before it learns that it needs none of them.
const A_FEW: i64 = 4;

/// This many schools, whose creators have contacts, all mirrored already.
async fn mirrored(schools: i32) -> TestBell {
    let mut bell = TestBell::installed().await;
    // On a slow machine each batch would be followed by a look for a resync.
    bell.pace.resync_look = Duration::from_mins(10);
    let (source, target) = (bell.source_session().await, bell.target_session().await);
    let insert = "insert into schools (name, address_line_1, municipality, country_code, website, creator_id, \
                  created_at, updated_at) select n, 'Road', 'Town', 'GB', 'w', md5(n::text)::uuid, now(), now() \
                  from generate_series(1, $1) as n returning creator_id::text";
    let rows = source.query(insert, &[&schools]).await.unwrap();
    let creators: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    stand_in::create_contacts(&target, &creators).await.unwrap();
    bell.drain().await;
    for session in [source, target] {
        session.batch_execute("vacuum analyze").await.unwrap();
    }
    bell
}

/// Runs SQL on the source in a session that ends with it, so that it is counted by then.
async fn run(bell: &TestBell, sql: &str) {
    bell.source_session().await.batch_execute(sql).await.unwrap();
}

/// This many transactions that each change this many schools, always the same ones.
async fn change(bell: &TestBell, schools: i64, transactions: i64) {
    let update =
        format!("update schools set website = website || '.' where name::int <= {schools}");
    run(
        bell,
        &format!("do $$ begin for n in 1..{transactions} loop {update}; commit; end loop; end $$"),
    )
    .await;
}

/// What the service asks the source and the target from now on is counted.
async fn counted(bell: &mut TestBell) -> [Proxy; 2] {
    let source = Proxy::start(bell.cluster().port()).await;
    let target = Proxy::start(bell.target_cluster().port()).await;
    bell.source_through(&source.url(&bell.source_name));
    bell.target_through(&target.url(&bell.target_name));
    [source, target]
}

/// What a drain asks the source and the target.
async fn drain_traffic(bell: &mut TestBell) -> [Traffic; 2] {
    let proxies = counted(bell).await;
    bell.drain().await;
    proxies.map(|proxy| proxy.traffic())
}

/// What each of this many steps costs that one drain took more than the other. Rounded, because a drain has costs of its
/// own that vary by one or two: how its first statements meet, and a sign of life now and then.
fn each(steps: u64, with: [Traffic; 2], without: [Traffic; 2]) -> [Traffic; 2] {
    let share = |with: u64, without: u64| (with - without + steps / 2) / steps;
    [0, 1].map(|side| Traffic {
        round_trips: share(with[side].round_trips, without[side].round_trips),
        statements: share(with[side].statements, without[side].statements),
    })
}

#[tokio::test]
async fn a_batch_takes_the_same_round_trips_and_statements_whatever_its_size() {
    let mut bell = mirrored(1_000).await;
    for (size, batches, on_target) in
        [(1, 20, FEW_ON_TARGET), (400, 10, FEW_ON_TARGET), (1_000, 8, MANY_ON_TARGET)]
    {
        bell.pace.batch_changes = size;
        change(&bell, size, 1).await;
        let one = drain_traffic(&mut bell).await;
        change(&bell, size, 1 + batches).await;
        let many = drain_traffic(&mut bell).await;

        let batch = each(batches as u64, many, one);
        assert_eq!(batch, [BATCH_ON_SOURCE, on_target], "a batch of {size} changes");
    }
}

#[tokio::test]
async fn a_page_of_a_resync_takes_the_same_round_trips_and_statements_whatever_its_size() {
    let mut bell = mirrored(2_000).await;
    // No page is quick enough for the next one to be larger.
    bell.pace.page_time = Duration::ZERO;
    let mut resyncs = Vec::new();
    for rows in [20, 400] {
        bell.pace.page_rows = rows;
        run(&bell, "insert into schoolbell.resync (object) values ('school')").await;
        let proxies = counted(&mut bell).await;
        let books = Books::of(&bell, bell.drain()).await;
        // The progress of a resync is stored with each page.
        resyncs.push((books.written("resync") as u64, proxies.map(|proxy| proxy.traffic())));
    }

    let [(many, with), (few, without)] = resyncs[..] else { panic!("two resyncs") };
    assert_eq!(each(many - few, with, without), [PAGE_ON_SOURCE, PAGE_ON_TARGET]);
}

#[tokio::test]
async fn a_thousand_changes_of_one_row_are_one_read_and_one_write() {
    let bell = mirrored(2_000).await;
    change(&bell, 1, 1_000).await;

    let books = Books::of(&bell, bell.drain()).await;

    let read = books.read("schools");
    assert!(read <= READS_OF_A_SCHOOL + A_FEW, "{read} schools read");
    assert_eq!([books.written("editor__c"), books.written("_trigger_log")], [1, 1]);
}

#[tokio::test]
async fn rows_that_differ_are_written_once_each_and_rows_that_are_right_never() {
    let bell = mirrored(2_000).await;

    change(&bell, 1_000, 2).await;
    let different = Books::of(&bell, bell.drain()).await;
    run(&bell, "update schools set website = website || ' '").await;
    let right = Books::of(&bell, bell.drain()).await;

    assert_eq!([different.written("editor__c"), different.written("_trigger_log")], [1_000, 1_000]);
    assert_eq!([right.written("editor__c"), right.written("_trigger_log")], [0, 0]);
    assert_eq!(right.written("change"), 2_000, "each of them was looked at");
}

#[tokio::test]
async fn of_thousands_of_rows_only_those_that_changed_are_read() {
    let bell = mirrored(5_000).await;
    change(&bell, 10, 1).await;

    let books = Books::of(&bell, bell.drain()).await;

    let read = ["schools", "editor__c", "contact"].map(|table| books.read(table));
    let most = [READS_OF_A_SCHOOL, READS_OF_A_DIFFERING_ROW, 0].map(|each| 10 * each + A_FEW);
    assert!(
        read.iter().zip(most).all(|(&read, most)| read <= most),
        "{read:?} instead of {most:?}"
    );
}

#[tokio::test]
async fn a_backlog_is_read_once_to_claim_it_and_once_to_acknowledge_it() {
    let mut bell = mirrored(2_000).await;
    bell.pace.batch_changes = 200;
    change(&bell, 2_000, 3).await;
    run(&bell, "analyze schoolbell.change").await;

    let books = Books::of(&bell, bell.drain()).await;

    let read = books.read("change");
    assert!(read <= 6_000 * READS_OF_A_CHANGE + A_FEW, "{read} changes read");
    assert_eq!(books.written("change"), 6_000);
}

#[tokio::test]
async fn a_captured_write_adds_one_row_to_the_outbox_and_touches_no_other_table() {
    let bell = mirrored(10).await;
    for write in [
        "update schools set website = 'x' where name = '7'",
        "delete from schools where name = '7'",
    ] {
        let writer = bell.source_session().await;
        writer.batch_execute(&format!("begin; {write}")).await.unwrap();

        // What this transaction has done so far.
        let touched = "select concat_ws(' ', relname, n_tup_ins, n_tup_upd + n_tup_del) from pg_stat_xact_user_tables \
                       where seq_scan + coalesce(idx_scan, 0) + n_tup_ins + n_tup_upd + n_tup_del > 0 order by 1";
        assert_eq!(texts(&writer, touched).await, ["change 1 0", "schools 0 1"], "{write}");
    }
}

#[tokio::test]
async fn a_sleeping_service_looks_once_per_sweep_and_asks_nothing_else() {
    let mut bell = TestBell::installed().await;
    (bell.pace.sweep, bell.pace.wait_sweep) = (Duration::from_millis(40), Duration::MAX);
    let proxies = counted(&mut bell).await;
    bell.service_starts();
    bell.asleep().await;

    let (began, before) = (Instant::now(), [0, 1].map(|side| proxies[side].traffic().round_trips));
    let asked = |side: usize| proxies[side].traffic().round_trips - before[side];
    eventually("it has looked a few times", || async {
        let (asked, wanted) = (asked(0), 30 * LOOK_ROUND_TRIPS);
        if asked < wanted { Err(asked) } else { Ok(()) }
    })
    .await;

    // A slow machine looks less often. Besides: looks that the clock cuts in two, and what the start still asks.
    let (source, target, time) = (asked(0), asked(1), began.elapsed());
    let looks = (time.as_millis() / bell.pace.sweep.as_millis()) as u64 + 4;
    assert!(source <= looks * LOOK_ROUND_TRIPS, "{source} round trips in {looks} looks");
    // A sign of life from the writer, every 4 s.
    assert!(target <= time.as_secs() / 4 + 1, "{target} round trips in {time:?}");
}
