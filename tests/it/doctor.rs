//! `doctor` on real servers: a system that is well, and one thing after the other that is broken on purpose. Each
//! is found by its own check and no other, and what the check says to paste mends it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schoolbell::demo::cluster::Shutdown;
use schoolbell::reports::doctor::{self, Limits, Place, Remedy, Report, Verdict};
use serde_json::Value;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::deaf::NoNotices;
use crate::pooler::{Options, Pooler};
use crate::privileges::{Roles, as_role, granted};
use crate::support::program::{Ended, Program};
use crate::support::proxy::Proxy;
use crate::support::{TestBell, eventually};

/// In rows of these tests. No report may ever hold it.
const MARKER: &str = "Zebrafink";
/// "SCHBWRIT", as in `src/apply/writer.rs`.
const WRITER_LOCK: i64 = 0x5343_4842_5752_4954;
/// Every limit within the doctor, one after the other, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A system as the book has it: roles with its grants, and a service that runs with them.
struct Healthy {
    bell: TestBell,
    roles: Roles,
}

impl Healthy {
    async fn start() -> Self {
        let (mut bell, roles) = granted().await;
        bell.source_sql(&format!("grant pg_read_all_stats to {}", roles.bell)).await;
        bell.source_through(&as_role(&bell.source_url(), &roles.bell));
        bell.target_through(&as_role(&bell.target_url(), &roles.bridge));
        bell.service_starts();
        let healthy = Self { bell, roles };
        healthy.has_writer().await;
        healthy
    }

    /// Waits until some process holds the writer's lock.
    async fn has_writer(&self) {
        let sql = format!(
            "select count(*) from pg_locks where locktype = 'advisory' and granted and objid = {} and database = \
             (select oid from pg_database where datname = current_database())",
            WRITER_LOCK & 0xffff_ffff
        );
        eventually("there is a writer", || async {
            if self.bell.target_count(&sql).await > 0 { Ok(()) } else { Err("nobody") }
        })
        .await;
    }

    async fn doctor(&self) -> Examined {
        Examined::of(self.roles.run(&self.bell, &["doctor", "--json"]).await)
    }

    /// As a human would who follows the report.
    async fn pastes(&self, remedies: &[(String, String)]) {
        for (place, text) in remedies {
            match place.as_str() {
                "source" => self.bell.source_sql(text).await,
                "target" => self.bell.target_sql(text).await,
                "shell" => {
                    let words: Vec<&str> = text.split(' ').collect();
                    assert_eq!(words[0], "schoolbell", "{text}");
                    self.bell.run_ok(&words[1..]).await;
                }
                _ => {}
            }
        }
    }
}

/// What the program said.
struct Examined {
    ended: Ended,
    report: Value,
}

impl Examined {
    fn of(ended: Ended) -> Self {
        let report = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended}"));
        Self { ended, report }
    }

    fn checks(&self) -> &Vec<Value> {
        self.report["checks"].as_array().unwrap()
    }

    fn check(&self, name: &str) -> &Value {
        let found = self.checks().iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check {name}: {}", self.ended))
    }

    fn found(&self, name: &str) -> &str {
        self.check(name)["found"].as_str().unwrap()
    }

    /// Where and what.
    fn remedies(&self, name: &str) -> Vec<(String, String)> {
        let remedies = self.check(name)["remedies"].as_array().unwrap();
        let text = |remedy: &Value, key: &str| remedy[key].as_str().unwrap().to_string();
        remedies.iter().map(|remedy| (text(remedy, "place"), text(remedy, "text"))).collect()
    }

    /// The checks that are not ok, with their results.
    fn not_ok(&self) -> BTreeMap<&str, &str> {
        let not_ok = self.checks().iter().filter(|check| check["result"] != "ok");
        not_ok
            .map(|check| (check["name"].as_str().unwrap(), check["result"].as_str().unwrap()))
            .collect()
    }

    /// Exactly these are not ok, and the exit code says so.
    #[track_caller]
    fn assert_not_ok(&self, expected: &[(&str, &str)]) {
        assert_eq!(self.not_ok(), expected.iter().copied().collect(), "{}", self.ended);
        let failed = expected.iter().any(|(_, result)| *result == "failed");
        assert_eq!(self.ended.code, i32::from(failed), "{}", self.ended);
    }
}

