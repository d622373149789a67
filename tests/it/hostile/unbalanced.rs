//! A mapping's SQL that does not stay in its place.

use schoolbell::postgres::db::Database;

use crate::capture::recorded::Listener;
use crate::support::log::Log;
use crate::support::{TestBell, eventually};

/// A mapping with one piece of SQL in one place.
fn mapping(place: &str, sql: &str) -> String {
    let sql = toml(sql);
    let fields = match place {
        "field" => format!("name = {{ sql = {sql} }}"),
        _ => "name = \"name\"".into(),
    };
    let filter = if place == "filter" { format!("filter = {sql}\n") } else { String::new() };
    let winner = match place {
        "order" => format!("[object.school.winner]\norder = {sql}\n"),
        "prefer" => format!("[object.school.winner]\nprefer = {sql}\norder = \"id\"\n"),
        _ => String::new(),
    };
    let touched = match place {
        "keys" => format!("[[object.school.touched_by]]\ntable = \"roles\"\nkeys = {sql}\n"),
        _ => String::new(),
    };
    let parents = match place {
        "parent" => format!(
            "[[object.school.parents]]\nobject = \"contact\"\nkey = {{ sql = {sql} }}\n\
             [object.contact]\nsource = \"schools\"\nkey = \"creator_id\"\ntarget = \"contact\"\n\
             external_id = \"pi_accounts_unique_id__c\"\nupdate_only = true\n[object.contact.winner]\norder = \"id\"\n\
             [object.contact.fields]\neditoragreetouxcontact__c = \"creator_agree_to_ux_contact\"\n"
        ),
        _ => String::new(),
    };
    format!(
        "version = 1\n[object.school]\nsource = \"schools\"\nkey = \"id\"\ntarget = \"editor__c\"\n\
         external_id = \"editoruuid__c\"\n{filter}[object.school.fields]\n{fields}\n{winner}{touched}{parents}"
    )
}

