//! What is installed in the source: schema, triggers, rights, mapping.

use crate::hostile::privileges::{Roles, as_role};
use crate::support::TestBell;

use super::{Damage, Examined, Healthy, found_and_cured};

#[tokio::test]
async fn a_trigger_that_is_dropped_disabled_or_of_another_version_is_found_and_mended() {
    let healthy = Healthy::start().await;
    let damages = [
        (
            "drop trigger schoolbell_update on schools",
            "schoolbell_update on public.schools is missing",
            "schoolbell migrate",
        ),
        (
            "alter table roles disable trigger schoolbell_insert",
            "schoolbell_insert on public.roles is not enabled always",
            "enable always trigger",
        ),
        (
            "alter table schools enable trigger schoolbell_delete",
            "schoolbell_delete on public.schools is not enabled always",
            "enable always trigger",
        ),
        (
            // As another release would have rendered it.
            "do $$ begin execute format('comment on trigger schoolbell_insert on schools is %L', 'other ' || \
             (select split_part(obj_description(oid, 'pg_trigger'), ' ', 2) from pg_trigger \
             where tgrelid = 'schools'::regclass and tgname = 'schoolbell_insert')); end $$",
            "schoolbell_insert on public.schools is outdated",
            "schoolbell migrate",
        ),
        (
            "alter table schools disable trigger all",
            "4 triggers are not as they must be",
            "enable always trigger",
        ),
    ];
    for (sql, says, remedy) in damages {
        let sql = sql.to_string();
        let says = &[says, "verify --repair"];
        let not_ok = &[("triggers", "failed")];
        found_and_cured(&healthy, &Damage { in_target: false, sql, not_ok, says, remedy }).await;
    }
}

#[tokio::test]
async fn a_schema_that_is_missing_or_newer_is_told_apart() {
    let bell = TestBell::bare().await;
    let missing = Examined::of(bell.run(&["doctor", "--json"]).await);
    assert_eq!(
        (missing.check("schema")["result"].as_str(), missing.ended.code),
        (Some("failed"), 1)
    );
    assert_eq!(missing.remedies("schema"), [("shell".into(), "schoolbell migrate".into())]);
    assert_eq!(missing.check("autovacuum")["result"], "cannot_run", "{}", missing.ended);
    bell.run_ok(&["migrate"]).await;
    let migrated = Examined::of(bell.run(&["doctor", "--json"]).await);
    assert_eq!(migrated.check("schema")["result"], "ok", "{}", migrated.ended);

    bell.source_sql("insert into schoolbell.refinery_schema_history (version) values (99)").await;
    let newer = Examined::of(bell.run(&["doctor", "--json"]).await);
    assert_eq!(newer.check("schema")["result"], "failed", "{}", newer.ended);
    assert!(newer.found("schema").contains("version 99 is newer"), "{}", newer.ended);
}