/// One thing that is broken, and what is said of it.
struct Damage<'a> {
    /// Whether the SQL is for the target.
    in_target: bool,
    sql: String,
    not_ok: &'a [(&'a str, &'a str)],
    /// Parts of what the first of these checks says.
    says: &'a [&'a str],
    /// What stands in its remedies.
    remedy: &'a str,
}

/// Breaks, looks, pastes the remedy of the first check that is not ok, and looks again.
async fn found_and_cured(healthy: &Healthy, damage: &Damage<'_>) {
    let Damage { in_target, sql, not_ok, says, remedy } = damage;
    match in_target {
        true => healthy.bell.target_sql(sql).await,
        false => healthy.bell.source_sql(sql).await,
    }

    let broken = healthy.doctor().await;

    // A service that lacks something starts anew again and again, and is no writer meanwhile.
    let mut found = broken.not_ok();
    if !not_ok.iter().any(|(name, _)| *name == "writer") {
        found.remove("writer");
    }
    assert_eq!(found, not_ok.iter().copied().collect(), "{}", broken.ended);
    let name = not_ok[0].0;
    let said = broken.check(name).to_string();
    for part in *says {
        assert!(said.contains(part), "{part:?} is missing after {sql}: {said}");
    }
    let remedies = broken.remedies(name);
    assert!(remedies.iter().any(|(_, text)| text.contains(remedy)), "{remedies:?}");
    healthy.pastes(&remedies).await;
    healthy.has_writer().await;
    healthy.doctor().await.assert_not_ok(&[]);
}

#[tokio::test]
async fn a_system_as_the_readme_has_it_is_well_in_every_check() {
    let healthy = Healthy::start().await;

    let examined = healthy.doctor().await;
    let printed = healthy.roles.run(&healthy.bell, &["doctor"]).await;

    examined.assert_not_ok(&[]);
    assert!(examined.found("canary").contains(" ms"), "{}", examined.ended);
    assert!(examined.found("source_connection").contains(&healthy.roles.bell), "{printed}");
    assert!(examined.found("target_connection").contains(&healthy.roles.bridge), "{printed}");
    let process = format!("/{} writes since 20", std::process::id());
    assert!(examined.found("writer").contains(&process), "{printed}");
    assert_eq!(printed.code, 0, "{printed}");
    let checks = examined.checks().len();
    let last = format!("{checks} checks: {checks} ok, 0 with advice, 0 failed, 0 could not run");
    assert_eq!(printed.stdout.lines().count(), checks + 1, "{printed}");
    assert_eq!(printed.stdout.lines().last(), Some(last.as_str()), "{printed}");
}

#[tokio::test]
async fn the_json_has_each_check_of_the_readme_once() {
    let page = include_str!("../../docs/doctor.md");
    let (_, section) = page.split_once("\n## The checks\n").expect("the section is there");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let documented: BTreeSet<&str> = rows.flat_map(|(names, _)| names.split("`, `")).collect();
    let bell = TestBell::bare().await;

    let examined = Examined::of(bell.run(&["doctor", "--json"]).await);

    let names: Vec<&str> =
        examined.checks().iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), documented);
    assert_eq!(names.len(), documented.len(), "one is there twice: {names:?}");
    for check in examined.checks() {
        let keys: Vec<&String> = check.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["details", "found", "name", "remedies", "result", "title"]);
        let result = check["result"].as_str().unwrap();
        assert!(["ok", "advice", "failed", "cannot_run"].contains(&result), "{check}");
        // What fails says what mends it.
        if result == "failed" || result == "advice" {
            assert!(!check["remedies"].as_array().unwrap().is_empty(), "{check}");
        }
    }
    for result in ["ok", "advice", "failed", "cannot_run"] {
        let counted = examined.checks().iter().filter(|check| check["result"] == result).count();
        assert_eq!(examined.report[result], counted, "{}", examined.ended);
    }
}

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
    healthy.bell.source_sql(&format!("revoke select on roles from {bell}; grant select (id, user_id, school_id, created_at, updated_at) on roles to {bell}")).await;
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

    // A superuser is one piece of advice, not one for each right that he has.
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
            "create schema heroku_ext; grant usage on schema heroku_ext to public; alter extension hstore set schema heroku_ext".into(),
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
    healthy.bell.target_sql("delete from salesforce.editor__c; alter table salesforce.editor__c alter editoruuid__c type varchar(18)").await;
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

