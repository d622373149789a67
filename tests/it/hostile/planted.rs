//! Operators, functions and types that an attacker has created in `public`, so that our SQL uses
//! them in place of Postgres's own.
//!
//! What is planted follows our SQL: each function that occurs in it, with each kind of argument that may meet it, and
//! each operator with each pair of types for which `pg_catalog` has none that fits as well. All of them note that they
//! were called. None is. Where the path comes to `public` first there are types, too, which note that something was cast
//! to them.

use std::collections::BTreeSet;
use std::path::Path;

use tokio_postgres::Client;

use crate::support::program::Ended;
use crate::support::{TestBell, eventually};

/// The types that our SQL meets: those of our tables and catalogues, and those of the application's.
const TYPES: [&str; 27] = [
    "bool",
    "\"char\"",
    "name",
    "int2",
    "int4",
    "int8",
    "oid",
    "float8",
    "numeric",
    "text",
    "varchar",
    "bpchar",
    "uuid",
    "date",
    "timestamp",
    "timestamptz",
    "interval",
    "json",
    "jsonb",
    "xid",
    "xid8",
    "regclass",
    "regproc",
    "text[]",
    "name[]",
    "int8[]",
    "aclitem",
];

/// The operators that may stand between two values.
const OPERATORS: [&str; 20] = [
    "=", "<>", "<", ">", "<=", ">=", "||", "->>", "->", "+", "-", "*", "/", "~", "!~", "~~", "!~~",
    "~*", "@>", "&&",
];

/// Notes who was called, and nothing else. Heroku Connect's own functions look for names on the search path, and
/// what they find there is not our doing.
const NOTE: &str = "
    create sequence public.planted_calls;
    create function public.planted(what pg_catalog.text) returns pg_catalog.void language plpgsql
    set search_path = pg_catalog as $$
    declare
        stack text;
    begin
        get diagnostics stack = pg_context;
        if stack !~ 'function (salesforce|public)\\.(hc_|tlog_|get_xml)' then
            perform pg_catalog.nextval('public.planted_calls');
            raise log 'planted: % %', what, stack;
        end if;
    end $$;
    create function public.planted_type() returns pg_catalog.bool language plpgsql as
    $$begin perform public.planted('a type'); return true; end$$;
";

/// The words before an opening parenthesis in all of our SQL, wherever it is.
fn called_words() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<_> =
        ["sql", "triggers", "src"].iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // The stand-in is Heroku Connect's SQL, and the demo's is the application's.
                if !path.ends_with("stand_in") && !path.ends_with("demo") {
                    folders.push(path);
                }
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                for (end, _) in text.match_indices('(') {
                    let word = text[..end].rsplit(|c: char| {
                        !c.is_ascii_lowercase() && c != '_' && !c.is_ascii_digit()
                    });
                    words.extend(
                        word.into_iter()
                            .next()
                            .filter(|word| (1..=63).contains(&word.len()))
                            .map(str::to_string),
                    );
                }
            }
        }
    }
    words
}