#[tokio::test]
async fn a_right_that_is_missing_on_either_side_is_named_and_granted() {
    let healthy = Healthy::start().await;
    let Roles { bell, bridge, .. } = &healthy.roles;
    // What the role may not read cannot be measured either.
    let unreadable = &[("source_rights", "failed"), ("text_lengths", "cannot_run")][..];
    let (source, target) = (&[("source_rights", "failed")][..], &[("target_rights", "failed")][..]);
    let damages = [
        (
            false,
            format!("revoke delete on schoolbell.change from {bell}"),
            source,
            "delete on schoolbell.change",
        ),
        (
            false,
            format!("revoke insert, update on schoolbell.resync from {bell}"),
            source,
            "insert, update on schoolbell.resync",
        ),
        (
            false,
            format!("revoke select on schools from {bell}"),
            unreadable,
            "select on public.schools",
        ),
        (
            true,
            format!("revoke update on salesforce.editor__c from {bridge}"),
            target,
            "update on salesforce.editor__c",
        ),
        (
            true,
            format!("revoke insert on salesforce.contact_editor_affiliation__c from {bridge}"),
            target,
            "insert on salesforce.contact_editor_affiliation__c",
        ),
        (
            true,
            format!("revoke select on salesforce.contact from {bridge}"),
            target,
            "select on salesforce.contact",
        ),
        (
            true,
            format!("revoke insert on salesforce._trigger_log from {bridge}"),
            target,
            "insert on salesforce._trigger_log",
        ),
        (
            true,
            format!("revoke usage on sequence salesforce.editor__c_id_seq from {bridge}"),
            target,
            "usage on sequence salesforce.editor__c_id_seq",
        ),
        (
            true,
            format!("revoke usage on sequence salesforce._trigger_log_id_seq from {bridge}"),
            target,
            "usage on sequence salesforce._trigger_log_id_seq",
        ),
        (
            true,
            format!("revoke usage on schema salesforce from {bridge}"),
            target,
            "usage on schema salesforce",
        ),
        // By column: a grant of the others is not enough, and the one that is missing is granted alone.
        (
            true,
            format!(
                "revoke update on salesforce.contact from {bridge}; grant update (name) on salesforce.contact to {bridge}"
            ),
            target,
            "update on salesforce.contact",
        ),
    ];
    for (in_target, sql, not_ok, says) in damages {
        let says = &[&*format!("lacks {says}")];
        found_and_cured(&healthy, &Damage { in_target, sql, not_ok, says, remedy: "grant " }).await;
    }

    // Only one column of many is missing.
    healthy
        .bell
        .source_sql(&format!(
            "revoke select on roles from {bell}; grant select (id, user_id, school_id, \
                                      created_at, updated_at) on roles to {bell}"
        ))
        .await;
    let broken = healthy.doctor().await;
    assert!(
        broken.found("source_rights").contains("select (role) on public.roles"),
        "{}",
        broken.ended
    );
    let grant = format!("grant select (\"role\") on \"public\".\"roles\" to \"{bell}\";");
    assert_eq!(broken.remedies("source_rights"), [("source".into(), grant)]);
    healthy.pastes(&broken.remedies("source_rights")).await;
    healthy.doctor().await.assert_not_ok(&[]);

    // What only tells of Salesforce's side is advice.
    healthy
        .bell
        .target_sql(&format!("revoke select (sf_message) on salesforce._trigger_log from {bridge}"))
        .await;
    let untold = healthy.doctor().await;
    untold.assert_not_ok(&[("target_rights", "advice")]);
    let grant = format!(
        "grant select (\"sf_message\") on \"salesforce\".\"_trigger_log\" to \"{bridge}\";"
    );
    assert_eq!(untold.remedies("target_rights"), [("target".into(), grant)]);
    healthy.pastes(&untold.remedies("target_rights")).await;
    healthy.doctor().await.assert_not_ok(&[]);

    // Without the schema nothing of ours can be read, and nothing is taken for sound.
    healthy.bell.source_sql(&format!("revoke usage on schema schoolbell from {bell}")).await;
    let broken = healthy.doctor().await;
    assert_eq!(broken.not_ok().get("source_rights"), Some(&"failed"), "{}", broken.ended);
    assert_eq!(broken.not_ok().get("schema"), Some(&"cannot_run"), "{}", broken.ended);
    healthy.pastes(&broken.remedies("source_rights")).await;
    // The service may have been interrupted meanwhile.
    healthy.has_writer().await;
    healthy.doctor().await.assert_not_ok(&[]);
}

#[tokio::test]
async fn a_right_that_only_an_expression_needs_is_missed_too() {
    let mut healthy = Healthy::start().await;
    healthy.bell.source_sql("create table districts (id uuid primary key, label text)").await;
    healthy.bell.use_mapping(&schoolbell::mapping::BUILT_IN.replace(
        "editorreference__c = \"reference\"",
        "editorreference__c = { sql = \"(select d.label from districts d where d.id = source.id)\" }",
    ))
    .await;
    let file = healthy.bell.mapping_file(&healthy.bell.mapping.text);
    let arguments = ["doctor", "--json", "--mapping", file.to_str().unwrap()];

    let denied = Examined::of(healthy.roles.run(&healthy.bell, &arguments).await);
    healthy.bell.source_sql(&format!("grant select on districts to {}", healthy.roles.bell)).await;
    let granted = Examined::of(healthy.roles.run(&healthy.bell, &arguments).await);

    assert_eq!(denied.not_ok().get("source_rights"), Some(&"failed"), "{}", denied.ended);
    assert!(denied.found("source_rights").contains("districts"), "{}", denied.ended);
    granted.assert_not_ok(&[]);
}