#[tokio::test]
async fn an_outbox_that_is_never_vacuumed_is_found_and_mended() {
    let healthy = Healthy::start().await;
    found_and_cured(
        &healthy,
        &Damage {
            in_target: false,
            sql: "alter table schoolbell.change set (autovacuum_enabled = false)".into(),
            not_ok: &[("autovacuum", "failed")],
            says: &["switched off for the outbox"],
            remedy: "reset (autovacuum_enabled)",
        },
    )
    .await;
}

#[tokio::test]
async fn sessions_that_are_out_of_sight_are_no_proof_that_all_is_well() {
    let healthy = Healthy::start().await;
    let sql = format!("revoke pg_read_all_stats from {}", healthy.roles.bell);
    found_and_cured(
        &healthy,
        &Damage {
            in_target: false,
            sql,
            not_ok: &[("long_transactions", "cannot_run")],
            says: &["sessions are out of sight"],
            remedy: "grant pg_read_all_stats to",
        },
    )
    .await;
}

/// The library's report, with limits that a test can reach.
async fn examine(healthy: &Healthy, limits: &Limits) -> Report {
    doctor::examine(&healthy.bell.config(), &healthy.bell.mapping, limits).await
}

fn verdict(report: &Report, name: &str) -> Verdict {
    report.check(name).unwrap_or_else(|| panic!("no check {name}")).diagnosis.result
}

fn to_paste(report: &Report, name: &str, place: Place) -> Vec<String> {
    let remedies = &report.check(name).unwrap().diagnosis.remedies;
    let of_place = remedies.iter().filter(|remedy| remedy.place == place);
    of_place.map(|Remedy { text, .. }| text.clone()).collect()
}

#[tokio::test]
async fn a_long_transaction_is_named_without_its_query_and_ended_by_what_is_pasted() {
    let healthy = Healthy::start().await;
    let limits = Limits { transaction: Duration::from_secs(1), ..Limits::default() };
    let long = healthy.bell.source_session().await;
    long.batch_execute(&format!("set application_name = 'nightly'; begin; select '{MARKER}'"))
        .await
        .unwrap();
    let pid: i32 = long.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let age = format!(
        "select extract(epoch from clock_timestamp() - xact_start)::int8 from pg_stat_activity where pid = {pid}"
    );
    eventually("the transaction is long", || async {
        let age = healthy.bell.source_count(&age).await;
        if age > 1 { Ok(()) } else { Err(age) }
    })
    .await;

    let report = examine(&healthy, &limits).await;

    assert_eq!(verdict(&report, "long_transactions"), Verdict::Advice, "{report:?}");
    let said = format!("{:?}", report.check("long_transactions"));
    assert!(
        said.contains(&format!(
            "process {pid} (nightly) of postgres, idle in transaction, since 20"
        )),
        "{said}"
    );
    assert!(!said.contains(MARKER), "{said}");
    for sql in to_paste(&report, "long_transactions", Place::Source) {
        healthy.bell.source_sql(&sql).await;
    }
    gone(&healthy.bell.source, pid).await;
    let report = examine(&healthy, &limits).await;
    assert_eq!(verdict(&report, "long_transactions"), Verdict::Ok, "{report:?}");
}

async fn gone(client: &Client, pid: i32) {
    eventually("the session has ended", || async {
        let sql = "select 1 from pg_stat_activity where pid = $1";
        match client.query(sql, &[&pid]).await.unwrap().len() {
            0 => Ok(()),
            left => Err(left),
        }
    })
    .await;
}

