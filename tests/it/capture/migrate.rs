//! `migrate` and `uninstall`: what they create, what they leave alone, and that they never hold up
//! writers.

use std::time::Duration;

use futures_util::future::join_all;
use schoolbell::capture::schema::{self, Version};
use schoolbell::mapping::BUILT_IN;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::load::stretched;
use crate::support::program::Program;
use crate::support::{SCHOOL_NAMES, TestBell, eventually};

/// Where it is written down which migrations were run.
const HISTORY: &str = "schoolbell.refinery_schema_history";

/// Everything of ours in a database, with the object and row ids that show whether it was touched.
const TOUCHED: &str = "
    select concat_ws(' ', 'trigger', tgrelid::regclass, tgname, oid, xmin) from pg_trigger where tgname like 'schoolbell%'
    union all
    select concat_ws(' ', 'function', proname, oid, xmin) from pg_proc where pronamespace = to_regnamespace('schoolbell')
    union all
    select concat_ws(' ', 'table', relname, oid, xmin) from pg_class where relnamespace = to_regnamespace('schoolbell')
    union all
    select concat_ws(' ', 'comment', objoid, objsubid, description, xmin) from pg_description where classoid in
        ('pg_trigger'::regclass, 'pg_class'::regclass) and objoid >= 16384
    order by 1";

/// Everything of ours in a database, in words that are the same in every database.
const MEANING: &str = "
    select concat_ws(' ', pg_get_triggerdef(oid), tgenabled, obj_description(oid, 'pg_trigger'))
    from pg_trigger where not tgisinternal
    union all
    select concat_ws(' ', pg_get_functiondef(oid), proacl) from pg_proc
    where pronamespace = to_regnamespace('schoolbell')
    union all
    select concat_ws(' ', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
        pg_get_expr(adbin, adrelid))
    from pg_attribute
    join pg_class on pg_class.oid = attrelid
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where relnamespace = to_regnamespace('schoolbell') and relkind in ('r', 'i') and attnum > 0
    union all
    select concat_ws(' ', conrelid::regclass, pg_get_constraintdef(oid)) from pg_constraint
    where connamespace = to_regnamespace('schoolbell')
    union all
    select concat_ws(' ', oid::regclass, reloptions, obj_description(oid, 'pg_class')) from pg_class
    where relnamespace = to_regnamespace('schoolbell')
    order by 1";

/// The tables, columns, constraints and indexes of the schema, in words that are the same on every Postgres.
/// Not-null constraints are left out (Postgres 18 lists them a second time), and so are the names of checks.
const SCHEMA: &str = "
    select format(E'\\ntable %I\\n%s', c.relname, string_agg(line, E'\\n' order by part, place, line))
    from pg_class c
    cross join lateral (
        select 1 as part, a.attnum::int as place, concat_ws(' ', '   ', a.attname, format_type(a.atttypid, a.atttypmod),
            case when a.attnotnull then 'not null' end,
            case a.attidentity when 'a' then 'generated always as identity' end,
            'default ' || pg_get_expr(d.adbin, d.adrelid)) as line
        from pg_attribute a
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        union all
        select 2, 0, '    ' || pg_get_constraintdef(k.oid) from pg_constraint k
        where k.conrelid = c.oid and k.contype <> 'n'
        union all
        select 3, 0, '    ' || pg_get_indexdef(i.indexrelid) from pg_index i where i.indrelid = c.oid
        union all
        select 4, 0, '    with ' || o from unnest(c.reloptions) as o
    ) as lines
    where c.relnamespace = 'schoolbell'::regnamespace and c.relkind = 'r'
    group by c.oid, c.relname
    order by c.relname";

fn ours_on(table: &str) -> String {
    format!(
        "select tgname::text from pg_trigger where tgrelid = '{table}'::regclass and not tgisinternal order by 1"
    )
}

