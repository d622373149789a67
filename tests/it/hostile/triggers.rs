//! The capture functions run with the rights of the table's owner. No other role can gain these.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::Client;

use super::schema::result;
use crate::hostile::privileges::{Roles, as_role, granted};
use crate::support::TestBell;

/// What an attacker makes: a table whose column has a type of his own (an enum: JSON does not look for the casts of a
/// composite type), with casts that run his code, and one of our
/// functions as its trigger. His code notes who runs it.
const EVIL: &str = "
    create temporary table caught (who name);
    grant insert on caught to public;
    create type pg_temp.evil as enum ('1', '2');
    create function pg_temp.to_json(pg_temp.evil) returns json language plpgsql as $$
    begin
        insert into caught values (current_user);
        return '1';
    end $$;
    create function pg_temp.to_text(pg_temp.evil) returns text language plpgsql as $$
    begin
        insert into caught values (current_user);
        return 'x';
    end $$;
    create cast (pg_temp.evil as json) with function pg_temp.to_json(pg_temp.evil);
    create cast (pg_temp.evil as text) with function pg_temp.to_text(pg_temp.evil) as implicit;
    create temporary table schools (id pg_temp.evil, creator_id pg_temp.evil, name pg_temp.evil);
";

async fn session(bell: &TestBell, role: &str) -> Client {
    let url = as_role(&bell.source_url(), role);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn code(error: &tokio_postgres::Error) -> &str {
    error.code().map(tokio_postgres::error::SqlState::code).unwrap_or_default()
}

/// A role that may use schema `schoolbell`, one that may not, and everybody between.
async fn attackers(bell: &TestBell, roles: &Roles) -> Vec<String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (nobody, user) = (format!("nobody_{number}"), format!("user_{number}"));
    bell.on_every_server(&format!("create role {nobody} login; create role {user} login")).await;
    bell.source_sql(&format!(
        "grant usage on schema schoolbell to {user}; grant temporary on database {} to public",
        bell.source_name
    ))
    .await;
    vec![nobody, user, roles.bell.clone(), roles.app.clone()]
}

async fn functions(bell: &TestBell) -> Vec<String> {
    bell.source_texts(
        "select p.proname::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where n.nspname = 'schoolbell' order by 1",
    )
    .await
}

#[tokio::test]
async fn no_function_of_ours_can_be_called_or_attached_by_anybody_but_its_owner() {
    let (bell, roles) = granted().await;
    let functions = functions(&bell).await;
    assert!(functions.len() >= 2, "{functions:?}");

    for attacker in attackers(&bell, &roles).await {
        let session = session(&bell, &attacker).await;
        session.batch_execute(EVIL).await.unwrap();
        for function in &functions {
            let attach = format!(
                "create trigger t before insert on pg_temp.schools for each row execute function schoolbell.{function}()"
            );
            let refused = session.batch_execute(&attach).await.unwrap_err();
            assert_eq!(code(&refused), "42501", "{attacker} attaches {function}: {refused:?}");
        }
    }
    // Not even by those who were granted everything by default.
    let open = bell
        .source_texts(
            "select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace, \
             aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a \
             where n.nspname = 'schoolbell' and a.grantee <> p.proowner",
        )
        .await;
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test]
async fn on_another_table_a_capture_function_does_nothing_even_for_who_may_attach_it() {
    let (bell, roles) = granted().await;
    let functions = functions(&bell).await;

    for attacker in attackers(&bell, &roles).await {
        // A mistake of the owner's, or a trigger that was created before the functions were closed.
        bell.source_sql(&format!(
            "grant usage on schema schoolbell to {attacker}; \
             grant execute on all functions in schema schoolbell to {attacker}"
        ))
        .await;
        let session = session(&bell, &attacker).await;
        session.batch_execute(EVIL).await.unwrap();
        for function in &functions {
            session
                .batch_execute(&format!(
                    "create trigger t_{0} after insert or update or delete on pg_temp.schools \
                     for each row execute function schoolbell.{0}(); \
                     create trigger s_{0} after truncate on pg_temp.schools \
                     for each statement execute function schoolbell.{0}()",
                    &function
                ))
                .await
                .unwrap();
        }
        session
            .batch_execute(
                "insert into pg_temp.schools values ('1', '2', '1'); \
                 update pg_temp.schools set id = '2', name = '2'; delete from pg_temp.schools; \
                 truncate pg_temp.schools",
            )
            .await
            .unwrap();
        let caught = session.query("select distinct who::text from caught", &[]).await.unwrap();
        let caught: Vec<String> = caught.iter().map(|row| row.get(0)).collect();
        assert!(caught.is_empty(), "{attacker} ran code as {caught:?}");
    }
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 0, "forged");
}