#[tokio::test]
async fn prepared_transactions_are_told_of_and_ended_by_what_is_pasted() {
    let healthy = Healthy::start().await;
    let gid = format!("it's {}", healthy.bell.source_name);
    let quoted = gid.replace('\'', "''");
    healthy.bell.source_sql("begin; create table two_phases ()").await;
    healthy.bell.source_sql(&format!("prepare transaction '{quoted}'")).await;

    let short = healthy.doctor().await;
    let long =
        examine(&healthy, &Limits { transaction: Duration::ZERO, ..Limits::default() }).await;

    short.assert_not_ok(&[("prepared_transactions", "advice")]);
    assert_eq!(
        short.remedies("prepared_transactions"),
        [("shell".into(), "schoolbell migrate --notify never".into())]
    );
    let said = format!("{:?}", long.check("prepared_transactions"));
    assert!(said.contains(&format!("{gid} of postgres, since 20")), "{said}");
    healthy.pastes(&short.remedies("prepared_transactions")).await;
    healthy.doctor().await.assert_not_ok(&[]);
    for sql in to_paste(&long, "prepared_transactions", Place::Source) {
        healthy.bell.source_sql(&sql).await;
    }
    let none = healthy.doctor().await;
    assert_eq!(none.found("prepared_transactions"), "none");
}

#[tokio::test]
async fn nobody_and_somebody_else_at_the_writer_s_lock_are_told_apart() {
    let mut healthy = Healthy::start().await;
    healthy.bell.service_stops().await;

    let nobody = healthy.doctor().await;
    healthy.bell.insert_school("Acme").await;
    let pending = healthy.doctor().await;

    nobody.assert_not_ok(&[("writer", "advice")]);
    pending.assert_not_ok(&[("writer", "failed")]);
    assert!(pending.found("writer").contains("1 change pending"), "{}", pending.ended);
    for examined in [&nobody, &pending] {
        assert!(examined.remedies("writer")[0].1.contains("schoolbell run"), "{}", examined.ended);
    }

    let stranger = healthy.bell.target_session().await;
    stranger.execute("select pg_advisory_lock($1)", &[&WRITER_LOCK]).await.unwrap();
    let pid: i32 = stranger.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let held = healthy.doctor().await;
    held.assert_not_ok(&[("writer", "failed")]);
    assert!(held.found("writer").contains(&format!("session {pid} ")), "{}", held.ended);
    healthy.pastes(&held.remedies("writer")).await;
    gone(&healthy.bell.target, pid).await;
    healthy.bell.service_starts();
    healthy.has_writer().await;
    healthy.bell.caught_up().await;
    healthy.doctor().await.assert_not_ok(&[]);
}

#[tokio::test]
async fn a_database_that_is_not_reached_leaves_the_other_s_checks_as_they_are() {
    let healthy = Healthy::start().await;
    let nowhere = "postgres://somebody:hunter2secret@127.0.0.1:1/nowhere";
    let program = |source: &str, target: &str, arguments: &[&str]| {
        Program::new(arguments)
            .env("DATABASE_URL", source)
            .env("SALESFORCE_CONNECT_URL", target)
            .env("SALESFORCE_ENABLED", "true")
    };
    let source = as_role(&healthy.bell.source_url(), &healthy.roles.bell);
    let target = as_role(&healthy.bell.target_url(), &healthy.roles.bridge);
    let json = ["doctor", "--json"];

    let no_source = Examined::of(program(nowhere, &target, &json).run().await);
    let no_target = Examined::of(program(&source, nowhere, &json).run().await);
    let neither = Examined::of(program(nowhere, nowhere, &json).run().await);
    let printed = program(&source, nowhere, &["doctor"]).run().await;

    for (examined, setting, here, there) in [
        (&no_source, "DATABASE_URL", "source", "target"),
        (&no_target, "SALESFORCE_CONNECT_URL", "target", "source"),
    ] {
        assert_eq!(examined.ended.code, 1, "{}", examined.ended);
        let connection = format!("{here}_connection");
        assert!(
            examined.found(&connection).contains("nowhere on 127.0.0.1:1"),
            "{}",
            examined.ended
        );
        assert!(examined.remedies(&connection)[0].1.contains(setting), "{}", examined.ended);
        for (name, result) in examined.not_ok() {
            assert_eq!(result == "failed", name == connection, "{name}: {}", examined.ended);
            assert!(name == connection || result == "cannot_run", "{name}: {}", examined.ended);
        }
        let version = examined.check(&format!("{there}_version"));
        assert_eq!(version["result"], "ok", "{}", examined.ended);
        assert_eq!(examined.check(&format!("{here}_version"))["result"], "cannot_run");
        assert!(!examined.ended.to_string().contains("hunter2secret"), "{}", examined.ended);
    }
    assert_eq!(no_target.check("canary")["result"], "ok", "{}", no_target.ended);
    assert_eq!(no_source.check("search_path")["result"], "ok", "{}", no_source.ended);
    assert_eq!(
        (neither.ended.code, &neither.report["failed"]),
        (1, &2.into()),
        "{}",
        neither.ended
    );
    assert_eq!(neither.report["ok"], 1, "only SALESFORCE_ENABLED: {}", neither.ended);
    assert_eq!(printed.code, 1, "{printed}");
    assert!(printed.stdout.contains("\nFAILED   target "), "{printed}");
    assert!(printed.stdout.contains("\n         $ psql \"$SALESFORCE_CONNECT_URL\""), "{printed}");
    assert!(printed.stdout.contains("\nnot run  target version "), "{printed}");
}