#[tokio::test]
async fn migrating_twice_changes_nothing_the_second_time() {
    let bell = TestBell::bare().await;
    let first = bell.run_ok(&["migrate"]).await;
    let before = bell.source_texts(TOUCHED).await;

    let second = bell.run_ok(&["migrate"]).await;

    assert!(first.contains("migrated V1__outbox"), "{first}");
    assert!(first.contains("triggers of public.schools"), "{first}");
    assert_eq!(second, "nothing to do: schema and triggers are up to date\n");
    assert_eq!(bell.source_texts(TOUCHED).await, before);
}

#[tokio::test]
async fn eight_migrations_at_once_all_succeed_and_leave_one_schema() {
    let alone = TestBell::bare().await;
    alone.run_ok(&["migrate"]).await;
    let bell = TestBell::bare().await;

    let printed = join_all((0..8).map(|_| bell.run_ok(&["migrate"]))).await;

    let worked = printed.iter().filter(|text| text.contains("migrated V1__outbox")).count();
    let idle = printed.iter().filter(|text| text.starts_with("nothing to do")).count();
    assert_eq!((worked, idle), (1, 7), "{printed:?}");
    assert_eq!(bell.source_texts(MEANING).await, alone.source_texts(MEANING).await);
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_prints_the_sql_that_makes_the_same() {
    let (migrated, by_hand) = (TestBell::bare().await, TestBell::bare().await);
    let nothing = by_hand.source_texts(MEANING).await;

    let sql = by_hand.run_ok(&["migrate", "--dry-run", "--notify", "always"]).await;
    assert_eq!(by_hand.source_texts(MEANING).await, nothing);
    assert_eq!(
        by_hand
            .source_count("select count(*) from pg_namespace where nspname = 'schoolbell'")
            .await,
        0
    );
    by_hand.source_sql(&sql).await;
    migrated.run_ok(&["migrate", "--notify", "always"]).await;

    assert_eq!(by_hand.source_texts(MEANING).await, migrated.source_texts(MEANING).await);
    // The program knows what was done: it would do nothing more.
    assert_eq!(by_hand.run_ok(&["migrate", "--dry-run"]).await, "");
    assert!(by_hand.run_ok(&["migrate"]).await.starts_with("nothing to do"));
}

#[tokio::test]
async fn a_dry_run_on_a_busy_table_waits_for_nobody() {
    let bell = TestBell::bare().await;
    let holder = bell.source_session().await;
    holder.batch_execute("begin; lock table schools in exclusive mode").await.unwrap();

    let ended = tokio::time::timeout(
        stretched(Duration::from_secs(20)),
        bell.run(&["migrate", "--dry-run"]),
    )
    .await
    .unwrap();

    assert_eq!(ended.code, 0, "{ended}");
}

#[tokio::test]
async fn triggers_fire_in_every_session_and_carry_our_name() {
    let bell = TestBell::installed().await;

    let wanted: Vec<String> = ["delete", "insert", "truncate", "update"]
        .map(|event| format!("schoolbell_{event}"))
        .to_vec();
    for table in ["schools", "roles"] {
        assert_eq!(bell.source_texts(&ours_on(table)).await, wanted, "{table}");
    }
    let not_always =
        "select tgname::text from pg_trigger where not tgisinternal and tgenabled <> 'A'";
    assert_eq!(bell.source_texts(not_always).await, [""; 0]);
}

#[tokio::test]
async fn a_role_without_any_grant_of_ours_can_write_but_not_call_or_read() {
    let bell = TestBell::installed().await;
    let role = format!("app_of_{}", bell.source_name);
    bell.source_sql(&format!(
        "create role {role}; grant insert, update, delete on schools to {role}"
    ))
    .await;

    bell.source_sql(&format!("set role {role}")).await;
    bell.source_sql(
        "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         values ('Acme', '1 Road', 'Town', 'GB', 'https://acme.example', now(), now())",
    )
    .await;
    let read = bell.source.batch_execute("select from schoolbell.change").await;
    // A role that could use the function could feed the outbox from its own table.
    let borrowed = bell
        .source
        .batch_execute(
            "create temp table mine (id uuid, creator_id uuid); create trigger t after insert on mine for each row \
             execute function schoolbell.capture_public_schools()",
        )
        .await;
    bell.source_sql("reset role").await;

    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 1);
    assert!(read.is_err());
    assert!(borrowed.is_err());
}