/// The functions keep the rights of the former owner until the next `migrate`.
#[tokio::test]
async fn whoever_is_given_a_captured_table_runs_nothing_as_its_former_owner() {
    let (bell, roles) = granted().await;
    let heir = format!("heir_{}", bell.source_name);
    bell.on_every_server(&format!("create role {heir} login")).await;
    bell.insert_school("Acme").await;
    bell.source_sql(&format!(
        "truncate schoolbell.change; alter table schools owner to {heir}; \
         grant temporary on database {} to {heir}; grant create, usage on schema public to {heir}",
        bell.source_name
    ))
    .await;
    let owner = bell.source_texts(
        "select distinct pg_get_userbyid(proowner) from pg_proc where pronamespace = 'schoolbell'::regnamespace",
    );
    assert_eq!(owner.await, [roles.owner.as_str()]);

    let session = session(&bell, &heir).await;
    session.batch_execute(&EVIL.replace("pg_temp.evil", "public.evil")).await.unwrap();
    session
        .batch_execute(
            "drop table pg_temp.schools; \
             create function pg_temp.to_int(public.evil) returns int language plpgsql as $$
             begin
                 insert into pg_temp.caught values (current_user);
                 return 1;
             end $$;
             create cast (public.evil as int) with function pg_temp.to_int(public.evil) as implicit;
             create function public.same(public.evil, public.evil) returns boolean language plpgsql as $$
             begin
                 insert into pg_temp.caught values (current_user);
                 return true;
             end $$;
             create operator public.<> (leftarg = public.evil, rightarg = public.evil, function = public.same);
             drop trigger schoolbell_delete on schools; \
             alter table schools alter column id drop default, \
                 alter column id type public.evil using '1', \
                 alter column name type public.evil using '1', \
                 alter column updated_at type public.evil using '1'; \
             update schools set name = '2'; update schools set id = '2'; update schools set updated_at = '2'",
        )
        .await
        .unwrap();

    let caught = session.query("select distinct who::text from caught", &[]).await.unwrap();
    let caught: Vec<String> = caught.iter().map(|row| row.get(0)).collect();
    assert!(caught.is_empty(), "{heir} ran code as {caught:?}");
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 4, "captured");
}

#[tokio::test]
async fn partitions_and_a_renamed_table_are_captured_all_the_same() {
    let bell = TestBell::bare().await;
    bell.source_sql(
        "alter table schools rename to old_schools; \
         create table schools (like old_schools including defaults, primary key (id)) partition by hash (id); \
         create table schools_0 partition of schools for values with (modulus 2, remainder 0); \
         create table schools_1 partition of schools for values with (modulus 2, remainder 1)",
    )
    .await;
    bell.run_ok(&["migrate"]).await;

    for name in ["Acme", "Beta", "Gamma", "Delta", "Epsilon"] {
        bell.insert_school(name).await;
    }
    let captured = "select count(*) from schoolbell.change where operation = 'INSERT'";
    assert_eq!(bell.source_count(captured).await, 5);

    bell.source_sql(
        "alter table schools rename to academies; update academies set name = name || '!'",
    )
    .await;
    let captured = "select count(*) from schoolbell.change where operation = 'UPDATE'";
    assert_eq!(bell.source_count(captured).await, 5, "under its new name");
}