#[tokio::test]
async fn a_server_that_says_nothing_holds_up_nobody_for_ever() {
    let healthy = Healthy::start().await;
    let proxy = Proxy::start(healthy.bell.target_cluster().port()).await;
    proxy.stall();
    let program = healthy
        .roles
        .program(&healthy.bell, &["doctor", "--json"])
        .env("SALESFORCE_CONNECT_URL", &proxy.url(&healthy.bell.target_name));

    let ended = timeout(PATIENCE, program.run()).await.expect("it ends");

    let examined = Examined::of(ended);
    assert!(examined.found("target_connection").contains("no answer within"), "{}", examined.ended);
    assert_eq!(examined.check("triggers")["result"], "ok", "{}", examined.ended);
}

#[tokio::test]
async fn a_table_that_somebody_holds_locked_is_neither_sound_nor_at_fault() {
    let healthy = Healthy::start().await;
    let locking = healthy.bell.source_session().await;
    locking.batch_execute("begin; lock table schools").await.unwrap();

    let examined = timeout(PATIENCE, healthy.doctor()).await.expect("it ends");

    for name in ["mapping_source", "triggers", "text_lengths", "source_rights"] {
        assert_eq!(examined.not_ok().get(name), Some(&"cannot_run"), "{}", examined.ended);
    }
    assert!(examined.found("mapping_source").contains("lock timeout"), "{}", examined.ended);
    assert_eq!((examined.ended.code, examined.check("canary")["result"].as_str()), (0, Some("ok")));
    locking.batch_execute("rollback").await.unwrap();
    healthy.doctor().await.assert_not_ok(&[]);
}

#[tokio::test]
async fn a_listener_that_hears_nothing_is_told_with_the_pooler_that_it_may_be() {
    let healthy = Healthy::start().await;
    let deaf = NoNotices::start(healthy.bell.cluster().port()).await;
    let url = format!(
        "postgres://{}@127.0.0.1:{}/{}?sslmode=disable",
        healthy.roles.bell, deaf.port, healthy.bell.source_name
    );
    let program =
        healthy.roles.program(&healthy.bell, &["doctor", "--json"]).env("DATABASE_URL", &url);

    let examined = Examined::of(program.run().await);

    examined.assert_not_ok(&[("canary", "failed")]);
    assert!(
        examined.found("canary").contains("a pooler in transaction mode"),
        "{}",
        examined.ended
    );
    assert!(
        examined
            .remedies("canary")
            .iter()
            .any(|(_, text)| text == "schoolbell migrate --notify never")
    );
}

