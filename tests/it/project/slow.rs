//! Source rows that take very long to read: they delay the others by seconds, and are tried less often.

use std::time::Duration;

use schoolbell::mapping::BUILT_IN;

use crate::support::{TestBell, eventually};

/// The built-in mapping with a filter that waits for an hour at a school called Slow.
async fn bell_with_a_slow_filter() -> (TestBell, String) {
    let mut bell = TestBell::bare().await;
    bell.source_sql(
        "create function dawdles(name text) returns boolean language plpgsql as $$ begin \
         if name = 'Slow' then perform pg_sleep(3600); end if; return false; end $$; \
         grant execute on function dawdles to public",
    )
    .await;
    let text = BUILT_IN
        .replace("[object.school]\n", "[object.school]\nfilter = \"not public.dawdles(name)\"\n");
    let text = if text == BUILT_IN { panic!("the school begins otherwise") } else { text };
    bell.use_mapping(&text).await;
    let file = bell.mapping_file(&text).display().to_string();
    (bell, file)
}

const SCHOOLS: &str = "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
     select case n when 142 then 'Slow' else 'Quick ' || n end, 'R', 'T', 'GB', 'w', now(), now() \
     from generate_series(1, 300) n";
const WRITTEN: &str = "select count(*)::text from salesforce.editor__c";

async fn is_parked_for_long(bell: &TestBell) {
    let slow = "select reason || '; ' || remedy from schoolbell.parked where state = 'retrying' and sqlstate = '57014' \
                and due_at > tried_at + interval '10 seconds'";
    eventually("it is parked for long", || async {
        let reasons = bell.source_texts(slow).await;
        let is_named = |reason: &str| {
            reason.starts_with("it takes longer than")
                && reason.contains("the mapping's expressions")
        };
        match reasons.len() == 1 && is_named(&reasons[0]) {
            true => Ok(()),
            false => Err(reasons),
        }
    })
    .await;
}

/// With the default limits of the service.
#[tokio::test]
async fn a_source_row_that_would_take_an_hour_delays_the_others_by_seconds() {
    let (mut bell, _) = bell_with_a_slow_filter().await;
    bell.service_starts();

    bell.source_sql(SCHOOLS).await;

    bell.target_becomes(WRITTEN, &["299"]).await;
    is_parked_for_long(&bell).await;
}

#[tokio::test]
async fn a_page_with_such_a_row_delays_its_resync_by_seconds() {
    let (mut bell, mapping) = bell_with_a_slow_filter().await;
    bell.source_sql(SCHOOLS).await;
    bell.source_sql("delete from schoolbell.change").await;
    bell.run_ok(&["resync", "school", "--detach", "--mapping", &mapping]).await;

    bell.service_starts();

    bell.target_becomes(WRITTEN, &["299"]).await;
    is_parked_for_long(&bell).await;
}

/// No report waits for such a row, and it hides none of the others.
#[tokio::test]
async fn explain_names_a_row_that_takes_too_long() {
    let (bell, mapping) = bell_with_a_slow_filter().await;
    bell.source_sql(SCHOOLS).await;
    let slow = bell.source_texts("select id::text from schools where name = 'Slow'").await;

    let told = bell.run(&["explain", "school", &slow[0], "--mapping", &mapping]).await;

    assert!(told.stdout.contains("statement timeout"), "{}", told.stdout);
}

/// Where each statement takes long, no row is at fault, and the usual time is learned.
#[tokio::test]
async fn a_table_where_every_row_takes_its_time_is_no_trouble() {
    let mut bell = TestBell::bare().await;
    bell.pace.statement_timeout = Duration::from_secs(60);
    bell.source_sql(
        "create function dawdles(name text) returns boolean language plpgsql as $$ begin \
         perform pg_sleep(0.05); return false; end $$; \
         grant execute on function dawdles to public",
    )
    .await;
    let text = BUILT_IN
        .replace("[object.school]\n", "[object.school]\nfilter = \"not public.dawdles(name)\"\n");
    bell.use_mapping(&text).await;

    bell.source_sql(SCHOOLS).await;
    bell.drain().await;

    bell.target_becomes(WRITTEN, &["300"]).await;
    assert_eq!(bell.parked().await, Vec::<String>::new());
}