#[tokio::test]
async fn a_damaged_trigger_is_noticed_and_renewed_and_other_tables_are_not_touched() {
    let bell = TestBell::installed().await;
    let right = bell.source_texts(MEANING).await;
    let of_roles = format!(
        "select * from ({TOUCHED}) as t (line) where line like '% roles %' or line like '%public_roles%'"
    );
    let roles = bell.source_texts(&of_roles).await;
    assert_eq!(roles.len(), 5, "{roles:?}");
    let replace = "trigger schoolbell_update after update on schools for each row when (false) \
                   execute function schoolbell.capture_public_schools()";
    let damages = [
        "alter table schools disable trigger schoolbell_update".to_string(),
        "alter table schools enable trigger schoolbell_update".to_string(),
        "alter table schools enable replica trigger schoolbell_update".to_string(),
        "alter table schools disable trigger user".to_string(),
        "drop trigger schoolbell_truncate on schools".to_string(),
        "alter trigger schoolbell_delete on schools rename to schoolbell_gone".to_string(),
        format!("drop trigger schoolbell_update on schools; create {replace}; alter table schools enable always \
                 trigger schoolbell_update"),
        // Keeps the trigger's comment and its firing.
        format!("create or replace {replace}; alter table schools enable always trigger schoolbell_update"),
        "create or replace function schoolbell.capture_public_schools() returns trigger language plpgsql \
         security definer as 'begin return null; end'"
            .to_string(),
        "alter function schoolbell.capture_public_schools() security invoker".to_string(),
        "create trigger schoolbell_another after insert on schools for each row execute function \
         schoolbell.capture_public_schools()"
            .to_string(),
    ];

    for damage in damages {
        bell.source_sql(&damage).await;
        let status = bell.run(&["status"]).await;
        let printed = bell.run_ok(&["migrate"]).await;

        assert_eq!(status.code, 1, "{damage}: {status}");
        assert!(status.stdout.contains("on public.schools is"), "{damage}: {status}");
        let lines: Vec<&str> = printed.lines().collect();
        let [reason, "triggers of public.schools: up to date"] = lines[..] else {
            panic!("{damage}: {printed}");
        };
        assert!(reason.starts_with("triggers of public.schools: "), "{damage}: {printed}");
        assert_eq!(bell.source_texts(MEANING).await, right, "{damage}");
        assert_eq!(bell.source_texts(&of_roles).await, roles, "{damage}");
    }
    assert_eq!(bell.run(&["status"]).await.code, 0);
}

#[tokio::test]
async fn the_notify_mode_is_changed_when_asked_for_and_kept_otherwise() {
    let bell = TestBell::bare().await;
    let notifying = "select count(*) from pg_proc where pronamespace = 'schoolbell'::regnamespace \
                     and prosrc like '%pg_notify%'";
    let looking = "select count(*) from pg_proc where pronamespace = 'schoolbell'::regnamespace \
                   and prosrc like '%pg_try_advisory_xact_lock_shared%'";
    let rings = async || (bell.source_count(notifying).await, bell.source_count(looking).await);
    let mode = async || {
        bell.source_texts("select notify_mode from schoolbell.installation").await.concat()
    };

    bell.run_ok(&["migrate"]).await;
    assert_eq!((mode().await.as_str(), rings().await), ("doorbell", (2, 2)));
    for (wanted, found) in
        [("always", (2, 0)), ("never", (0, 0)), ("doorbell", (2, 2)), ("always", (2, 0))]
    {
        let changed = bell.run_ok(&["migrate", "--notify", wanted]).await;
        let kept = bell.run_ok(&["migrate"]).await;

        assert!(changed.contains(&format!("notify mode: {wanted}")), "{changed}");
        assert!(kept.starts_with("nothing to do"), "{kept}");
        assert_eq!((mode().await.as_str(), rings().await), (wanted, found));
    }
}

