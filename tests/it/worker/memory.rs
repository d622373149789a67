//! Memory is bounded whatever the rows hold: how much is read at once depends on bytes, not on rows.

use crate::support::{HEROKU_CONNECT, TestBell};

/// What the program may have, its code, libraries and stacks included: much less than the rows of any case below.
const MEBIBYTES: u32 = 128;

/// Pages that belong to a book, with a text of any length.
async fn library() -> (TestBell, String) {
    let mut bell = TestBell::bare().await;
    bell.source_sql(
        "create table books (id text primary key, name text); \
         create table pages (id text primary key, book text, content text)",
    )
    .await;
    bell.target_sql(&format!(
        "create table salesforce.page__c (id__c text unique, content__c text, book__c text, {HEROKU_CONNECT})"
    ))
    .await;
    let text = "version = 1\n[object.page]\nsource = \"pages\"\nkey = \"id\"\ntarget = \"page__c\"\n\
                external_id = \"id__c\"\n[object.page.fields]\ncontent__c = \"content\"\n\
                book__c = { sql = \"(select name from books where books.id = source.book)\" }\n\
                [[object.page.touched_by]]\ntable = \"books\"\ncolumns = [\"id\", \"name\"]\n\
                keys = \"select p.id from pages p join changed on p.book = changed.id\"\n";
    bell.use_mapping(text).await;
    let path = bell.mapping_file(text).display().to_string();
    (bell, path)
}

async fn drains(bell: &TestBell, mapping: &str) {
    let program = bell.program(&["run", "--drain", "--mapping", mapping]).within(MEBIBYTES);
    let ended = program.run().await;
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 0);
    assert_eq!(bell.parked().await, Vec::<String>::new());
    let resyncs = "select count(*) from schoolbell.resync where state <> 'done'";
    assert_eq!(bell.source_count(resyncs).await, 0);
}

const RIGHT: &str = "select count(*) from salesforce.page__c where length(content__c) = ";

#[tokio::test]
async fn a_bulk_write_of_long_rows_is_read_in_parts() {
    let (bell, mapping) = library().await;
    // Many small rows first: how long the next are cannot be known from these.
    bell.source_sql("insert into pages select 'a' || g, 'b', 'x' from generate_series(1, 2000) g")
        .await;
    bell.source_sql(
        "insert into pages select 'p' || g, 'b', repeat('x', 200000) from generate_series(1, 800) g",
    )
    .await;
    drains(&bell, &mapping).await;
    assert_eq!(bell.target_count(&format!("{RIGHT} 200000")).await, 800);

    // Each resync begins again, too.
    bell.target_sql("delete from salesforce.page__c where id__c like 'p%'").await;
    let resync = ["resync", "page", "--mapping", &mapping];
    let ended = bell.program(&resync).within(MEBIBYTES).run().await;
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(bell.target_count(&format!("{RIGHT} 200000")).await, 800);
    for command in
        [&["verify", "--mapping", &mapping][..], &["resync", "--dry-run", "--mapping", &mapping]]
    {
        let ended = bell.program(command).within(MEBIBYTES).run().await;
        assert_eq!(ended.code, 0, "{ended}");
    }
    // Where all differ, values of all are asked for.
    bell.target_sql("update salesforce.page__c set content__c = repeat('y', 200000)").await;
    let ended = bell.program(&["verify", "--mapping", &mapping]).within(MEBIBYTES).run().await;
    assert_eq!(ended.code, 1, "{}", ended.stderr);
}

#[tokio::test]
async fn one_change_that_touches_more_than_memory_holds_is_followed_page_by_page() {
    let (bell, mapping) = library().await;
    bell.source_sql("insert into books values ('b', 'Old')").await;
    bell.source_sql(
        "insert into pages select 'p' || g, 'b', repeat('x', 60000) from generate_series(1, 2500) g; \
         truncate schoolbell.change",
    )
    .await;
    bell.source_sql("update books set name = 'New'").await;
    drains(&bell, &mapping).await;
    assert_eq!(bell.target_count(&format!("{RIGHT} 60000 and book__c = 'New'")).await, 2_500);
}

#[tokio::test]
async fn long_keys_are_claimed_parked_and_tried_again_in_parts() {
    let mut bell = TestBell::bare().await;
    bell.source_sql(
        "create table notes (id text, n int primary key); create index on notes using hash (id)",
    )
    .await;
    bell.target_sql(&format!(
        "create table salesforce.note__c (id__c text, n__c int, {HEROKU_CONNECT})"
    ))
    .await;
    let text = "version = 1\n[object.note]\nsource = \"notes\"\nkey = \"id\"\ntarget = \"note__c\"\n\
                external_id = \"id__c\"\nwinner = { order = \"n\" }\n[object.note.fields]\nn__c = \"n\"\n";
    bell.use_mapping(text).await;
    let mapping = bell.mapping_file(text).display().to_string();
    bell.source_sql(
        "insert into notes select g || repeat('k', 1000000), g from generate_series(1, 160) g",
    )
    .await;
    drains(&bell, &mapping).await;
    let there = "select count(*) from salesforce.note__c where length(id__c) > 1000000";
    assert_eq!(bell.target_count(there).await, 160);
}