/// Plants everything. `exact`: also where `pg_catalog` has the very same, which matters on a path that comes to it later.
async fn plant(client: &Client, exact: bool) {
    let words: Vec<String> = called_words().into_iter().collect();
    let known = client
        .query("select distinct proname::text from pg_proc where pronamespace = 11 and proname = any ($1)", &[&words])
        .await
        .unwrap();
    let functions: Vec<String> = known.iter().map(|row| row.get(0)).collect();
    assert!(functions.len() > 50, "the SQL was not found: {functions:?}");
    let types = TYPES.map(|name| format!("'{name}'")).join(", ");
    let operators = OPERATORS.map(|name| format!("'{name}'")).join(", ");
    let functions = functions.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let body = |what: &str, result: &str| {
        format!(
            "returns {result} language plpgsql as %L', {what}, 'begin perform public.planted(' || \
             quote_literal({what}) || '); return null; end'"
        )
    };
    let sql = format!(
        "begin;
        {NOTE}
        set local search_path = pg_catalog;
        do $plant$
        declare
            one text;
            other text;
            symbol text;
            call text;
        begin
            foreach one in array array[{types}] loop
                if {exact} and one not like '%[]' then
                    execute format(
                        'create domain public.%1$s as pg_catalog.%1$s check (public.planted_type())', one
                    );
                end if;
                foreach other in array array[{types}] loop
                    call := format('planted_operator(%s, %s)', one, other);
                    execute format('create function public.%s {operator_body});
                    foreach symbol in array array[{operators}] loop
                        if {exact} or not exists (
                            select from pg_operator o where o.oprnamespace = 11 and o.oprname = symbol
                                and o.oprleft = one::regtype and o.oprright = other::regtype
                        ) then
                            execute format(
                                'create operator public.%s (leftarg = %s, rightarg = %s, function = public.planted_operator)',
                                symbol, one, other
                            );
                        end if;
                    end loop;
                end loop;
            end loop;
            foreach symbol in array array[{functions}] loop
                foreach one in array array[{types}] loop
                    call := format('%I(%s)', symbol, one);
                    execute format('create function public.%s {function_body});
                    foreach other in array array['text', 'varchar', 'name', 'int4', 'bool'] loop
                        call := format('%I(%s, %s)', symbol, one, other);
                        execute format('create function public.%s {function_body});
                    end loop;
                end loop;
                call := format('%I()', symbol);
                execute format('create function public.%s {function_body});
            end loop;
        end $plant$;
        commit",
        operator_body = body("call", "bool"),
        function_body = body("call", "text"),
    );
    client.batch_execute(&sql).await.unwrap();
}

async fn none_was_called(bell: &TestBell, after: &str) {
    let called = "select is_called::text from public.planted_calls";
    for (side, client) in [("source", &bell.source), ("target", &bell.target)] {
        let found: String = client.query_one(called, &[]).await.unwrap().get(0);
        let log = std::fs::read_to_string(bell.cluster().folder().join("server.log"));
        let log = log.unwrap_or_default();
        let calls: BTreeSet<&str> =
            log.split("\n20").filter(|line| line.contains("planted: ")).collect();
        assert_eq!(found, "false", "after {after}, in the {side}: {calls:#?}");
    }
}

/// Runs a command, with any result, and checks whether something planted was called.
async fn command(bell: &TestBell, arguments: &[&str]) -> Ended {
    let ended = bell.run(arguments).await;
    assert!(!ended.stderr.contains("panicked"), "{ended}");
    none_was_called(bell, &ended.command).await;
    ended
}

/// The rows that every command has something to do with: new ones, changed and deleted ones, refused, waiting and failed.
async fn rows(bell: &TestBell, number: usize) -> String {
    let first = bell.insert_school("Acme").await;
    let row = |number: usize| {
        let (long, rejected) =
            ("long ".repeat(100), if number.is_multiple_of(7) { "'2026-01-03'" } else { "null" });
        format!(
            "('School {number}', '{long}', 'Town', 'GB', 'w', pg_catalog.gen_random_uuid(), '2026-01-02', \
             '2026-01-02', {rejected})"
        )
    };
    let rows: Vec<String> = (1..=number).map(row).collect();
    bell.source_sql(&format!(
        "insert into schools (name, address_line_1, municipality, country_code, website, creator_id, created_at, \
         updated_at, rejected_at) values {}",
        rows.join(", ")
    ))
    .await;
    bell.insert_role(&first, 1).await;
    bell.insert_role(&first, 0).await;
    first
}

/// Every command, in an order in which each has something to do.
async fn every_command(bell: &mut TestBell, mapping: Option<&str>) {
    let with = |arguments: &[&str]| {
        let mut all: Vec<String> =
            arguments.iter().map(|argument| (*argument).to_string()).collect();
        all.extend(
            mapping.into_iter().flat_map(|file| ["--mapping".to_string(), file.to_string()]),
        );
        all
    };
    let run = async |bell: &TestBell, arguments: &[&str]| {
        let arguments = with(arguments);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        command(bell, &arguments).await
    };
    let school = rows(bell, 3).await;
    let dry = run(bell, &["migrate", "--dry-run"]).await;
    assert_eq!(dry.code, 0, "{dry}");
    let migrated = run(bell, &["migrate"]).await;
    assert_eq!(migrated.code, 0, "{migrated}");
    run(bell, &["migrate", "--notify", "always"]).await;
    run(bell, &["migrate", "--notify", "doorbell"]).await;
    run(bell, &["resync", "--dry-run"]).await;
    let resync = run(bell, &["resync"]).await;
    assert_eq!(resync.code, 0, "{resync}");
    // Few rows and many, which go by COPY.
    for number in [3, 700] {
        rows(bell, number).await;
        bell.source_sql("update schools set name = pg_catalog.concat(name, '!')").await;
        bell.source_sql("delete from roles where id in (select max(id) from roles)").await;
        none_was_called(bell, "writes of the application").await;
        let drained = run(bell, &["run", "--drain"]).await;
        assert!(drained.code <= 1, "{drained}");
    }
    let people = bell.source_texts("select creator_id::text from schools limit 5").await;
    schoolbell::demo::stand_in::create_contacts(&bell.target, &people).await.unwrap();
    bell.target_sql(
        "update salesforce.editor__c set sfid = pg_catalog.concat('a', id) where sfid is null",
    )
    .await;
    run(bell, &["run", "--drain"]).await;
    bell.target_sql("update salesforce.editor__c set name = 'Wrong' where id = (select max(id) from salesforce.editor__c)")
        .await;
    for arguments in [
        &["verify"][..],
        &["verify", "--sample", "5"],
        &["verify", "--kept", "--json"],
        &["verify", "--repair"],
        &["status"],
        &["status", "--json"],
        &["explain", "school", &school],
        &["explain", "school", &school, "--no-values", "--json"],
        &["explain", "role", "1"],
        &["resync", "school", "--key", &school],
        &["resync", "school", "--missing"],
        &["resync", "school", "--since", "1h"],
        &["resync", "--limit", "5"],
        &["parked", "list"],
        &["parked", "list", "--state", "waiting", "--json"],
        &["parked", "retry", "--all", "--yes"],
        &["parked", "drop", "--all", "--yes"],
        &["doctor"],
    ] {
        run(bell, arguments).await;
    }
    for (sfid, log_entry) in [("null", false), ("'known'", true)] {
        bell.target_sql(&format!(
            "begin; set local xmlbinary = 'hex'; \
             update salesforce.editor__c set _hc_lastop = 'FAILED', sfid = {sfid} where editoruuid__c::text = '{school}'; commit"
        ))
        .await;
        if log_entry {
            bell.target_sql("update salesforce._trigger_log set state = 'FAILED'").await;
        }
        run(bell, &["parked", "retry", "--failed", "--yes"]).await;
    }
    match mapping {
        Some(file) => command(bell, &["mapping", "--check", file]).await,
        None => command(bell, &["mapping", "--check"]).await,
    };
    command(bell, &["mapping", "init"]).await;
    service(bell).await;
    run(bell, &["uninstall", "--yes"]).await;
}

/// The service with its pages, its sweeps and its comparison in the background.
async fn service(bell: &mut TestBell) {
    bell.pace.verify_every = Some(std::time::Duration::from_millis(100));
    bell.pace.replan = std::time::Duration::from_millis(100);
    bell.service_starts();
    let visitor = bell.visitor().await;
    // Not by asking the database, where the words of a test would meet what is planted.
    eventually("the bell is armed", || async {
        if bell.metrics.bell_armed.get() == 1 { Ok(()) } else { Err("it is not") }
    })
    .await;
    let school = bell.insert_school("While it runs").await;
    let role = bell.insert_role(&school, 1).await;
    bell.source_sql("update roles set role = 2").await;
    let person = bell.user_of(&role).await;
    bell.salesforce_has_contact(&person).await;
    eventually("the role has followed", || async {
        bell.target_sql(
            "update salesforce.editor__c set sfid = pg_catalog.concat('b', id) where sfid is null",
        )
        .await;
        let there = format!(
            "select count(*) from salesforce.contact_editor_affiliation__c where \
                             affiliation_id__c::text = '{role}'"
        );
        if bell.target_count(&there).await == 1 { Ok(()) } else { Err(bell.parked().await) }
    })
    .await;
    for page in ["/", "/metrics", "/api/status", "/readyz"] {
        visitor.get(page).await;
    }
    let verified = "select count(*) from schoolbell.verified where object = 'school'";
    eventually("it was compared", || async {
        if bell.source_count(verified).await == 1 { Ok(()) } else { Err("not yet") }
    })
    .await;
    bell.service_stops().await;
    bell.pace.verify_every = None;
    none_was_called(bell, "the service").await;
}

#[tokio::test]
async fn nothing_that_fits_better_than_postgres_s_own_is_called_by_any_command_on_either_side() {
    let mut bell = TestBell::bare().await;
    plant(&bell.source, false).await;
    plant(&bell.target, false).await;
    for client in [&bell.source, &bell.target] {
        let there = client.query_one("select 'a'::varchar = 'a'::varchar", &[]).await.unwrap();
        assert_eq!(there.get::<_, Option<bool>>(0), None, "what is planted is found by others");
        client.batch_execute("alter sequence public.planted_calls restart").await.unwrap();
        client.execute("select setval('public.planted_calls', 1, false)", &[]).await.unwrap();
    }

    every_command(&mut bell, None).await;
}

/// A writer's path is the application's own, and the triggers run on it.
#[tokio::test]
async fn no_trigger_calls_what_comes_before_postgres_s_own_on_the_path_of_a_writer() {
    let bell = TestBell::installed().await;
    plant(&bell.source, true).await;
    // What records the keys of a school takes any number of values of any type.
    bell.source_sql(
        "create function public.jsonb_build_object(text, uuid, text, uuid) returns jsonb language plpgsql as \
         $$begin perform public.planted('keys'); return null; end$$",
    )
    .await;
    let writer = bell.source_session().await;
    writer.batch_execute("set search_path = public, pg_catalog").await.unwrap();
    let sleeper = bell.source_session().await;
    for mode in ["doorbell", "always"] {
        bell.run_ok(&["migrate", "--notify", mode]).await;
        // The lock is held, so the triggers ring.
        sleeper
            .query_one("select pg_catalog.pg_advisory_lock($1)", &[&schoolbell::bell::BELL_LOCK])
            .await
            .unwrap();
        for sql in [
            "insert into schools (name, address_line_1, municipality, country_code, website, creator_id, created_at, \
             updated_at) values ('Acme', '1 Road', 'Town', 'GB', 'w', pg_catalog.gen_random_uuid(), '2026-01-02', \
             '2026-01-02')",
            "update schools set name = 'Beta'",
            "update schools set id = pg_catalog.gen_random_uuid()",
            "update schools set creator_department = 'unwatched'",
            "delete from schools",
            "truncate schools, roles",
        ] {
            writer.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
    }

    let called = bell.source.query_one("select is_called from public.planted_calls", &[]).await;
    assert!(!called.unwrap().get::<_, bool>(0), "see the server's log");
    let operations = "select string_agg(operation, ' ' order by id) from schoolbell.change";
    let twice = "INSERT UPDATE UPDATE UPDATE DELETE TRUNCATE TRUNCATE";
    assert_eq!(bell.source_texts(operations).await, [format!("{twice} {twice}")]);
}

/// Nothing but columns: what an expression calls is a matter of the mapping and of the path.
const COLUMNS_ONLY: &str = r#"
version = 1

[object.school]
source = "schools"
key = "id"
since = "updated_at"
target = "editor__c"
external_id = "editoruuid__c"

[object.school.fields]
name = "name"
editorreference__c = "reference"
createdat__c = "created_at"

[object.role]
source = "roles"
key = "id"
target = "contact_editor_affiliation__c"
external_id = "affiliation_id__c"

[object.role.fields]
editor__r__editoruuid__c = "school_id"
createdat__c = "created_at"

[[object.role.parents]]
object = "school"
key = "school_id"
"#;

#[tokio::test]
async fn nothing_is_called_that_comes_before_postgres_s_own_on_the_path_either() {
    let mut bell = TestBell::bare().await;
    // Heroku Connect's own functions would not survive this path.
    let triggers = "select format('drop trigger %I on %s', tgname, tgrelid::regclass) from pg_trigger where not \
                    tgisinternal";
    for drop in bell.target_texts(triggers).await {
        bell.target_sql(&drop).await;
    }
    plant(&bell.source, true).await;
    plant(&bell.target, true).await;
    for (client, name) in [(&bell.source, &bell.source_name), (&bell.target, &bell.target_name)] {
        client
            .batch_execute(&format!("alter database {name} set search_path = public, pg_catalog"))
            .await
            .unwrap();
    }
    let file = bell.mapping_file(COLUMNS_ONLY);
    bell.mapping = schoolbell::mapping::Mapping::load(Some(&file)).unwrap();

    every_command(&mut bell, Some(file.to_str().unwrap())).await;
}