#[tokio::test]
async fn where_a_superuser_migrates_the_functions_have_the_rights_of_the_tables_owners_alone() {
    let bell = TestBell::bare().await;
    let (one, other) = (format!("one_{}", bell.source_name), format!("other_{}", bell.source_name));
    bell.on_every_server(&format!("create role {one} login; create role {other} login")).await;
    bell.source_sql(&format!(
        "alter table schools owner to {one}; alter table roles owner to {other}; \
         alter default privileges grant execute on functions to public"
    ))
    .await;

    bell.run_ok(&["migrate"]).await;

    let owners = "select distinct c.relname || ' ' || pg_get_userbyid(p.proowner) from pg_trigger t \
                  join pg_class c on c.oid = t.tgrelid join pg_proc p on p.oid = t.tgfoid \
                  where t.tgname like 'schoolbell%' order by 1";
    let wanted = [format!("roles {other}"), format!("schools {one}")];
    assert_eq!(bell.source_texts(owners).await, wanted);
    // They can do their work, and the owners got no further right, so nothing is reported.
    let doctor = bell.run(&["doctor", "--json"]).await;
    assert_eq!(result(&doctor.stdout, "own_rights"), "ok", "{doctor}");
    bell.source_sql(&format!("set role {one}")).await;
    bell.insert_school("Acme").await;
    bell.source_sql("update schools set name = 'Beta'; delete from schools; reset role").await;
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 3);
    let create = format!("select has_schema_privilege('{one}', 'schoolbell', 'create')::text");
    assert_eq!(bell.source_texts(&create).await, ["false"]);
    bell.run_ok(&["migrate"]).await;
    let status = bell.run(&["status"]).await;
    assert!(status.stdout.contains("capture    installed"), "{status}");

    // A table gets another owner: its function runs with the former one's rights until it is migrated.
    bell.source_sql(&format!("alter table schools owner to {other}")).await;
    let status = bell.run(&["status"]).await;
    assert!(status.code == 1 && status.stdout.contains("not its table owner's"), "{status}");
    bell.run_ok(&["migrate"]).await;
    assert_eq!(bell.source_texts(owners).await[1], format!("schools {other}"));
    let status = bell.run(&["status"]).await;
    assert!(status.stdout.contains("capture    installed"), "{status}");
}

/// Schools by their names, which a change of a role's kind touches.
const TOUCHED_BY_KIND: &str = r#"
version = 1
[object.school]
source = "schools"
key = "id"
target = "editor__c"
external_id = "editoruuid__c"
[object.school.fields]
name = "name"
[[object.school.touched_by]]
table = "roles"
columns = ["role"]
keys = "select changed.school_id from changed where changed.kind is not null"
"#;

/// JSON looks for a cast of each type that is not built in, and the type's owner may have made one.
#[tokio::test]
async fn a_key_is_recorded_without_the_casts_of_its_type_s_owner() {
    let bell = TestBell::bare().await;
    let maker = format!("maker_{}", bell.source_name);
    bell.on_every_server(&format!("create role {maker}")).await;
    bell.source_sql(&format!(
        "grant usage, create on schema public to {maker}; \
         create table caught (who name); grant insert on caught to public; set role {maker}; \
         create type kind as enum ('a'); \
         create function kind_to_json(kind) returns json language plpgsql as \
         $$begin insert into public.caught values (current_user); return '1'; end$$; \
         create cast (kind as json) with function kind_to_json(kind); reset role; \
         alter table roles add column kind kind default 'a'"
    ))
    .await;
    let file = bell.mapping_file(TOUCHED_BY_KIND);
    bell.run_ok(&["migrate", "--mapping", file.to_str().unwrap()]).await;

    let school = bell.insert_school("Acme").await;
    bell.insert_role(&school, 1).await;
    bell.source_sql("update roles set role = 2; delete from roles").await;

    assert!(bell.source_texts("select who::text from caught").await.is_empty());
    let kinds = "select keys ->> 'kind' from schoolbell.change where source_table = 'public.roles' order by id";
    assert_eq!(bell.source_texts(kinds).await, ["a"; 3]);
}

#[tokio::test]
async fn a_function_that_no_trigger_calls_any_more_is_dropped() {
    let bell = TestBell::installed().await;
    assert!(functions(&bell).await.iter().any(|name| name.contains("roles")));
    let (schools, _) = TOUCHED_BY_KIND.split_once("[[").unwrap();
    let file = bell.mapping_file(schools);

    bell.run_ok(&["migrate", "--mapping", file.to_str().unwrap()]).await;

    assert_eq!(functions(&bell).await, ["capture_public_schools"]);
}

