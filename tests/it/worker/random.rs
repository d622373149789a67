//! Thousands of random transactions from several connections while the service runs, compared with an
//! expectation of its own. The seed is printed; SCHOOLBELL_SEED replays a run.

use crate::support::TestBell;
use crate::support::writers::write_at_random;

const WRITERS: u64 = 6;
const TRANSACTIONS: usize = 400;

#[tokio::test]
async fn after_thousands_of_random_transactions_every_row_is_right() {
    let seed = std::env::var("SCHOOLBELL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SCHOOLBELL_SEED={seed}");
    let mut bell = TestBell::start().await;
    // Some people have a contact from the start, the others get theirs at the end.
    for person in 0..15 {
        let key = bell
            .source_texts(&format!("select md5('person {person}')::uuid::text"))
            .await
            .remove(0);
        bell.salesforce_has_contact(&key).await;
    }

    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = bell.source_session().await;
        writers.push(tokio::spawn(write_at_random(
            client,
            seed.wrapping_add(writer),
            TRANSACTIONS,
        )));
    }
    let salesforce = bell.target_session().await;
    let accepting = tokio::spawn(async move {
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let every = std::time::Duration::from_millis(20);
        schoolbell::demo::stand_in::play_salesforce(salesforce, every, stopped).await
    });
    let mut committed = 0;
    for (index, writer) in writers.into_iter().enumerate() {
        committed += writer.await.unwrap();
        // In the middle of it all the service is killed, and started again.
        if index == 2 {
            bell.service_is_killed().await;
            bell.service_starts();
        }
    }
    accepting.abort();
    _ = accepting.await;
    assert!(committed > 1_000, "only {committed} transactions were committed");

    bell.caught_up().await;
    bell.salesforce_accepts_everything().await;
    for person in 15..30 {
        let key = bell
            .source_texts(&format!("select md5('person {person}')::uuid::text"))
            .await
            .remove(0);
        bell.salesforce_has_contact(&key).await;
    }
    // Schools that were deleted at the source before they were ever written keep their roles waiting.
    let waiting = "select count(*) from schoolbell.parked p where object <> 'role' or awaits not like 'school %' \
                   or awaits_key in (select id::text from schools)";
    crate::support::eventually("only orphans wait", || async {
        match bell.source_count(waiting).await {
            0 => Ok(()),
            _ => Err(bell.parked().await),
        }
    })
    .await;
    bell.caught_up().await;
    bell.every_row_is_right().await;
    let failed = bell
        .target_count("select count(*) from salesforce._trigger_log where state = 'FAILED'")
        .await;
    assert_eq!(failed, 0, "Heroku Connect met a child before its parent");
}
