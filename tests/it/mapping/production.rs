//! The mapping with the field names in production, end to end.

use schoolbell::mapping::Mapping;

use crate::support::TestBell;

const APPLICATION: &str = "
    alter table schools add column archived_at timestamp(6);
    alter table roles add column archived_at timestamp(6)
";
const HEROKU_CONNECT: &str = "
    alter table salesforce.editor__c
        drop column userorigin__c,
        add column editortype__c varchar(255),
        add column discardedat__c timestamp;
    alter table salesforce.contact_editor_affiliation__c
        add column editor_type__c varchar(255),
        add column offboardedat__c timestamp;
    alter table salesforce.contact
        rename column editoragreetouxcontact__c to editor_consent_to_ux_contact__c
";
const PERSON: &str = "aaaaaaaa-0000-4000-8000-000000000001";

async fn production() -> TestBell {
    let mut bell = TestBell::bare().await;
    bell.source_sql(APPLICATION).await;
    bell.target_sql(HEROKU_CONNECT).await;
    bell.run_ok(&["migrate", "--mapping", "editor-api-production"]).await;
    bell.mapping = Mapping::load(Some("editor-api-production".as_ref())).unwrap();
    bell.service_starts();
    bell
}

/// A school of the person, with what the statement sets besides; returns its id.
async fn school(bell: &TestBell, columns: &str, values: &str) -> String {
    let sql = format!(
        "insert into schools (name, address_line_1, municipality, country_code, website, creator_id, created_at, \
         updated_at{columns}) values ('Acme', '1 Road', 'Town', 'GB', 'w', '{PERSON}', '2026-01-02 03:04:05.6', \
         '2026-01-02 03:04:05.6'{values}) returning id::text"
    );
    bell.source_texts(&sql).await.remove(0)
}

const SCHOOLS: &str = "select concat_ws('|', name, editortype__c, discardedat__c, rejectedat__c, status__c) \
                       from salesforce.editor__c order by editortype__c, discardedat__c nulls first";
const ROLES: &str = "select concat_ws('|', roletype__c, editor_type__c, offboardedat__c) \
                     from salesforce.contact_editor_affiliation__c order by affiliation_id__c";
const CONSENT: &str = "select editor_consent_to_ux_contact__c::text from salesforce.contact";

#[tokio::test]
async fn archived_rows_and_origins_have_their_fields_and_a_role_has_that_of_its_school() {
    let bell = production().await;
    bell.salesforce_has_contact(PERSON).await;
    let cs = school(&bell, ", user_origin, rejected_at", ", 1, '2026-02-01'").await;
    bell.caught_up().await;
    bell.salesforce_accepts_everything().await;
    bell.source_sql(&format!(
        "insert into roles (user_id, school_id, role, created_at, updated_at) values ('{PERSON}', '{cs}', 1, now(), now()), \
         ('{PERSON}', null, 2, now(), now()), (null, null, 0, now(), now())"
    ))
    .await;
    bell.caught_up().await;

    assert_eq!(bell.target_texts(SCHOOLS).await, ["Acme|experience_cs|2026-02-01 00:00:00|New"]);
    assert_eq!(bell.target_texts(ROLES).await, ["teacher|experience_cs", "owner|for_education"]);

    bell.source_sql(
        "update schools set archived_at = '2026-03-01 12:00:00.9'; \
         update roles set archived_at = '2026-03-02 12:00:00.9' where role = 1",
    )
    .await;
    bell.caught_up().await;

    assert_eq!(
        bell.target_texts(SCHOOLS).await,
        ["Acme|experience_cs|2026-03-01 12:00:00|2026-02-01 00:00:00|New"]
    );
    assert_eq!(
        bell.target_texts(ROLES).await,
        ["teacher|experience_cs|2026-03-02 12:00:00", "owner|for_education"]
    );
}

#[tokio::test]
async fn the_school_that_is_neither_rejected_nor_archived_speaks_for_its_creator() {
    let bell = production().await;
    bell.salesforce_has_contact(PERSON).await;
    let rejected =
        school(&bell, ", creator_agree_to_ux_contact, rejected_at", ", false, now()").await;
    let live = school(&bell, ", creator_agree_to_ux_contact", ", true").await;
    bell.source_sql(&format!("update schools set updated_at = now() where id = '{rejected}'"))
        .await;
    bell.target_becomes(CONSENT, &["true"]).await;

    // Archived, it speaks no more; of the two that are left the one that was updated last does.
    bell.source_sql(&format!("update schools set archived_at = now() where id = '{live}'")).await;
    bell.target_becomes(CONSENT, &["false"]).await;
    bell.source_sql(&format!("update schools set archived_at = null where id = '{live}'")).await;
    bell.target_becomes(CONSENT, &["true"]).await;

    let right = bell.run(&["verify", "--mapping", "editor-api-production"]).await;
    assert_eq!(right.code, 0, "{right}");
}

#[tokio::test]
async fn a_school_with_five_thousand_roles_that_changes_its_origin_changes_it_for_all_of_them() {
    let bell = production().await;
    bell.salesforce_has_contact(PERSON).await;
    let big = school(&bell, "", "").await;
    let other = school(&bell, ", rejected_at", ", now()").await;
    bell.source_sql(&format!(
        "insert into roles (user_id, school_id, role, created_at, updated_at) \
         select gen_random_uuid(), '{big}', 1 + n % 2, now(), now() from generate_series(1, 5000) n; \
         insert into roles (user_id, school_id, role, created_at, updated_at) values ('{PERSON}', '{other}', 1, now(), now())"
    ))
    .await;
    let people = bell.source_texts("select user_id::text from roles").await;
    schoolbell::demo::stand_in::create_contacts(
        &bell.target,
        &people.into_iter().filter(|person| person != PERSON).collect::<Vec<_>>(),
    )
    .await
    .unwrap();
    bell.caught_up().await;
    bell.salesforce_accepts_everything().await;
    let kinds = "select concat_ws(' ', count(*), editor_type__c) from salesforce.contact_editor_affiliation__c \
                 group by editor_type__c order by 1";
    bell.target_becomes(kinds, &["5001 for_education"]).await;
    bell.salesforce_accepts_everything().await;
    let written = bell.salesforce_writes().await;

    bell.source_sql(&format!("update schools set user_origin = 1 where id = '{big}'")).await;

    bell.target_becomes(kinds, &["1 for_education", "5000 experience_cs"]).await;
    bell.caught_up().await;
    // Each of its roles and the school, once; nothing else.
    assert_eq!(bell.salesforce_writes().await - written, 5_001);
    // What roles do not show of their school does not touch them.
    bell.source_sql(&format!("update schools set name = 'Bolt' where id = '{big}'")).await;
    bell.caught_up().await;
    assert_eq!(bell.salesforce_writes().await - written, 5_002);
}

#[tokio::test]
async fn a_shipped_mapping_is_found_by_its_name_and_a_strange_name_says_which_there_are() {
    let bell = TestBell::bare().await;

    let printed = bell.run_ok(&["mapping", "--mapping", "editor-api-production"]).await;
    let strange = bell.run(&["mapping", "--mapping", "editor-api-prod"]).await;

    assert_eq!(printed, include_str!("../../../mappings/editor-api-production.toml"));
    assert_eq!(strange.code, 2, "{strange}");
    assert!(
        strange.stderr.contains("cannot read the file: No such file")
            && strange.stderr.contains("editor-api, editor-api-production"),
        "{strange}"
    );
}
