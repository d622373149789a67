//! Contents of rows: too long, unreadable, out of sight.

use super::{Damage, Examined, Healthy, MARKER, found_and_cured};

#[tokio::test]
async fn rows_that_a_policy_may_hide_are_told_of() {
    let healthy = Healthy::start().await;
    let damage = Damage {
        in_target: false,
        sql: "alter table schools enable row level security".into(),
        not_ok: &[("source_rights", "failed"), ("text_lengths", "cannot_run")],
        says: &["row security may hide rows of public.schools"],
        remedy: "bypassrls;",
    };
    found_and_cured(&healthy, &damage).await;
}

#[tokio::test]
async fn text_that_will_be_cut_and_keys_that_do_not_fit_are_counted_and_never_shown() {
    let healthy = Healthy::start().await;
    healthy.bell.insert_school(&MARKER.repeat(9)).await;
    healthy.bell.insert_school(&"x".repeat(80)).await;

    let cut = healthy.doctor().await;

    cut.assert_not_ok(&[("text_lengths", "advice")]);
    let details = cut.check("text_lengths")["details"].to_string();
    assert!(details.contains("object school: name: 1 values exceed 80 characters"), "{details}");
    let remedies = cut.remedies("text_lengths");
    let (_, find) = remedies.iter().find(|(place, _)| place == "source").unwrap();
    assert_eq!(healthy.bell.source.query(find.as_str(), &[]).await.unwrap().len(), 1, "{find}");
    assert!(!cut.ended.to_string().contains(MARKER), "{}", cut.ended);

    healthy.bell.caught_up().await;
    healthy.bell.target_sql("delete from salesforce.editor__c; alter table salesforce.editor__c alter editoruuid__c \
                             type varchar(18)").await;
    let refused = healthy.doctor().await;
    refused.assert_not_ok(&[("text_lengths", "failed")]);
    let details = refused.check("text_lengths")["details"].to_string();
    assert!(
        details.contains("object school: editoruuid__c: 2 values exceed 18 characters"),
        "{details}"
    );
}

#[tokio::test]
async fn an_expression_that_a_row_breaks_is_reported_without_the_row() {
    let healthy = Healthy::start().await;
    healthy.bell.source_sql(&format!(
        "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         values ('Acme', 'x', '{MARKER}', 'GB', 'w', now(), now())"
    ))
    .await;
    let file = healthy.bell.mapping_file(&schoolbell::mapping::BUILT_IN.replace(
        "editorreference__c = \"reference\"",
        "editorreference__c = { sql = \"(municipality::int4)::text\" }",
    ));
    let arguments = ["doctor", "--json", "--mapping", file.to_str().unwrap()];

    let examined = Examined::of(healthy.roles.run(&healthy.bell, &arguments).await);

    assert_eq!(examined.not_ok().get("text_lengths"), Some(&"cannot_run"), "{}", examined.ended);
    assert!(examined.found("text_lengths").contains("invalid input syntax"), "{}", examined.ended);
    assert!(!examined.ended.to_string().contains(MARKER), "{}", examined.ended);
}
