//! Contacts: updated, never created; one of a person's schools wins, whatever the order of the
//! changes.

use crate::support::TestBell;

const PERSON: &str = "00000000-0000-0000-0000-0000000000aa";
const FLAG: &str = "select editoragreetouxcontact__c::text from salesforce.contact";

fn school(number: u8, agrees: bool, updated_at: &str, rejected: bool) -> String {
    let rejected_at = if rejected { "'2026-01-01'" } else { "null" };
    format!(
        "insert into schools (id, name, address_line_1, municipality, country_code, website, creator_id, \
         creator_agree_to_ux_contact, created_at, updated_at, rejected_at) values \
         ('00000000-0000-0000-0000-00000000000{number}', 'S', 'R', 'T', 'GB', 'w', '{PERSON}', {agrees}, now(), \
         '{updated_at}', {rejected_at})"
    )
}

#[tokio::test]
async fn a_contact_is_never_created_and_its_key_waits_until_salesforce_has_it() {
    let bell = TestBell::start().await;
    bell.source_sql(&school(1, true, "2026-01-01", false)).await;
    bell.caught_up().await;
    assert_eq!(bell.parked().await, [format!("contact {PERSON} waiting for contact row {PERSON}")]);
    assert_eq!(bell.target_count("select count(*) from salesforce.contact").await, 0);

    bell.salesforce_has_contact(PERSON).await;

    bell.target_becomes(FLAG, &["true"]).await;
    bell.caught_up().await;
    assert!(bell.parked().await.is_empty());
}

#[tokio::test]
async fn the_winner_is_the_same_whatever_the_order_of_the_changes() {
    // The unrejected school wins over rejected ones that were updated later; its flag differs from theirs.
    let schools = [
        school(1, false, "2026-01-05", true),
        school(2, true, "2026-01-01", false),
        school(3, false, "2026-01-09", true),
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let bell = TestBell::start().await;
        bell.salesforce_has_contact(PERSON).await;
        for index in order {
            bell.source_sql(&schools[index]).await;
            bell.caught_up().await;
        }
        assert_eq!(bell.target_texts(FLAG).await, ["true"], "{order:?}");
    }
}

#[tokio::test]
async fn among_rejected_schools_the_one_updated_last_wins_then_the_greater_id() {
    let bell = TestBell::start().await;
    bell.salesforce_has_contact(PERSON).await;

    bell.source_sql(&school(1, true, "2026-01-02", true)).await;
    bell.source_sql(&school(2, false, "2026-01-01", true)).await;
    bell.caught_up().await;
    assert_eq!(bell.target_texts(FLAG).await, ["true"], "updated last");

    bell.source_sql("update schools set updated_at = '2026-01-02'").await;
    bell.caught_up().await;
    assert_eq!(bell.target_texts(FLAG).await, ["false"], "the greater id");
}

#[tokio::test]
async fn when_the_winner_is_rejected_deleted_or_given_away_the_next_school_speaks() {
    let bell = TestBell::start().await;
    bell.salesforce_has_contact(PERSON).await;
    bell.source_sql(&school(1, true, "2026-01-01", false)).await;
    bell.source_sql(&school(2, false, "2026-01-02", true)).await;
    bell.source_sql(&school(3, true, "2026-01-03", true)).await;
    bell.caught_up().await;
    assert_eq!(bell.target_texts(FLAG).await, ["true"]);

    bell.source_sql(
        "update schools set rejected_at = now(), updated_at = '2026-01-01' where name = 'S' and \
                     rejected_at is null",
    )
    .await;
    bell.caught_up().await;
    assert_eq!(bell.target_texts(FLAG).await, ["true"], "3 was updated last");

    bell.source_sql("delete from schools where id::text like '%3'").await;
    bell.caught_up().await;
    assert_eq!(bell.target_texts(FLAG).await, ["false"], "2 is the next");

    bell.source_sql("update schools set creator_id = gen_random_uuid() where id::text like '%2'")
        .await;
    bell.caught_up().await;
    assert_eq!(bell.target_texts(FLAG).await, ["true"], "1 is left");
}

#[tokio::test]
async fn a_contact_whose_schools_are_all_gone_stays_as_it_is() {
    let bell = TestBell::start().await;
    bell.salesforce_has_contact(PERSON).await;
    bell.source_sql(&school(1, true, "2026-01-01", false)).await;
    bell.caught_up().await;

    bell.source_sql("delete from schools").await;

    bell.caught_up().await;
    assert_eq!(bell.target_texts(FLAG).await, ["true"]);
}

#[tokio::test]
async fn a_school_without_a_creator_concerns_no_contact() {
    let bell = TestBell::start().await;
    bell.insert_school("Acme").await;
    bell.source_sql("update schools set creator_id = null").await;
    bell.caught_up().await;
    bell.source_sql("delete from schoolbell.parked; update schools set name = 'Beta'").await;

    bell.caught_up().await;

    assert!(bell.parked().await.is_empty());
}