#[tokio::test]
async fn writers_of_a_busy_table_are_never_queued_up_behind_migrate() {
    let bell = TestBell::bare().await;
    let school = bell.insert_school("Acme").await;
    let holder = bell.source_session().await;
    holder.batch_execute("set application_name = 'nightly import'; begin").await.unwrap();
    holder
        .execute("update schools set name = 'Acme 2' where id = $1::text::uuid", &[&school])
        .await
        .unwrap();
    bell.source_sql("set lock_timeout = '2s'").await;

    let mut migrate = program_with(&bell, &["migrate"]).spawn();
    let mut log = BufReader::new(migrate.stderr.take().unwrap()).lines();
    let trying = async {
        let mut given_way = Vec::new();
        while given_way.len() < 4 {
            let line = log.next_line().await.unwrap().expect("migrate tries again");
            given_way.extend(line.contains("the table is busy").then_some(line));
        }
        given_way
    };
    let writing = async {
        loop {
            // Fails when it waits for 2 s, as it would behind DDL that waits for the holder.
            bell.insert_school("Another").await;
        }
    };
    let given_way = tokio::select! {
        given_way = trying => given_way,
        _ = writing => unreachable!("it writes for ever"),
    };
    assert!(migrate.try_wait().unwrap().is_none(), "migrate has ended before the table was free");
    assert_eq!(bell.source_texts(&ours_on("schools")).await, [""; 0]);
    holder.batch_execute("commit").await.unwrap();
    let ended = migrate.wait().await.unwrap();

    assert!(ended.success());
    assert!(given_way.iter().all(|line| line.contains("nightly import")), "{given_way:?}");
    assert_eq!(bell.source_texts(&ours_on("schools")).await.len(), 4);
}