fn toml(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

const PLACES: [&str; 6] = ["field", "filter", "order", "prefer", "keys", "parent"];

/// What runs a function of the attacker's, each hidden in another way.
const HIDDEN: [&str; 9] = [
    "name from schools limit 0)), public.trap(), ((select 1",
    "1) from schools) ; select public.trap(); --",
    "1)) union all select public.trap(1), ((1",
    "1; select public.trap()",
    "1 -- ",
    "1 /* ",
    "'open",
    "$q$ || public.trap()",
    "\"open",
];

#[tokio::test]
async fn sql_that_leaves_its_place_is_refused_by_line_before_any_database_is_asked() {
    let bell = TestBell::installed().await;
    bell.source_sql(
        "create sequence trapped; \
         create function trap() returns text language sql volatile as $$select nextval('public.trapped')::text$$; \
         create function trap(int) returns oid language sql volatile as $$select nextval('public.trapped')::oid$$",
    )
    .await;

    for place in PLACES {
        for hidden in HIDDEN {
            let file = bell.mapping_file(&mapping(place, hidden));
            for arguments in [
                &["mapping", "--check"][..],
                &["migrate", "--mapping"],
                &["run", "--drain", "--mapping"],
                &["resync", "--mapping"],
                &["verify", "--mapping"],
                &["status", "--mapping"],
                &["doctor", "--mapping"],
            ] {
                let arguments = [arguments, &[file.to_str().unwrap()]].concat();
                let ended = bell.run(&arguments).await;
                assert_eq!(ended.code, 2, "{place}: {hidden}: {ended}");
                assert!(!ended.stderr.contains("panicked"), "{place}: {hidden}: {ended}");
                // The one that is asked for the file alone says where it is.
                if arguments[0] == "mapping" {
                    let finding = ended.stdout.lines().find(|line| line.contains("object school"));
                    let line = finding.unwrap_or_else(|| panic!("{place}: {hidden}: {ended}"));
                    assert!(line.contains(".toml:"), "{line}");
                }
            }
        }
    }
    assert_eq!(bell.source_texts("select is_called::text from trapped").await, ["false"]);
}

#[tokio::test]
async fn a_check_changes_nothing_whatever_an_expression_does() {
    let bell = TestBell::installed().await;
    bell.insert_school("Acme").await;
    bell.source_sql(
        "create table noted (what text); create sequence counted; \
         create function insert_note() returns text language plpgsql volatile as \
         $$begin insert into public.noted values ('x'); return 'x'; end$$; \
         create function note() returns text language plpgsql immutable as \
         $$begin return public.insert_note(); end$$; \
         create function count() returns text language plpgsql immutable as \
         $$begin return nextval('public.counted'); end$$; \
         create function ring() returns text language plpgsql immutable as \
         $$begin perform pg_notify('schoolbell', 'x'); return 'x'; end$$",
    )
    .await;
    let mut listener = Listener::start(&bell).await;

    // As the function says that it is immutable, Postgres calls it when it plans.
    for sql in ["public.note()", "public.ring()", "public.count()", "name || public.note()"] {
        let file = bell.mapping_file(&mapping("field", sql));
        // Everything that rang before.
        bell.source_sql("notify schoolbell, 'begin'").await;
        listener.until("begin").await;
        let checked = bell.run(&["mapping", "--check", file.to_str().unwrap()]).await;
        assert!(!checked.stderr.contains("panicked"), "{sql}: {checked}");
        bell.source_sql("notify schoolbell, 'end'").await;
        assert!(listener.until("end").await.is_empty(), "{sql}");
        let drained = bell.run(&["run", "--drain", "--mapping", file.to_str().unwrap()]).await;
        assert!(!drained.stderr.contains("panicked"), "{sql}: {drained}");
    }
    assert_eq!(bell.source_count("select count(*) from noted").await, 0);
    assert_eq!(bell.source_texts("select is_called::text from counted").await, ["false"]);
}

/// A sequence is not set back by a rollback.
#[tokio::test]
async fn a_check_only_reads_whatever_an_expression_has_set_in_its_session_before() {
    let bell = TestBell::bare().await;
    bell.source_sql("create sequence counted").await;
    let database = Database::new(bell.config().source, "test").unwrap();
    let evaluator = database.evaluator().await.unwrap();
    evaluator
        .row("select set_config('default_transaction_read_only', 'off', false)", &[])
        .await
        .unwrap();

    let refused =
        evaluator.rows_and_roll_back("select nextval('public.counted')").await.unwrap_err();

    assert_eq!(refused.code().map(|code| code.code()), Some("25006"), "{refused:?}");
    assert_eq!(bell.source_texts("select is_called::text from counted").await, ["false"]);
}

/// A volatile function is called for each row, so a check does not find it.
#[tokio::test]
async fn an_expression_that_writes_when_a_row_is_read_writes_nothing() {
    let mut bell = TestBell::installed().await;
    bell.source_sql(
        "create table noted (what text); \
         create function note() returns text language plpgsql volatile as \
         $$begin insert into public.noted values ('x'); return 'x'; end$$",
    )
    .await;
    let file = bell.mapping_file(&mapping("field", "public.note()"));
    bell.run_ok(&["migrate", "--mapping", file.to_str().unwrap()]).await;
    bell.mapping = schoolbell::mapping::Mapping::load(Some(&file)).unwrap();
    let school = bell.insert_school("Acme").await;
    let log = Log::listen();

    bell.service_starts();
    eventually("the row is read", || async {
        let is_refused = !log.lines("25006").is_empty();
        let is_read = bell.mirrored("editor__c", "editoruuid__c").await == [school.clone()];
        if is_refused || is_read { Ok(()) } else { Err(log.lines("")) }
    })
    .await;

    assert_eq!(bell.source_count("select count(*) from noted").await, 0);
}

#[tokio::test]
async fn an_expression_that_is_no_expression_is_a_finding() {
    let bell = TestBell::installed().await;
    for sql in ["name from schools", "", "name) as x, (id", "name as x", "name;"] {
        let file = bell.mapping_file(&mapping("field", sql));
        let checked = bell.run(&["mapping", "--check", file.to_str().unwrap()]).await;
        assert_eq!(checked.code, 2, "{sql}: {checked}");
        assert!(checked.stdout.contains("object school: name"), "{sql}: {checked}");
    }
}