#[tokio::test]
async fn a_target_that_is_not_heroku_connect_s_is_never_taken_for_sound() {
    let healthy = Healthy::start().await;
    let bell = as_role(&healthy.bell.source_url(), &healthy.roles.bell);
    let program = healthy.roles.program(&healthy.bell, &["doctor", "--json"]);

    let examined = Examined::of(program.env("SALESFORCE_CONNECT_URL", &bell).run().await);

    let not_ok = examined.not_ok();
    for name in ["mapping_target", "search_path"] {
        assert_eq!(not_ok.get(name), Some(&"failed"), "{name}: {}", examined.ended);
    }
    for name in ["unique_keys", "target_rights", "target_excess", "heroku_triggers"] {
        assert_eq!(not_ok.get(name), Some(&"cannot_run"), "{name}: {}", examined.ended);
    }
}

#[tokio::test]
async fn rights_to_spare_are_named_and_revoked() {
    let healthy = Healthy::start().await;
    let Roles { bell, bridge, .. } = &healthy.roles;
    let (source, target) = (&[("source_excess", "advice")][..], &[("target_excess", "advice")][..]);
    let damages = [
        (
            false,
            format!("grant update, delete on schools to {bell}"),
            source,
            "update on public.schools",
        ),
        (
            false,
            format!("grant truncate on schoolbell.change to {bell}"),
            &[("own_rights", "failed")][..],
            "truncate on schoolbell.change",
        ),
        (false, format!("alter role {bell} createdb createrole"), source, "createrole"),
        (
            true,
            format!("grant delete on salesforce.contact to {bridge}"),
            target,
            "delete on salesforce.contact",
        ),
        (
            true,
            format!("grant insert on salesforce.contact to {bridge}"),
            target,
            "insert on salesforce.contact",
        ),
        (
            true,
            "grant truncate on salesforce.editor__c to public".to_string(),
            target,
            "truncate on salesforce.editor__c",
        ),
        (
            false,
            format!(
                "create role {bell}_group; grant insert on roles to {bell}_group; grant {bell}_group to {bell}"
            ),
            source,
            "insert on public.roles",
        ),
        (true, format!("alter role {bridge} bypassrls"), target, "bypassrls"),
        (
            false,
            format!("grant pg_execute_server_program to {bell}"),
            source,
            "pg_execute_server_program",
        ),
        (
            true,
            format!(
                "create role {bridge}_boss superuser; alter role {bridge} noinherit; grant {bridge}_boss to {bridge}"
            ),
            target,
            "membership of",
        ),
    ];
    for (in_target, sql, not_ok, says) in damages {
        let damage = Damage { in_target, sql, not_ok, says: &[says], remedy: "" };
        found_and_cured(&healthy, &damage).await;
    }

    // A superuser is one piece of advice, not one for each of its rights.
    let Examined { report, .. } = Examined::of(healthy.bell.run(&["doctor", "--json"]).await);
    for name in ["source_excess", "target_excess"] {
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        assert_eq!(
            (&check["result"], &check["found"]),
            (&"advice".into(), &"postgres is a superuser".into())
        );
    }
}

