//! Resync: existing rows are replayed through the same path, behind live changes.

use serde_json::Value;

use crate::support::{TestBell, eventually};

/// Schools and owners that were there before any trigger.
async fn existing(schools: i32) -> TestBell {
    let bell = TestBell::bare().await;
    bell.source_sql(&format!(
        "insert into schools (name, address_line_1, municipality, country_code, website, creator_id, created_at, updated_at) \
         select 'School ' || n, 'Road', 'Town', 'GB', 'w', md5(n::text)::uuid, now(), timestamp '2026-01-01' + n * interval \
         '1 day' from generate_series(1, {schools}) n; insert into roles (user_id, school_id, role, created_at, updated_at) \
         select creator_id, id, 2, now(), now() from schools"
    ))
    .await;
    bell.run_ok(&["migrate"]).await;
    bell
}

/// What `resync --json` says about an object.
fn report<'a>(reports: &'a Value, object: &str) -> &'a Value {
    reports.as_array().unwrap().iter().find(|report| report["object"] == object).unwrap()
}

async fn resync(bell: &TestBell, arguments: &[&str]) -> Value {
    let arguments = [&["resync", "--json"], arguments].concat();
    serde_json::from_str(&bell.run_ok(&arguments).await).unwrap()
}

#[tokio::test]
async fn existing_rows_are_written_and_a_second_run_writes_nothing() {
    let bell = existing(30).await;

    let first = resync(&bell, &[]).await;
    let writes = bell.salesforce_writes().await;
    let second = resync(&bell, &[]).await;

    assert_eq!(report(&first, "school")["written"], 30);
    assert_eq!(report(&first, "role")["waiting"], 30);
    assert_eq!(report(&first, "contact")["waiting"], 30);
    assert_eq!(report(&second, "school")["equal"], 30);
    assert_eq!(bell.salesforce_writes().await, writes);
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn the_running_service_carries_it_out() {
    let mut bell = existing(30).await;
    bell.service_starts();
    bell.asleep().await;

    bell.run_ok(&["resync"]).await;

    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 30);
    let jobs = bell.source_texts("select distinct state from schoolbell.resync").await;
    assert_eq!(jobs, ["done"]);
}

#[tokio::test]
async fn detached_it_is_stored_for_the_service() {
    let mut bell = existing(3).await;

    let said = bell.run_ok(&["resync", "school", "--detach"]).await;
    assert!(said.contains("stored as 1"), "{said}");
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 0);
    bell.service_starts();

    bell.caught_up().await;
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 3);
}

#[tokio::test]
async fn only_missing_rows() {
    let bell = existing(10).await;
    resync(&bell, &["school"]).await;
    bell.target_sql(
        "delete from salesforce.editor__c where name in ('School 3', 'School 5'); \
         update salesforce.editor__c set postcode__c = 'tampered'",
    )
    .await;

    let done = resync(&bell, &["school", "--missing"]).await;

    assert_eq!(report(&done, "school")["written"], 2);
    assert_eq!(
        bell.target_count(
            "select count(*) from salesforce.editor__c where postcode__c = 'tampered'"
        )
        .await,
        8
    );
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 10);
}

#[tokio::test]
async fn only_these_keys() {
    let bell = existing(10).await;
    let keys = bell.source_texts("select id::text from schools order by id limit 2").await;

    resync(&bell, &["school", "--key", &keys[0], "--key", &keys[1]]).await;

    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, keys);
}

#[tokio::test]
async fn a_key_that_is_none_is_dead_and_hinders_nobody() {
    let bell = existing(2).await;
    let key = bell.source_texts("select id::text from schools order by id limit 1").await.remove(0);

    let ended = bell.run(&["resync", "school", "--key", "no-uuid", "--key", &key]).await;

    assert_eq!(ended.code, 1, "{ended}");
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [key]);
    assert_eq!(bell.parked().await, ["school no-uuid dead"]);
}

#[tokio::test]
async fn only_rows_changed_since() {
    let bell = existing(10).await;

    resync(&bell, &["school", "--since", "2026-01-09"]).await;

    let names = bell.target_texts("select name from salesforce.editor__c order by 1").await;
    assert_eq!(names, ["School 10", "School 8", "School 9"]);
}