#[tokio::test]
async fn functions_that_an_older_release_left_open_are_found_and_closed() {
    let (bell, roles) = granted().await;
    let owner = as_role(&bell.source_url(), &roles.owner);
    for open_to in ["public", &roles.bell] {
        bell.source_sql(&format!(
            "grant execute on all functions in schema schoolbell to {open_to}"
        ))
        .await;

        let status = roles.run(&bell, &["status"]).await;
        assert!(status.code == 1 && status.stdout.contains("open to others"), "{status}");
        assert!(!status.stdout.contains("Changes may be missed"), "{status}");
        let doctor = roles.run(&bell, &["doctor"]).await;
        assert!(doctor.stdout.contains("execute on function schoolbell.capture_"), "{doctor}");

        let migrated = bell.run(&["migrate", "--source-url", &owner]).await;
        assert!(migrated.code == 0 && migrated.stdout.contains("open to others"), "{migrated}");
        let status = roles.run(&bell, &["status"]).await;
        assert!(status.stdout.contains("capture    installed"), "{status}");
    }
}

/// The owner of the tables may have made the schema, and a superuser migrates.
#[tokio::test]
async fn migrate_calls_nothing_that_it_finds_in_the_schema() {
    let bell = TestBell::bare().await;
    let owner = format!("owner_{}", bell.source_name);
    bell.on_every_server(&format!("create role {owner} login")).await;
    bell.source_sql(&format!(
        "alter table schools owner to {owner}; alter table roles owner to {owner}; \
         grant create on database {} to {owner}; set role {owner}; create schema schoolbell; \
         create function schoolbell.notify_mode() returns text language plpgsql as \
         $$begin alter role {owner} superuser; return 'never'; end$$; reset role",
        bell.source_name
    ))
    .await;

    let migrated = bell.run(&["migrate"]).await;

    assert_eq!(migrated.code, 0, "{migrated}");
    let superuser = format!("select rolsuper::text from pg_roles where rolname = '{owner}'");
    assert_eq!(bell.source_texts(&superuser).await, ["false"]);
    assert!(functions(&bell).await.iter().all(|name| name.starts_with("capture_")));
}

#[tokio::test]
async fn what_the_release_before_installed_goes_on_and_is_closed_by_the_next_migrate() {
    let (bell, roles) = granted().await;
    // As the release before had it: open functions, one of which says when the triggers ring.
    bell.source_sql(&format!(
        "alter table schoolbell.parked drop column id, add primary key (object, key); \
         drop index schoolbell.parked_key, schoolbell.parked_awaits; \
         create index parked_awaits on schoolbell.parked (awaits, awaits_key) where state = 'waiting'; \
         alter table schoolbell.resync drop column asked, drop column retrying, drop column dismissed_at; \
         drop table schoolbell.pairing, schoolbell.shape, schoolbell.installation; delete from schoolbell.refinery_schema_history where version >= 8; \
         set role {}; \
         create function schoolbell.notify_mode() returns text language sql immutable as \
         $schoolbell$select 'never'::pg_catalog.text$schoolbell$; \
         grant execute on all functions in schema schoolbell to public; reset role",
        roles.owner
    ))
    .await;

    let owner = as_role(&bell.source_url(), &roles.owner);
    let migrated = bell.run(&["migrate", "--source-url", &owner]).await;
    assert_eq!(migrated.code, 0, "{migrated}");

    assert_eq!(
        bell.source_texts("select notify_mode from schoolbell.installation").await,
        ["never"]
    );
    let open = "select count(*) from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a \
                where p.pronamespace = 'schoolbell'::regnamespace and a.grantee <> p.proowner";
    assert_eq!(bell.source_count(open).await, 0);
    // The service's role sees what it needs without a new grant.
    let status = roles.run(&bell, &["status"]).await;
    assert!(status.stdout.contains("notify mode never"), "{status}");
}