#[tokio::test]
async fn a_pooler_is_advice_before_the_source_and_a_failure_before_the_target() {
    for options in [Options::Refused, Options::Ignored] {
        let healthy = Healthy::start().await;
        let bell = &healthy.bell;
        let Some(pooler) = Pooler::start(bell.cluster(), options).await else { return };
        let examine = async |source: &str, target: &str| {
            let program = Program::new(&["doctor", "--json"])
                .env("DATABASE_URL", source)
                .env("SALESFORCE_CONNECT_URL", target)
                .env("SALESFORCE_ENABLED", "true");
            Examined::of(timeout(PATIENCE, program.run()).await.expect("it ends"))
        };
        let Some(targets) = Pooler::start(bell.target_cluster(), options).await else { return };
        let (pooled_source, pooled_target) =
            (pooler.url(&bell.source_name), targets.url(&bell.target_name));
        let direct_source = as_role(&bell.source_url(), &healthy.roles.bell);
        let direct_target = as_role(&bell.target_url(), &healthy.roles.bridge);

        let source = examine(&pooled_source, &direct_target).await;
        let target = examine(&direct_source, &pooled_target).await;

        // The pooler is a superuser to the server.
        let expected =
            [("source_pooler", "advice"), ("canary", "cannot_run"), ("source_excess", "advice")];
        source.assert_not_ok(&expected);
        let remedies = source.remedies("source_pooler");
        assert!(
            remedies.iter().any(|(_, text)| text.contains("direct connection")),
            "{remedies:?}"
        );
        target.assert_not_ok(&[("target_pooler", "failed"), ("target_excess", "advice")]);
        bell.run_ok(&["migrate", "--notify", "never"]).await;
        let never = examine(&pooled_source, &direct_target).await;
        never.assert_not_ok(&expected[1..]);
    }
}

#[tokio::test]
async fn a_standby_is_a_failed_connection() {
    let mut bell = TestBell::in_a_cluster_of_its_own(&["wal_level = replica"]).await;
    bell.service_stops().await;
    bell.cluster().shut_down(Shutdown::Fast).await.unwrap();
    std::fs::write(bell.cluster().folder().join("data").join("standby.signal"), "").unwrap();
    bell.cluster().start_up().await.unwrap();

    let examined = Examined::of(bell.run(&["doctor", "--json"]).await);

    assert_eq!(examined.ended.code, 1, "{}", examined.ended);
    for name in ["source_connection", "target_connection"] {
        assert_eq!(examined.not_ok().get(name), Some(&"failed"), "{}", examined.ended);
        assert!(examined.found(name).contains("standby in recovery"), "{}", examined.ended);
    }
    assert_eq!(examined.check("triggers")["result"], "ok", "{}", examined.ended);
}

#[tokio::test]
async fn limits_that_are_passed_are_told() {
    let healthy = Healthy::start().await;
    let limits =
        Limits { clock: Duration::ZERO, queue: 0.0, dead_rows: -1, rows: 1, ..Limits::default() };
    healthy.bell.insert_school("A").await;
    healthy.bell.insert_school("B").await;
    healthy.bell.caught_up().await;

    let report = examine(&healthy, &limits).await;

    assert_eq!(verdict(&report, "clocks"), Verdict::Advice, "{report:?}");
    for queue in ["notification_queue", "target_queue"] {
        assert_eq!(verdict(&report, queue), Verdict::Failed, "{report:?}");
    }
    assert_eq!(verdict(&report, "autovacuum"), Verdict::Advice, "{report:?}");
    assert_eq!(to_paste(&report, "autovacuum", Place::Source), ["vacuum schoolbell.change;"]);
    healthy.bell.source_sql("vacuum schoolbell.change;").await;
    let lengths = &report.check("text_lengths").unwrap().diagnosis.found;
    assert!(lengths.contains("among the first 1 rows of"), "{lengths}");
}

#[tokio::test]
async fn it_writes_nothing() {
    let healthy = Healthy::start().await;
    for (in_target, role) in [(false, &healthy.roles.bell), (true, &healthy.roles.bridge)] {
        let sql = format!("alter role {role} set default_transaction_read_only = on");
        match in_target {
            true => healthy.bell.target_sql(&sql).await,
            false => healthy.bell.source_sql(&sql).await,
        }
    }

    healthy.doctor().await.assert_not_ok(&[]);
}