#[tokio::test]
async fn a_missing_unique_index_is_advice_with_the_statement_that_makes_it() {
    let healthy = Healthy::start().await;
    found_and_cured(
        &healthy,
        &Damage {
            in_target: true,
            sql: "drop index salesforce.hcu_idx_editor__c_editoruuid__c".into(),
            not_ok: &[("unique_keys", "advice")],
            says: &["object school: salesforce.editor__c has no unique index on editoruuid__c", "makes the table anew"],
            remedy: "create unique index concurrently on \"salesforce\".\"editor__c\" (\"editoruuid__c\");",
        },
    )
    .await;

    // Rows that have one key already would be in the way of the index.
    healthy
        .bell
        .target_sql(
            "drop index salesforce.hcu_idx_contact_pi_accounts_unique_id__c; \
         insert into salesforce.contact (pi_accounts_unique_id__c) values ('a'), ('a'), ('b')",
        )
        .await;
    let twice = healthy.doctor().await;
    twice.assert_not_ok(&[("unique_keys", "failed")]);
    let remedies = twice.remedies("unique_keys");
    let (_, find) = remedies.iter().find(|(place, _)| place == "target").unwrap();
    assert_eq!(healthy.bell.target_texts(find).await, ["a"]);
    healthy.bell.target_sql("delete from salesforce.contact").await;
    healthy.pastes(&remedies).await;
    healthy.doctor().await.assert_not_ok(&[]);
}

#[tokio::test]
async fn what_makes_a_write_reach_salesforce_is_looked_at_and_mended() {
    let healthy = Healthy::start().await;
    let bridge = &healthy.roles.bridge;
    let damages = [
        (format!("alter role {bridge} set search_path = ''"), ("search_path", "failed"), "every write will fail", "set search_path = \"$user\", public;"),
        (
            "create schema heroku_ext; grant usage on schema heroku_ext to public; alter extension hstore set schema \
             heroku_ext".into(),
            ("search_path", "failed"),
            "hstore() not found",
            "\"heroku_ext\"",
        ),
        (
            format!("alter role {bridge} set session_replication_role = 'replica'"),
            ("heroku_triggers", "failed"),
            "no trigger fires",
            "set session_replication_role = origin;",
        ),
        (
            "alter table salesforce.contact disable trigger hc_contact_logtrigger".into(),
            ("heroku_triggers", "failed"),
            "hc_contact_logtrigger on salesforce.contact is disabled",
            "enable trigger",
        ),
    ];
    for (sql, not_ok, says, remedy) in damages {
        let damage = Damage { in_target: true, sql, not_ok: &[not_ok], says: &[says], remedy };
        found_and_cured(&healthy, &damage).await;
    }

    healthy.bell.target_sql("drop trigger hc_editor__c_logtrigger on salesforce.editor__c").await;
    let broken = healthy.doctor().await;
    broken.assert_not_ok(&[("heroku_triggers", "failed")]);
    assert!(
        broken.found("heroku_triggers").contains("salesforce.editor__c has no trigger"),
        "{}",
        broken.ended
    );
}

#[tokio::test]
async fn a_mapping_that_does_not_fit_is_told_by_object_and_field_and_what_needs_it_cannot_run() {
    let healthy = Healthy::start().await;
    healthy.bell.target_sql("alter table salesforce.editor__c drop postcode__c").await;

    let broken = healthy.doctor().await;

    broken.assert_not_ok(&[
        ("mapping_target", "failed"),
        ("text_lengths", "cannot_run"),
        ("source_rights", "cannot_run"),
        ("target_rights", "cannot_run"),
    ]);
    let details = broken.check("mapping_target")["details"].to_string();
    assert!(
        details
            .contains("object school: postcode__c: salesforce.editor__c has no column postcode__c"),
        "{details}"
    );
    healthy.bell.target_sql("alter table salesforce.editor__c add postcode__c varchar(40)").await;
    healthy.bell.source_sql("alter table schools rename postal_code to post_code").await;
    let broken = healthy.doctor().await;
    assert_eq!(broken.not_ok().get("mapping_source"), Some(&"failed"), "{}", broken.ended);
    assert_eq!(broken.not_ok().get("triggers"), Some(&"cannot_run"), "{}", broken.ended);
    let details = broken.check("mapping_source")["details"].to_string();
    assert!(details.contains("object school: postcode__c: "), "{details}");
}
