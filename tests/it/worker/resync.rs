//! Resync: existing rows go through the same path, behind live changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
async fn what_is_no_key_or_has_no_row_parks_nothing_and_hinders_nobody() {
    let bell = existing(2).await;
    let key = bell.source_texts("select id::text from schools order by id limit 1").await.remove(0);
    let nobody = "00000000-0000-4000-8000-000000000000";

    let keys = ["--key", "no-uuid", "--key", nobody, "--key", &key];
    let ended = bell.run(&[&["resync", "school"], &keys[..]].concat()).await;

    assert_eq!(ended.code, 1, "{ended}");
    assert!(ended.stderr.contains("\"no-uuid\" is no key of school: "), "{ended}");
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [key]);
    assert_eq!(bell.parked().await, Vec::<String>::new());
    let none = bell.run(&["resync", "school", "--key", "no-uuid"]).await;
    assert_eq!(none.code, 2, "{none}");
    assert_eq!(bell.run(&["resync", "school", "--key", nobody]).await.code, 0);
    assert_eq!(bell.parked().await, Vec::<String>::new());
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
async fn asking_again_for_an_unfinished_resync_goes_on_with_it() {
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
    eventually("the resync runs", || async {
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
    assert_eq!(open, 1, "the live change did not wait for the resync");
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

/// A filter that fails for some row: this row is parked, and every other one is resynced, whichever
/// command asked for it.
#[tokio::test]
async fn a_row_that_the_filter_is_refused_for_ends_no_resync() {
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
async fn whatever_a_filter_is_refused_with_ends_no_resync_and_no_comparison() {
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
        // One that replaces changes.
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

/// A resync that rests (it has a rate), or that cannot continue now, is no hindrance for those behind it.
#[tokio::test]
async fn a_resync_that_cannot_go_on_now_holds_up_none_behind_it() {
    let bell = TestBell::installed().await;
    for name in ["One", "Two"] {
        let school = bell.insert_school(name).await;
        bell.insert_role(&school, 1).await;
    }
    bell.drain().await;
    bell.salesforce_accepts_everything().await;
    bell.target_sql("delete from salesforce.editor__c").await;
    // It replaces changes, and its table is locked for longer than a drain waits.
    let holder = bell.target_session().await;
    holder
        .batch_execute("begin; lock table salesforce.contact_editor_affiliation__c")
        .await
        .unwrap();
    let resyncs = "insert into schoolbell.resync (object, walk) values ('role', 'target'), ('school', 'source')";
    bell.source_sql(resyncs).await;

    bell.drain().await;
    let states = "select object || ' ' || state from schoolbell.resync order by id";
    assert_eq!(bell.source_texts(states).await, ["role queued", "school done"]);
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 2);

    // A drain reports what is left.
    let drained = bell.run(&["run", "--drain"]).await;
    assert_eq!(drained.code, 1, "{drained}");
    assert!(drained.stderr.contains("a resync is left: it cannot continue now"), "{drained}");
    holder.batch_execute("rollback").await.unwrap();
    bell.drain().await;
    assert_eq!(bell.source_texts(states).await, ["role done", "school done"]);
    let drained = bell.run(&["run", "--drain"]).await;
    assert_eq!(drained.code, 0, "{drained}");
}

#[tokio::test]
async fn a_resync_with_a_rate_holds_up_none_behind_it_and_none_that_stands_for_changes() {
    let mut bell = TestBell::bare().await;
    bell.use_mapping(schoolbell::mapping::BUILT_IN).await;
    for n in 0..30 {
        let school = bell.insert_school(&format!("School {n}")).await;
        bell.insert_role(&school, 1).await;
    }
    bell.source_sql("truncate schoolbell.change").await;
    // As `migrate` leaves one that was asked for with another mapping: still, it replaces no
    // change.
    bell.source_sql(
        "insert into schoolbell.resync (object, write_rate, asked) values ('school', 1, true)",
    )
    .await;
    bell.service_starts();
    bell.target_becomes("select (count(*) > 0)::text from salesforce.editor__c", &["true"]).await;
    bell.source_sql("insert into schoolbell.resync (object) values ('role')").await;
    bell.run_ok(&["resync", "contact", "--detach"]).await;
    eventually("the others are done", || async {
        let open = "select object from schoolbell.resync where state <> 'done' order by id";
        let open = bell.source_texts(open).await;
        if open == ["school"] { Ok(()) } else { Err(open) }
    })
    .await;
    let written = bell.target_count("select count(*) from salesforce.editor__c").await;
    assert!(written < 30, "{written} of 30 rows at one in a second");
}

#[tokio::test]
async fn a_failed_resync_is_told_until_it_is_repeated_or_dismissed() {
    let bell = TestBell::installed().await;
    let fail =
        "insert into schoolbell.resync (object, asked) values ('gone', true), ('school', true)";
    bell.source_sql(fail).await;
    bell.source_sql("update schoolbell.resync set state = 'failed', reason = 'out of luck', finished_at = now()").await;

    let status = bell.run(&["status"]).await;
    assert_eq!(status.code, 1, "{status}");
    let told = "Resync 1 of gone has failed, out of luck: repeat it with `schoolbell resync gone`, or dismiss it with \
                `schoolbell resync --dismiss 1`";
    assert!(status.stdout.contains(told), "{status}");
    // One of a part of its rows is no repetition.
    bell.run_ok(&["resync", "school", "--missing"]).await;
    assert!(bell.run(&["status"]).await.stdout.contains("Resync 2 of school has failed"));
    bell.run_ok(&["resync", "school"]).await;
    let dismiss = bell.program(&["resync", "--dismiss", "1"]);
    let file = bell.mapping_file(schoolbell::mapping::BUILT_IN);
    let dismissed = dismiss.env("SCHOOLBELL_MAPPING", file.to_str().unwrap()).run().await;
    assert_eq!(dismissed.code, 0, "{dismissed}");
    let status = bell.run(&["status"]).await;
    assert!(!status.stdout.contains("has failed"), "{status}");
    let unknown = bell.run(&["resync", "--dismiss", "1000"]).await;
    assert_eq!(unknown.code, 2, "{unknown}");
    assert!(unknown.stderr.contains("no resync 1000 has failed"), "{unknown}");
}

#[tokio::test]
async fn keys_that_are_refused_for_now_are_told_by_the_exit_code() {
    let bell = TestBell::installed().await;
    bell.insert_school("One").await;
    bell.drain().await;
    bell.target_sql("update salesforce.editor__c set editormunicipality__c = 'old'").await;
    let holder = bell.target_session().await;
    holder.batch_execute("begin; select from salesforce.editor__c for update").await.unwrap();

    let ended = bell.run(&["resync", "school", "--json"]).await;

    assert_eq!(ended.code, 1, "{ended}");
    let reports: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(reports[0]["retrying"], 1, "{ended}");
    assert_eq!(reports[0]["waiting"], 0, "{ended}");
}

#[tokio::test]
async fn what_an_unfinished_resync_is_about_to_write_is_in_flight_and_not_wrong() {
    let bell = TestBell::installed().await;
    for name in ["One", "Two"] {
        bell.insert_school(name).await;
    }
    bell.source_sql("truncate schoolbell.change").await;
    assert_eq!(bell.run(&["verify", "school"]).await.code, 1);
    bell.source_sql("insert into schoolbell.resync (object) values ('school')").await;

    let verified = bell.run(&["verify", "school", "--json"]).await;

    assert_eq!(verified.code, 0, "{verified}");
    let verdict: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!(verdict["objects"][0]["in_flight"], 2, "{verified}");
}

/// Changes come first, and keep coming: a resync still has its share of the time.
#[tokio::test]
async fn a_resync_goes_on_while_changes_keep_coming() {
    const SCHOOLS: i64 = 3_000;
    let mut bell = TestBell::installed().await;
    bell.source_sql(&format!(
        "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         select 'S' || g, 'Road', 'Town', 'GB', 'x', now(), now() from generate_series(1, {SCHOOLS}) g; \
         truncate schoolbell.change",
    ))
    .await;
    let (writer, done) = (bell.source_session().await, Arc::new(AtomicBool::new(false)));
    let has_ended = done.clone();
    let writing = tokio::spawn(async move {
        let mut commits = 0;
        while !has_ended.load(Ordering::Relaxed) {
            let change = "update schools set website = clock_timestamp()::text where name = 'S1'";
            writer.batch_execute(change).await.unwrap();
            commits += 1;
        }
        commits
    });
    bell.service_starts();
    bell.target_becomes("select name from salesforce.editor__c", &["S1"]).await;

    bell.run_ok(&["resync", "school", "--detach"]).await;

    let written = "select count(*)::text from salesforce.editor__c";
    bell.target_becomes(written, &[&SCHOOLS.to_string()]).await;
    done.store(true, Ordering::Relaxed);
    assert!(writing.await.unwrap() > 100);
    bell.caught_up().await;
    let newest = bell.source_texts("select website from schools where name = 'S1'").await;
    let arrived =
        bell.target_texts("select website__c from salesforce.editor__c where name = 'S1'");
    assert_eq!(arrived.await, newest);
}