#[tokio::test]
async fn a_limit_is_never_exceeded_and_the_next_run_goes_further() {
    let bell = existing(10).await;

    for written in [4, 8, 10] {
        resync(&bell, &["school", "--limit", "4"]).await;
        assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, written);
    }
}

#[tokio::test]
async fn a_rate_is_kept() {
    let bell = existing(30).await;
    let started = std::time::Instant::now();

    resync(&bell, &["school", "--rate", "20"]).await;

    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 30);
    // Twenty at once, then a second for them, then ten.
    assert!(started.elapsed() >= std::time::Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_written_and_writes_nothing() {
    let bell = existing(10).await;
    resync(&bell, &["school"]).await;
    bell.target_sql(
        "delete from salesforce.editor__c where name = 'School 3'; \
         update salesforce.editor__c set postcode__c = 'tampered' where name in ('School 1', 'School 2')",
    )
    .await;
    let writes = bell.salesforce_writes().await;

    let forecast = resync(&bell, &["--dry-run"]).await;

    let school = report(&forecast, "school");
    assert_eq!([&school["insert"], &school["update"], &school["equal"]], [1, 2, 7]);
    let role = report(&forecast, "role");
    assert_eq!([&role["insert"], &role["waiting"]], [0, 10]);
    assert_eq!(bell.salesforce_writes().await, writes);
    assert_eq!(
        bell.source_count("select count(*) from schoolbell.resync where object = 'role'").await,
        0
    );
}

#[tokio::test]
async fn interrupted_it_goes_on_where_it_was() {
    let bell = existing(3_000).await;
    bell.run_ok(&["resync", "school", "--detach", "--rate", "1000"]).await;
    let mut other = bell;
    other.service_starts();
    eventually("a page is done", || async {
        match other.source_count("select done from schoolbell.resync").await {
            0 => Err("nothing done"),
            _ => Ok(()),
        }
    })
    .await;
    other.service_is_killed().await;
    let done = other.source_count("select done from schoolbell.resync").await;
    assert!(done < 3_000, "it was over before it was interrupted");

    other.service_starts();

    other.caught_up().await;
    assert_eq!(
        other.source_count("select done from schoolbell.resync").await,
        3_000,
        "no row was looked at twice"
    );
    assert_eq!(other.target_count("select count(*) from salesforce.editor__c").await, 3_000);
}

#[tokio::test]
async fn asking_again_for_an_unfinished_replay_goes_on_with_it() {
    let bell = existing(3).await;

    bell.run_ok(&["resync", "school", "--detach"]).await;
    bell.run_ok(&["resync", "school", "--detach"]).await;
    bell.run_ok(&["resync", "school", "--missing", "--detach"]).await;

    assert_eq!(bell.source_count("select count(*) from schoolbell.resync").await, 2);
}

#[tokio::test]
async fn live_changes_go_first() {
    let mut bell = existing(20_000).await;
    bell.service_starts();
    bell.run_ok(&["resync", "school", "--detach"]).await;
    eventually("the replay runs", || async {
        match bell.source_count("select done from schoolbell.resync").await {
            0 => Err("nothing done"),
            _ => Ok(()),
        }
    })
    .await;

    let school = bell.insert_school("Live").await;
    let sql = format!("select name from salesforce.editor__c where editoruuid__c = '{school}'");
    bell.target_becomes(&sql, &["Live"]).await;

    let open =
        bell.source_count("select count(*) from schoolbell.resync where finished_at is null").await;
    assert_eq!(open, 1, "the live change did not wait for the replay");
    bell.caught_up().await;
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_sentence() {
    let bell = TestBell::installed().await;
    for (arguments, reason) in [
        (&["resync", "shcool"][..], "the mapping has no object shcool"),
        (&["resync", "--key", "1"], "--key needs exactly one object"),
        (&["resync", "--since", "soonish"], "is no time"),
    ] {
        let ended = bell.run(arguments).await;
        assert_eq!(ended.code, 2, "{ended}");
        assert!(ended.stderr.contains(reason), "{ended}");
    }
}

/// A filter that some row is refused by: this row is parked, and every other one is replayed, whoever asked for it.
#[tokio::test]
async fn a_row_that_the_filter_is_refused_for_ends_no_replay() {
    let mut bell = TestBell::bare().await;
    let text = schoolbell::mapping::BUILT_IN.replace(
        "source = \"schools\"\nkey = \"id\"\n",
        "source = \"schools\"\nkey = \"id\"\nfilter = \"1 / (length(name) - 3) is not null\"\n",
    );
    bell.use_mapping(&text).await;
    let mapping = bell.mapping_file(&text).display().to_string();
    bell.pace.page_rows = 2;
    for name in ["Acme", "bad", "Beta", "Gamma", "Delta"] {
        bell.insert_school(name).await;
    }
    bell.source_sql("truncate schoolbell.change").await;
    bell.source_sql("insert into schoolbell.resync (object) values ('school')").await;

    bell.drain().await;

    let states = "select state || ' ' || coalesce(reason, '') from schoolbell.resync";
    assert_eq!(bell.source_texts(states).await, ["done "], "one that stands for changes");
    let names = "select name from salesforce.editor__c order by 1";
    assert_eq!(bell.target_texts(names).await, ["Acme", "Beta", "Delta", "Gamma"]);
    let dead = "select count(*) from schoolbell.parked where object = 'school' and state = 'dead' and sqlstate = '22012'";
    assert_eq!(bell.source_count(dead).await, 1);

    bell.target_sql("delete from salesforce.editor__c").await;
    let asked = bell.run(&["resync", "school", "--mapping", &mapping]).await;
    assert_eq!(asked.code, 1, "one is refused: {asked}");
    assert_eq!(bell.target_texts(names).await, ["Acme", "Beta", "Delta", "Gamma"]);
    assert_eq!(bell.source_texts(states).await, ["done ", "done "]);
}

/// Of each kind: a value, a right, a limit of the server, a server that is away, a time limit, a name, a lost table.
const CODES: [&str; 9] =
    ["22023", "23514", "42501", "53200", "58030", "57014", "42704", "08001", "40001"];

#[tokio::test]
async fn whatever_a_filter_is_refused_with_ends_no_replay_and_no_comparison() {
    for winner in ["", "winner = { order = \"id\" }\n"] {
        let mut bell = TestBell::bare().await;
        bell.source_sql(
            "create function public.passes(text) returns bool language plpgsql as $$begin \
             if $1 like 'bad %' then raise exception using errcode = substr($1, 5); end if; return true; end$$",
        )
        .await;
        let text = schoolbell::mapping::BUILT_IN.replace(
            "source = \"schools\"\nkey = \"id\"\n",
            &format!(
                "source = \"schools\"\nkey = \"id\"\nfilter = \"public.passes(name)\"\n{winner}"
            ),
        );
        bell.use_mapping(&text).await;
        bell.pace.page_rows = 4;
        for code in CODES {
            bell.insert_school(&format!("bad {code}")).await;
            bell.insert_school(&format!("good {code}")).await;
        }
        bell.source_sql("truncate schoolbell.change").await;
        // One that stands for changes.
        bell.source_sql("insert into schoolbell.resync (object) values ('school')").await;
        bell.drain().await;

        let states = "select state || ' ' || coalesce(reason, '') from schoolbell.resync";
        assert_eq!(bell.source_texts(states).await, ["done "], "{winner}");
        let good = "select count(*) from salesforce.editor__c where name like 'good%'";
        assert_eq!(bell.target_count(good).await, CODES.len() as i64, "{winner}");
        let bad = "select count(distinct sqlstate) from schoolbell.parked where object = 'school'";
        assert_eq!(bell.source_count(bad).await, CODES.len() as i64, "{winner}");

        // Nothing of them is known any more: the comparison itself says which rows cannot be read.
        bell.source_sql("truncate schoolbell.parked").await;
        bell.target_sql("update salesforce.editor__c set name = 'other' where name = 'good 57014'")
            .await;
        let mapping = bell.mapping_file(&text).display().to_string();
        let verified = bell.run(&["verify", "school", "--mapping", &mapping]).await;
        assert_eq!(verified.code, 1, "{verified}");
        for code in CODES {
            assert!(verified.stdout.contains(&format!("({code})")), "{code}: {verified}");
        }
        assert!(verified.stdout.contains("good 57014"), "{verified}");
        let asked = bell.run(&["resync", "school", "--mapping", &mapping]).await;
        assert_eq!(asked.code, 1, "some are refused: {asked}");
        assert_eq!(bell.target_count(good).await, CODES.len() as i64, "{winner}");
    }
}