#[tokio::test]
async fn the_tables_are_migrated_one_by_one_so_that_a_busy_one_holds_up_no_other() {
    let bell = TestBell::bare().await;
    let holder = bell.source_session().await;
    holder.batch_execute("begin; lock table schools in row exclusive mode").await.unwrap();

    let mut migrate = program_with(&bell, &["migrate"]).spawn();
    eventually("roles has its triggers", || async {
        match bell.source_texts(&ours_on("roles")).await.len() {
            4 => Ok(()),
            found => Err(found),
        }
    })
    .await;
    // While it waits for schools it holds no lock on roles.
    bell.source_sql("set lock_timeout = '2s'").await;
    bell.insert_role("00000000-0000-0000-0000-000000000001", 1).await;
    holder.batch_execute("rollback").await.unwrap();

    assert!(migrate.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_mapping_that_names_what_the_source_lacks_is_refused_and_nothing_is_created() {
    let bell = TestBell::bare().await;
    let cases = [
        (
            "name = \"name\"",
            "name = \"nam\"",
            "object school: name: public.schools has no column nam; did you mean name?",
        ),
        (
            "postcode__c = \"postal_code\"",
            "postcode__c = \"postcode\"",
            "object school: postcode__c: public.schools has no column postcode; did you mean postal_code?",
        ),
        (
            "key = \"creator_id\"",
            "key = \"creator\"",
            "object contact: key: public.schools has no column creator",
        ),
        (
            "key = \"school_id\"",
            "key = \"scool_id\"",
            "object role: parents: public.roles has no column scool_id; did you mean school_id?",
        ),
        (
            "since = \"updated_at\"",
            "since = \"update_at\"",
            "since: public.schools has no column update_at; did you mean updated_at?",
        ),
        (
            "source = \"roles\"",
            "source = \"rolls\"",
            "object role: source: the source database has no table public.rolls",
        ),
        (
            "case user_origin when",
            "case user_orign when",
            "object school: userorigin__c: column \"user_orign\" does not exist",
        ),
        (
            "filter = \"role is",
            "filter = \"rolle is",
            "object role: filter: column \"rolle\" does not exist",
        ),
        (
            "desc nulls last, id",
            "desc nulls last, idd",
            "object contact: winner.order: column \"idd\" does not exist",
        ),
    ];

    for (right, wrong, sentence) in cases {
        assert!(BUILT_IN.contains(right), "the built-in mapping has changed: {right}");
        let file = bell.mapping_file(&BUILT_IN.replacen(right, wrong, 1));
        let file = file.to_str().unwrap();
        let ended = bell.run(&["migrate", "--mapping", file]).await;

        assert_eq!(ended.code, 2, "{ended}");
        assert_eq!(ended.stdout, "");
        assert!(ended.stderr.starts_with("schoolbell: "), "{ended}");
        assert!(ended.stderr.contains(&format!("{file}:")), "{ended}");
        assert!(ended.stderr.contains(sentence), "{sentence}: {ended}");
        assert!(ended.stderr.contains("nothing was changed"), "{ended}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
    }
    assert_eq!(
        bell.source_count("select count(*) from pg_namespace where nspname = 'schoolbell'").await,
        0
    );
    assert_eq!(bell.source_texts(&ours_on("schools")).await, [""; 0]);
}

#[tokio::test]
async fn a_table_without_a_primary_key_is_refused() {
    let bell = TestBell::bare().await;
    bell.source_sql("alter table roles drop constraint roles_pkey").await;

    let ended = bell.run(&["migrate"]).await;

    assert_eq!(ended.code, 2, "{ended}");
    assert!(
        ended.stderr.contains("object role: source: public.roles has no primary key"),
        "{ended}"
    );
    assert_eq!(bell.source_texts(MEANING).await, [""; 0]);
}

#[tokio::test]
async fn a_schema_that_is_newer_than_the_program_is_left_alone() {
    let bell = TestBell::installed().await;
    bell.source_sql("insert into schoolbell.refinery_schema_history values (99, 'from_the_future', now()::text, '1')").await;
    let before = bell.source_texts(TOUCHED).await;

    for command in [
        &["run"][..],
        &["run", "--drain"],
        &["status"],
        &["parked", "list"],
        &["resync"],
        &["migrate"],
    ] {
        let ended = bell.run(command).await;

        assert_eq!(ended.code, 2, "{ended}");
        assert_eq!(ended.stdout, "");
        assert_eq!(
            ended.stderr,
            "schoolbell: schema schoolbell has version 99, this program knows only up to 12; deploy the newer schoolbell\n",
            "{ended}"
        );
    }
    assert_eq!(bell.source_texts(TOUCHED).await, before);
}

/// The migrations of the repository, oldest first: version, name and SQL.
fn migrations() -> Vec<(i32, String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/migrations");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let file = file.unwrap().path();
            let name = file.file_stem().unwrap().to_str().unwrap();
            let (version, name) = name.trim_start_matches('V').split_once("__").unwrap();
            let sql = std::fs::read_to_string(&file).unwrap();
            (version.parse().unwrap(), name.to_string(), sql)
        })
        .collect();
    found.sort();
    found
}

/// The application's tables with our schema as a release of that version left it, and triggers that write to it.
async fn with_schema_of(version: i32, mapping: &str) -> TestBell {
    let bell = TestBell::bare().await;
    bell.source_sql("create schema schoolbell").await;
    for (_, _, sql) in migrations().iter().filter(|(older, ..)| *older <= version) {
        bell.source_sql(sql).await;
    }
    // What the program notes of all migrations, but for the later ones.
    bell.source_sql(&schema::history(Version::Missing)).await;
    bell.source_sql(&format!("delete from {HISTORY} where version > {version}")).await;
    let file = bell.mapping_file(mapping);
    let sql = bell.run_ok(&["migrate", "--dry-run", "--mapping", file.to_str().unwrap()]).await;
    let (migrations, triggers) = sql.split_once("\ncommit;\n").expect("the migrations end");
    // A release before that did not note the mapping, nor in a table when the triggers ring.
    let triggers = triggers.split("\n-- The mapping that").next().unwrap_or_default();
    let (mode, triggers) = triggers.split_once("\n-- triggers on").expect("the mode comes first");
    assert!(mode.contains("schoolbell.installation"), "{mode}");
    if version >= 8 {
        bell.source_sql(mode).await;
    }
    assert!(!migrations.contains("schoolbell_insert") && triggers.contains("schoolbell_insert"));
    bell.source_sql(&format!("-- triggers on{triggers}")).await;
    bell
}

#[tokio::test]
async fn an_upgrade_from_any_release_keeps_what_is_pending_and_parked_and_watches_the_new_mapping()
{
    let newest = migrations().last().expect("there are migrations").0;
    for version in 1..newest {
        let mut bell = with_schema_of(version, SCHOOL_NAMES).await;
        let school = bell.insert_school("Acme").await;
        bell.source_sql("update schools set municipality = 'Elsewhere'").await;
        let mut parked = Vec::new();
        if version >= 2 {
            bell.source_sql("insert into schoolbell.parked (object, key, state, reason) values ('school', 'a', 'dead', \
                             'test')").await;
            parked.push("school a dead");
        }
        let older = bell.run(&["run", "--drain"]).await;
        assert_eq!(older.code, 2, "{older}");
        let needs =
            format!("has version {version}, this program needs {newest}; run `schoolbell migrate`");
        assert!(older.stderr.contains(&needs), "{older}");
        let changes = "select concat_ws(' ', xact, id, operation, keys) from schoolbell.change order by xact, id";
        let pending = bell.source_texts(changes).await;
        assert_eq!(pending.len(), 1, "version {version}: {pending:?}");

        let wider = format!("{SCHOOL_NAMES}editormunicipality__c = \"municipality\"\n");
        bell.use_mapping(&wider).await;

        assert_eq!(bell.source_texts(changes).await, pending, "version {version}");
        assert_eq!(bell.parked().await, parked, "version {version}");
        bell.source_sql("update schools set municipality = 'Newtown'").await;
        assert_eq!(
            bell.source_texts("select operation from schoolbell.change order by xact, id").await,
            ["INSERT", "UPDATE"]
        );
        bell.drain().await;
        let found = "select concat_ws(' ', editoruuid__c, name, editormunicipality__c) from salesforce.editor__c";
        assert_eq!(bell.target_texts(found).await, [format!("{school} Acme Newtown")]);
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema.sql");
        let schema = bell.source_texts(SCHEMA).await.join("\n");
        assert!(std::fs::read_to_string(file).unwrap().contains(&schema), "{schema}");
    }
}

#[tokio::test]
async fn tables_that_the_mapping_no_longer_captures_lose_their_triggers() {
    let mut bell = TestBell::installed().await;

    bell.use_mapping(SCHOOL_NAMES).await;

    assert_eq!(bell.source_texts(&ours_on("roles")).await, [""; 0]);
    assert_eq!(bell.source_texts(&ours_on("schools")).await.len(), 4);
    let school = bell.insert_school("Acme").await;
    bell.insert_role(&school, 1).await;
    assert_eq!(
        bell.source_texts("select source_table from schoolbell.change").await,
        ["public.schools"]
    );
}

#[tokio::test]
async fn uninstall_says_what_it_removes_takes_all_of_it_away_and_writers_go_on() {
    let bell = TestBell::installed().await;
    let school = bell.insert_school("Acme").await;
    bell.insert_role(&school, 1).await;

    let printed = bell.run_ok(&["uninstall", "--yes"]).await;

    for part in [
        "trigger schoolbell_truncate on public.schools",
        "trigger schoolbell_insert on public.roles",
        "schema schoolbell, with 2 changes that are not applied and 0 parked keys",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(printed.ends_with("removed\n"), "{printed}");
    assert_eq!(bell.source_texts(MEANING).await, [""; 0]);
    assert_eq!(
        bell.source_count("select count(*) from pg_namespace where nspname = 'schoolbell'").await,
        0
    );
    bell.insert_school("After").await;
    bell.source_sql("update schools set name = 'Changed'; truncate roles; delete from schools")
        .await;
    let again = bell.run_ok(&["uninstall"]).await;
    assert!(again.starts_with("nothing to do: schoolbell is not installed in "), "{again}");
}

#[tokio::test]
async fn uninstall_gives_way_to_writers_and_to_whoever_is_in_a_long_transaction_and_names_him() {
    let bell = TestBell::installed().await;
    let school = bell.insert_school("Acme").await;
    let (import, report) = (bell.source_session().await, bell.source_session().await);
    import.batch_execute("set application_name = 'nightly import'").await.unwrap();
    let update = format!("begin; update schools set name = 'Acme 2' where id = '{school}'");
    import.batch_execute(&update).await.unwrap();
    report.batch_execute("set application_name = 'long report'").await.unwrap();
    report.batch_execute("begin; select count(*) from schoolbell.change").await.unwrap();
    bell.source_sql("set lock_timeout = '2s'").await;

    let mut uninstall = program_with(&bell, &["uninstall", "--yes"]).spawn();
    let mut log = BufReader::new(uninstall.stderr.take().unwrap()).lines();
    // First a table that the application writes, then the schema, which no writer needs any more.
    for (table, holder, name) in [
        ("public.schools", &import, "nightly import"),
        ("schoolbell.change", &report, "long report"),
    ] {
        let trying = async {
            let mut given_way = Vec::new();
            while given_way.len() < 3 {
                let line = log.next_line().await.unwrap().expect("uninstall tries again");
                let this = line.contains("the table is busy") && line.contains(table);
                given_way.extend(this.then_some(line));
            }
            given_way
        };
        let writing = async {
            loop {
                // Fails when it waits for 2 s.
                bell.insert_school("Another").await;
                bell.insert_role(&school, 1).await;
            }
        };
        let given_way = tokio::select! {
            given_way = trying => given_way,
            _ = writing => unreachable!("it writes for ever"),
        };
        assert!(uninstall.try_wait().unwrap().is_none(), "it has ended before {table} was free");
        assert!(given_way.iter().all(|line| line.contains(name)), "{given_way:?}");
        holder.batch_execute("commit").await.unwrap();
    }
    let ended = uninstall.wait().await.unwrap();

    assert!(ended.success());
    assert_eq!(bell.source_texts(MEANING).await, [""; 0]);
    bell.insert_school("After").await;
}

#[tokio::test]
async fn uninstall_without_yes_and_without_a_terminal_changes_nothing() {
    let bell = TestBell::installed().await;
    let before = bell.source_texts(TOUCHED).await;

    let ended = bell.run(&["uninstall"]).await;

    assert_eq!(ended.code, 2, "{ended}");
    assert!(ended.stdout.contains("this removes:"), "{ended}");
    assert_eq!(
        ended.stderr,
        "schoolbell: there is no terminal to ask at; pass --yes to remove it\n"
    );
    assert_eq!(bell.source_texts(TOUCHED).await, before);
}

#[tokio::test]
async fn after_an_uninstall_migrate_starts_afresh() {
    let bell = TestBell::installed().await;
    let fresh = bell.source_texts(MEANING).await;
    bell.insert_school("Forgotten").await;

    bell.run_ok(&["uninstall", "--yes"]).await;
    bell.run_ok(&["migrate"]).await;

    assert_eq!(bell.source_texts(MEANING).await, fresh);
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 0);
}

/// Released migrations are never edited, and each new one shows here what it changes.
#[tokio::test]
async fn the_schema_is_the_one_that_is_written_down() {
    let bell = TestBell::installed().await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema.sql");

    let found = format!(
        "-- Schema schoolbell as the migrations leave it, read from the catalogue.\n\
         -- Renew it with: SCHOOLBELL_BLESS=1 cargo test --test it the_schema_is_the_one\n{}\n",
        bell.source_texts(SCHEMA).await.join("\n")
    );

    if std::env::var_os("SCHOOLBELL_BLESS").is_some() {
        std::fs::write(file, &found).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap_or_default(), found);
}

fn program_with(bell: &TestBell, arguments: &[&str]) -> Program {
    Program::new(arguments).env("DATABASE_URL", &bell.source_url())
}
