//! A first mapping is drafted from both catalogues: it fits them, it finds what a person would find, and it hides nothing.

use schoolbell::mapping::{Mapping, Value};

use crate::support::TestBell;

/// Drafts, and checks what was drafted against the same databases.
async fn drafted(bell: &TestBell, pairs: &[&str]) -> (String, Mapping) {
    let text = bell.run_ok(&[&["mapping", "init"], pairs].concat()).await;
    let file = bell.mapping_file(&text);
    let check = bell.run(&["mapping", "--check", file.to_str().unwrap()]).await;
    assert_eq!(check.code, 0, "{check}\n{text}");
    assert!(crate::mapping::check::fits_the_schema(&text), "{text}");
    (text.clone(), Mapping::parse("draft", &text).unwrap())
}

/// Target column and source column of each field.
fn fields(mapping: &Mapping, object: &str) -> Vec<String> {
    let fields = mapping.object(object).unwrap().fields.iter().map(|field| match &field.value {
        Value::Column(column) => format!("{} = {column}", field.column),
        Value::Sql(sql) => panic!("nothing is guessed as {sql}"),
    });
    fields.collect()
}

#[tokio::test]
async fn for_the_application_s_tables_it_finds_most_of_the_real_mapping() {
    let bell = TestBell::bare().await;

    let (text, mapping) =
        drafted(&bell, &["schools=editor__c", "roles=contact_editor_affiliation__c"]).await;

    let real = Mapping::load(None).unwrap();
    for name in ["school", "role"] {
        let (draft, real) = (mapping.object(name).unwrap(), real.object(name).unwrap());
        assert_eq!((&draft.key, &draft.external_id), (&real.key, &real.external_id), "{text}");
        assert_eq!((&draft.since, &draft.target), (&real.since, &real.target), "{text}");
    }
    assert_eq!(
        fields(&mapping, "school"),
        [
            "addressline1__c = address_line_1",
            "addressline2__c = address_line_2",
            "countrycode__c = country_code",
            "createdat__c = created_at",
            "editoradministrativearea__c = administrative_area",
            "editormunicipality__c = municipality",
            "editorreference__c = reference",
            "name = name",
            "rejectedat__c = rejected_at",
            "schoolrollnumber__c = school_roll_number",
            "updatedat__c = updated_at",
            "userorigin__c = user_origin",
            "verifiedat__c = verified_at",
            "website__c = website",
        ],
        "{text}"
    );
    assert_eq!(
        fields(&mapping, "role"),
        [
            "createdat__c = created_at",
            "editor__r__editoruuid__c = school_id",
            "updatedat__c = updated_at"
        ],
        "{text}"
    );
    let parents = &mapping.object("role").unwrap().parents;
    assert_eq!(parents.len(), 1);
    assert_eq!(parents[0].object, "school");
    for line in [
        "name = \"name\"  # will be cut at 80",
        "userorigin__c = \"user_origin\"  # integer, written as text",
        "# postcode__c = \"postal_code\"  # perhaps: varchar(40) from varchar, will be cut at 40",
        "# districtnamesupplied__c = \"district_name\"  # perhaps: varchar(255) from varchar, will be cut at 255",
        "#   status__c varchar(255); nothing in public.schools has a similar name",
        "#   creator_id uuid",
        "#   postal_code varchar: for postcode__c?",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(
        text.contains(
            "refers to contact by pi_accounts_unique_id__c, which is the external id of no object"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn no_column_of_either_side_is_left_unsaid_and_heroku_connect_s_own_are() {
    let bell = TestBell::bare().await;

    let (text, _) = drafted(&bell, &["schools=editor__c"]).await;

    let columns = "select attname::text from pg_attribute where attnum > 0 and attrelid = ";
    let of_source = bell.source_texts(&format!("{columns}'public.schools'::regclass")).await;
    let of_target = bell.target_texts(&format!("{columns}'salesforce.editor__c'::regclass")).await;
    let has = |column: &str| {
        text.split(|character: char| !character.is_alphanumeric() && character != '_')
            .any(|word| word == column)
    };
    for column in of_source {
        assert!(has(&column), "{column}\n{text}");
    }
    for column in of_target {
        let own = ["sfid", "_hc_lastop", "_hc_err", "systemmodstamp", "isdeleted", "createddate"];
        match own.contains(&column.as_str()) {
            true => assert!(!has(&column), "{column}\n{text}"),
            false => assert!(has(&column), "{column}\n{text}"),
        }
    }
}

/// Invented tables with everything that hinders a match.
async fn library() -> TestBell {
    let bell = TestBell::bare().await;
    bell.source_sql(
        "create schema app; create type colour as enum ('red', 'blue'); \
         create table app.readers (id bigint primary key, card_number varchar(12) not null unique, full_name text, \
         born_on date, colour colour, fines numeric, notes text, \"Odd \"\"name\" text, updated_at timestamp); \
         create table loans (id integer primary key, reader_id bigint, due_at timestamp, note text, days text); \
         create table no_key (a integer)",
    )
    .await;
    let own = "sfid varchar(18), systemmodstamp timestamp, isdeleted boolean, createddate timestamp, _hc_lastop \
               varchar(32), _hc_err text, id serial primary key";
    bell.target_sql(&format!(
        "create table salesforce.\"Reader__c\" (card_number__c varchar(20), readerfullname__c varchar(30), born_on__c \
         timestamp, colour__c varchar(255), fines__c double precision, \"Odd \"\"name__c\" text, shape__c point, {own}); \
         create unique index on salesforce.\"Reader__c\" (card_number__c); \
         create table salesforce.loan__c (externalid__c varchar(40) unique, reader__r__card_number__c varchar(20), \
         due_at__c timestamp, days__c double precision, {own}); \
         create table salesforce.no_key__c (id__c text unique, {own})"
    ))
    .await;
    bell
}

#[tokio::test]
async fn without_tables_those_that_are_called_alike_are_drafted_and_the_rest_is_said() {
    let bell = library().await;

    let (text, mapping) = drafted(&bell, &[]).await;

    let names: Vec<&str> = mapping.objects.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, ["loan", "reader"], "{text}");
    let reader = mapping.object("reader").unwrap();
    assert_eq!(
        (reader.key.as_str(), reader.external_id.as_str()),
        ("card_number", "card_number__c")
    );
    assert_eq!(reader.source.plain(), "app.readers");
    assert_eq!(
        fields(&mapping, "reader"),
        [
            "Odd \"name__c = Odd \"name",
            "born_on__c = born_on",
            "colour__c = colour",
            "fines__c = fines",
            "readerfullname__c = full_name"
        ],
        "{text}"
    );
    for part in [
        "# No object could be made of public.no_key: it has no primary key",
        "readerfullname__c = \"full_name\"  # will be cut at 30",
        "colour__c = \"colour\"  # public.colour, written as text",
        "#   shape__c point; nothing in app.readers has a similar name",
        "#   days__c double precision; days is called alike, but is text: convert it with { sql = … }",
        // The key of a reader is no number, so the number of one is no reference to it.
        "#   reader__r__card_number__c varchar(20); refers to object reader, but no column is called reader_id",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[tokio::test]
async fn what_it_cannot_draft_from_is_refused_with_what_there_is() {
    let bell = TestBell::bare().await;
    for (arguments, parts) in [
        (
            &[][..],
            &[
                "say which belong together: schoolbell mapping init SOURCE=TARGET",
                "public.roles",
                "salesforce.editor__c",
            ][..],
        ),
        (&["schools"], &["\"schools\" is no pair of tables"]),
        (
            &["schols=editor__c"],
            &["the source database has no table public.schols; did you mean public.schools?"],
        ),
        (
            &["schools=editor"],
            &[
                "the target database has no table salesforce.editor; did you mean salesforce.editor__c?",
            ],
        ),
    ] {
        let ended = bell.run(&[&["mapping", "init"], arguments].concat()).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
        for part in parts {
            assert!(ended.stderr.contains(part), "{part}\n{ended}");
        }
    }
}

#[tokio::test]
async fn an_object_gets_the_name_that_was_given_to_it() {
    let bell = TestBell::bare().await;
    let (_, mapping) = drafted(&bell, &["place:schools=editor__c"]).await;
    assert_eq!(mapping.objects[0].name, "place");
}
