//! The main job on a real register of schools, with all that invented rows lack.

use futures_util::SinkExt;

use crate::support::TestBell;
use crate::support::left_out::left_out;

const REGISTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/schools-england.csv");
/// A part of the register that a test run has time for; every 7th school, so that all kinds are among them.
const EVERY: usize = 7;

/// Loads the register with one creator and owner per school, by COPY.
async fn load(bell: &TestBell, register: &str) {
    bell.source_sql(
        "create temp table register (urn text, name text, town text, postcode text, lead_school text, open_date text, \
         close_date text)",
    )
    .await;
    let sink = bell
        .source
        .copy_in::<_, bytes::Bytes>("copy register from stdin (format csv, header true)")
        .await
        .unwrap();
    let mut sink = std::pin::pin!(sink);
    for (number, line) in register.lines().enumerate() {
        if number == 0 || number % EVERY == 0 {
            sink.send(format!("{line}\n").into()).await.unwrap();
        }
    }
    sink.close().await.unwrap();
    bell.source_sql(
        "insert into schools (id, name, reference, address_line_1, municipality, postal_code, country_code, website, \
         verified_at, rejected_at, creator_id, creator_agree_to_ux_contact, created_at, updated_at) \
         select md5('school ' || urn)::uuid, name, urn, '', coalesce(town, ''), postcode, 'GB', '', \
         to_date(nullif(open_date, ''), 'dd-mm-yyyy'), to_date(nullif(close_date, ''), 'dd-mm-yyyy'), \
         md5('person ' || urn)::uuid, urn::int % 2 = 0, now(), now() from register; \
         insert into roles (user_id, school_id, role, created_at, updated_at) \
         select creator_id, id, 2, now(), now() from schools",
    )
    .await;
}

#[tokio::test]
async fn the_register_of_english_schools_arrives_row_by_row_as_it_should() {
    let Ok(register) = std::fs::read_to_string(REGISTER) else {
        left_out(&format!("{REGISTER} is not there"));
        return;
    };
    let bell = TestBell::start().await;

    load(&bell, &register).await;
    bell.caught_up().await;
    bell.every_row_is_right().await;

    let keys = bell.source_texts("select creator_id::text from schools").await;
    schoolbell::demo::stand_in::create_contacts(&bell.target, &keys).await.unwrap();
    bell.salesforce_accepts_everything().await;
    let roles = keys.len().to_string();
    bell.target_becomes(
        "select count(*)::text from salesforce.contact_editor_affiliation__c",
        &[&roles],
    )
    .await;
    bell.caught_up().await;
    bell.salesforce_accepts_everything().await;
    bell.every_row_is_right().await;

    let writes = bell.salesforce_writes().await;
    bell.run_ok(&["resync"]).await;
    assert_eq!(bell.salesforce_writes().await, writes, "a resync of what is right writes nothing");

    bell.source_sql("update schools set name = upper(name), updated_at = now() + interval '1 day'")
        .await;
    bell.caught_up().await;
    bell.every_row_is_right().await;
    assert_eq!(
        bell.salesforce_writes().await,
        writes + keys.len() as i64,
        "one write for each school"
    );
}
