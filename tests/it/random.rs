//! Thousands of random transactions from several connections while the service runs, compared with an
//! expectation of its own. The seed is printed; SCHOOLBELL_SEED replays a run.

use fastrand::Rng;
use tokio_postgres::Client;

use crate::support::TestBell;

const WRITERS: u64 = 6;
const TRANSACTIONS: usize = 400;

/// One random statement. Few rows and few people, so that the writers meet.
fn statement(random: &mut Rng) -> String {
    let school = random.u32(0..40);
    let person = format!("md5('person {}')::uuid", random.u32(0..30));
    let id = format!("md5('school {school}')::uuid");
    match random.u8(0..16) {
        0..=3 => format!(
            "insert into schools (id, name, reference, address_line_1, municipality, country_code, website, creator_id, \
             creator_agree_to_ux_contact, created_at, updated_at, rejected_at, user_origin) values ({id}, ' School {school} ', \
             null, 'Road', 'Town', 'GB', 'w', {person}, {}, now(), now(), {}, {}) on conflict do nothing",
            random.bool(),
            if random.bool() { "now()" } else { "null" },
            random.u8(0..2)
        ),
        4..=6 => format!(
            "update schools set name = repeat('n{}', {}), updated_at = clock_timestamp() where id = {id}",
            random.u16(..),
            random.u8(1..40)
        ),
        7 => format!(
            "update schools set creator_agree_to_ux_contact = not creator_agree_to_ux_contact where id = {id}"
        ),
        8 => format!(
            "update schools set rejected_at = now(), updated_at = clock_timestamp() where id = {id}"
        ),
        9 => {
            format!("update schools set postal_code = 'P{}' where user_origin = 1", random.u16(..))
        }
        10 => format!("delete from schools where id = {id}"),
        11..=12 => format!(
            "insert into roles (user_id, school_id, role, created_at, updated_at) values ({person}, {id}, {}, now(), now()) \
             on conflict do nothing",
            random.u8(0..3)
        ),
        13 => format!(
            "update roles set role = {} where school_id = {id} and user_id = {person}",
            random.u8(0..3)
        ),
        14 => format!(
            "update roles set school_id = md5('school {}')::uuid where user_id = {person}",
            random.u32(0..40)
        ),
        _ => format!("delete from roles where user_id = {person} and role = 0"),
    }
}

async fn write_at_random(client: Client, seed: u64) -> usize {
    let mut random = Rng::with_seed(seed);
    let mut committed = 0;
    for _ in 0..TRANSACTIONS {
        let level = ["read committed", "repeatable read"][random.usize(0..2)];
        let mut sql = vec![format!("begin isolation level {level}")];
        for _ in 0..random.u8(1..4) {
            match random.u8(0..6) {
                0 => sql.push(format!("savepoint s; {}; rollback to s", statement(&mut random))),
                _ => sql.push(statement(&mut random)),
            }
        }
        sql.push(if random.u8(0..6) == 0 { "rollback" } else { "commit" }.into());
        // Deadlocks, conflicts and violated indexes are part of the game: that transaction did not happen.
        match client.batch_execute(&sql.join("; ")).await {
            Ok(()) => committed += 1,
            Err(error) if error.as_db_error().is_some() => {
                client.batch_execute("rollback").await.unwrap();
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    committed
}

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
        writers.push(tokio::spawn(write_at_random(client, seed.wrapping_add(writer))));
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
    let waiting = "select count(*) from schoolbell.parked p where object <> 'role' or awaits_key in \
                   (select id::text from schools)";
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
