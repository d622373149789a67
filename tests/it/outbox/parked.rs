//! What a human can do with parked keys: list some of them, retry them now, drop them.

use serde_json::Value;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};

use crate::support::{TestBell, eventually};

/// A school that the target refuses, and the creator's contact, a role and its person that wait.
struct Parked {
    bell: TestBell,
    dead: String,
    waiting: String,
}

async fn some_of_each() -> Parked {
    let bell = TestBell::installed().await;
    bell.target_sql(
        "alter table salesforce.editor__c add constraint no_pirates check (name <> 'Pirates')",
    )
    .await;
    let dead = bell.insert_school("Pirates").await;
    let waiting = bell.insert_role(&dead, 1).await;
    bell.drain().await;
    let states = "select concat_ws(' ', object, state) from schoolbell.parked order by 1";
    let found = bell.source_texts(states).await;
    assert_eq!(found, ["contact waiting", "role waiting", "school dead"]);
    Parked { bell, dead, waiting }
}

async fn listed(bell: &TestBell, arguments: &[&str]) -> Vec<String> {
    let ended = bell.run(&[&["parked", "list", "--json"], arguments].concat()).await;
    assert!(ended.code < 2, "{ended}");
    let parked: Value = serde_json::from_str(&ended.stdout).unwrap();
    let objects = parked.as_array().unwrap().iter();
    let mut objects: Vec<String> =
        objects.map(|parked| parked["object"].as_str().unwrap().to_string()).collect();
    objects.sort();
    objects
}

/// The states of the parked keys of an object, with how often each was tried.
async fn tries(bell: &TestBell, object: &str) -> Vec<String> {
    bell.source_texts(&format!(
        "select concat_ws(' ', state, attempts, case when due_at <= now() then 'due' end) from schoolbell.parked \
         where object = '{object}'"
    ))
    .await
}

#[tokio::test]
async fn list_shows_the_keys_of_an_object_a_state_or_a_reason() {
    let Parked { bell, .. } = some_of_each().await;

    assert_eq!(listed(&bell, &[]).await, ["contact", "role", "school"]);
    assert_eq!(listed(&bell, &["role", "school"]).await, ["role", "school"]);
    assert_eq!(listed(&bell, &["--state", "waiting"]).await, ["contact", "role"]);
    assert_eq!(listed(&bell, &["--reason", "NO_PIRATES"]).await, ["school"]);
    assert_eq!(listed(&bell, &["--reason", "23514"]).await, ["school"]);
    assert!(listed(&bell, &["--reason", "2351"]).await.is_empty(), "a code is a whole code");
    assert_eq!(listed(&bell, &["--reason", "waits for contact"]).await, ["contact"]);
    assert!(listed(&bell, &["--reason", "no%pirates"]).await.is_empty(), "it is no pattern");
    assert!(listed(&bell, &["role", "--state", "dead"]).await.is_empty());
}

#[tokio::test]
async fn nothing_is_chosen_by_leaving_everything_out_and_no_name_is_guessed() {
    let Parked { bell, .. } = some_of_each().await;

    for action in ["retry", "drop"] {
        let nothing = bell.run(&["parked", action]).await;
        assert_eq!((nothing.code, nothing.stdout.as_str()), (2, ""), "{nothing}");
        assert!(nothing.stderr.contains("Name an object, a --key or a --state, or pass --all"));
        let both = bell.run(&["parked", action, "school", "--all"]).await;
        assert_eq!((both.code, both.stdout.as_str()), (2, ""), "{both}");
    }
    for action in ["list", "retry", "drop"] {
        let unknown = bell.run(&["parked", action, "pupil"]).await;
        assert_eq!((unknown.code, unknown.stdout.as_str()), (2, ""), "{unknown}");
        let sentence = "the mapping has no object pupil; it has contact, school, role";
        assert!(unknown.stderr.contains(sentence), "{unknown}");
    }
    assert_eq!(bell.parked().await.len(), 3);
}

#[tokio::test]
async fn a_dead_key_that_is_retried_in_vain_is_dead_again_and_counted() {
    let Parked { bell, .. } = some_of_each().await;
    assert_eq!(tries(&bell, "school").await, ["dead 1"]);

    let retried = bell.run_ok(&["parked", "retry", "school"]).await;
    assert!(retried.starts_with("due now: 1 school dead\n"), "{retried}");
    assert_eq!(tries(&bell, "school").await, ["dead 1 due"]);
    assert_eq!(tries(&bell, "role").await, ["waiting 1"], "another object is left alone");
    bell.drain().await;
    assert_eq!(tries(&bell, "school").await, ["dead 2"]);

    bell.target_sql("alter table salesforce.editor__c drop constraint no_pirates").await;
    bell.run_ok(&["parked", "retry", "--state", "dead"]).await;
    bell.drain().await;
    assert!(tries(&bell, "school").await.is_empty());
    assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, ["Pirates"]);
}

#[tokio::test]
async fn a_retry_wakes_a_sleeping_service() {
    let Parked { mut bell, dead, .. } = some_of_each().await;
    // A service that would look again by itself only after the end of this test.
    bell.pace.sweep = std::time::Duration::from_secs(3600);
    bell.service_starts();
    bell.asleep().await;
    bell.target_sql("alter table salesforce.editor__c drop constraint no_pirates").await;

    bell.run_ok(&["parked", "retry", "--key", &dead]).await;

    bell.target_becomes("select name from salesforce.editor__c", &["Pirates"]).await;
}

#[tokio::test]
async fn a_retry_takes_waiting_and_retrying_keys_too_and_leaves_the_others_their_time() {
    let Parked { bell, dead, waiting } = some_of_each().await;
    bell.source_sql(
        "insert into schoolbell.parked (object, key, state, due_at, reason) values \
         ('school', 'later', 'retrying', now() + interval '1 hour', 'x'), \
         ('school', 'never', 'retrying', 'infinity', 'x')",
    )
    .await;

    let all = bell.run_ok(&["parked", "retry", "--key", &waiting, "--key", "later"]).await;

    assert!(all.starts_with("due now: 1 role waiting\ndue now: 1 school retrying\n"), "{all}");
    let due = "select key from schoolbell.parked where due_at <= now() order by 1";
    assert_eq!(bell.source_texts(due).await, [waiting.as_str(), "later"]);
    bell.run_ok(&["parked", "retry", "--all"]).await;
    assert_eq!(bell.source_texts(due).await.len(), 5);
    assert!(bell.source_texts(due).await.contains(&dead));
}

#[tokio::test]
async fn a_named_key_that_is_not_parked_is_told() {
    let Parked { bell, dead, .. } = some_of_each().await;

    let partly = bell.run(&["parked", "retry", "school", "--key", &dead, "--key", "4711"]).await;
    let elsewhere = bell.run(&["parked", "drop", "role", "--key", &dead, "--yes"]).await;
    let nothing = bell.run(&["parked", "retry", "--state", "retrying"]).await;

    assert_eq!(partly.code, 1, "{partly}");
    assert!(partly.stdout.starts_with("not parked: 4711\ndue now: 1 school dead\n"), "{partly}");
    assert_eq!(elsewhere.code, 1, "{elsewhere}");
    assert!(elsewhere.stdout.starts_with(&format!("not parked: {dead}\n")), "{elsewhere}");
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, "nothing that fits is parked\n"));
    assert_eq!(bell.parked().await.len(), 3);
}

#[tokio::test]
async fn drop_says_what_it_will_do_and_does_it_only_when_told_to() {
    let Parked { bell, dead, waiting } = some_of_each().await;

    let asked = bell.run(&["parked", "drop", "school", "role"]).await;
    assert_eq!(asked.code, 2, "{asked}");
    assert!(asked.stdout.starts_with("This forgets:\n"), "{asked}");
    for part in [format!("1 role waiting: {waiting}\n"), format!("1 school dead: {dead}\n")] {
        assert!(asked.stdout.contains(&part), "{part} {asked}");
    }
    assert!(asked.stderr.contains("there is no terminal to ask at; pass --yes"), "{asked}");
    assert_eq!(bell.parked().await.len(), 3);

    let done = bell.run_ok(&["parked", "drop", "school", "role", "--state", "dead", "--yes"]).await;
    assert!(done.ends_with("forgotten: 1 school dead\n"), "{done}");
    let left = bell.source_texts("select object from schoolbell.parked order by 1").await;
    assert_eq!(left, ["contact", "role"]);
    bell.run_ok(&["parked", "drop", "--all", "--yes"]).await;
    assert!(bell.parked().await.is_empty());
}

#[tokio::test]
async fn what_was_dropped_comes_back_with_a_change_or_a_resync() {
    let Parked { bell, dead, .. } = some_of_each().await;
    bell.run_ok(&["parked", "drop", "--all", "--yes"]).await;
    bell.drain().await;
    assert!(bell.parked().await.is_empty());

    bell.run(&["resync", "school", "--key", &dead]).await;
    assert_eq!(tries(&bell, "school").await, ["dead 1"]);

    bell.source_sql("update schools set name = 'Sailors'").await;
    bell.drain().await;
    assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, ["Sailors"]);
}

#[tokio::test]
async fn drop_names_a_few_keys_of_many_and_spares_what_was_parked_after_the_plan() {
    let bell = TestBell::installed().await;
    bell.source_sql(
        "insert into schoolbell.parked (object, key, state, reason, parked_at) \
         select 'school', 'k' || n, 'dead', 'x', now() - interval '1 hour' + n * interval '1 second' \
         from generate_series(1, 1000) n; \
         insert into schoolbell.parked (object, key, state, reason, parked_at) \
         values ('school', 'later', 'dead', 'x', now() + interval '1 hour')",
    )
    .await;

    let done = bell.run_ok(&["parked", "drop", "school", "--yes"]).await;

    assert!(done.contains("  1001 school dead: k1, k2, k3, …\n"), "{done}");
    assert!(done.ends_with("forgotten: 1000 school dead\n"), "{done}");
    assert_eq!(bell.source_texts("select key from schoolbell.parked").await, ["later"]);
}

#[tokio::test]
async fn keys_of_an_object_that_the_mapping_lacks_can_still_be_listed_and_dropped() {
    let bell = TestBell::installed().await;
    bell.source_sql(
        "insert into schoolbell.parked (object, key, state, reason) values ('pupil', '1', 'dead', 'x')",
    )
    .await;

    assert_eq!(listed(&bell, &["pupil"]).await, ["pupil"]);
    bell.run_ok(&["parked", "drop", "pupil", "--yes"]).await;

    assert!(bell.parked().await.is_empty());
}

#[tokio::test]
async fn keys_that_are_retried_while_the_service_works_are_neither_lost_nor_stuck() {
    let bell = TestBell::start().await;
    bell.source_sql(
        "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         select 'School ' || n, 'R', 'T', 'GB', 'w', now(), now() from generate_series(1, 2000) n; \
         insert into roles (user_id, school_id, role, created_at, updated_at) \
         select gen_random_uuid(), id, 1, now(), now() from schools",
    )
    .await;
    eventually("roles wait", || async {
        match bell.parked().await.len() {
            0 => Err("none"),
            _ => Ok(()),
        }
    })
    .await;

    for _ in 0..5 {
        bell.run_ok(&["parked", "retry", "role"]).await;
        bell.source_sql("update roles set updated_at = updated_at + interval '1 second'").await;
    }

    bell.caught_up().await;
    assert_eq!(tries(&bell, "role").await.len(), 2_000);
    bell.every_row_is_right().await;
}

const ACKNOWLEDGE: &str = include_str!("../../../sql/acknowledge.sql");
const WAKE: &str = include_str!("../../../sql/parked_wake.sql");

/// Frees these keys and parks those, as an acknowledgement does.
async fn acknowledge(session: &Client, freed: &[&str], parked: &[&str]) -> Result<(), Error> {
    let schools = |keys: &[&str]| vec!["school"; keys.len()];
    let (nothing, reasons) = (vec![None::<&str>; parked.len()], vec!["again"; parked.len()]);
    let changes: (Vec<&str>, Vec<i64>) = Default::default();
    let states = vec!["dead"; parked.len()];
    let held = vec![false; parked.len()];
    let seconds = vec![1; parked.len()];
    let parameters: [&(dyn ToSql + Sync); 16] = [
        &changes.0,
        &changes.1,
        &schools(freed),
        &freed,
        &schools(parked),
        &parked,
        &states,
        &nothing,
        &nothing,
        &reasons,
        &nothing,
        &nothing,
        &held,
        &"system",
        &"database",
        &seconds,
    ];
    session.execute(ACKNOWLEDGE, &parameters).await.map(|_| ())
}

#[tokio::test]
async fn an_arrival_and_an_acknowledgement_of_the_same_keys_never_deadlock() {
    // What is freed, what is parked again, the key that another session has locked meanwhile, and
    // which comes first.
    let cases: [(&[&str], &[&str], &str, bool); 4] = [
        (&["z", "m", "a"], &[], "m", true),
        (&["m", "a"], &["z"], "m", true),
        (&["a"], &["m", "z"], "a", false),
        (&["z"], &["m", "a"], "m", true),
    ];
    for (freed, parked, held, acknowledged_first) in cases {
        let bell = TestBell::installed().await;
        bell.source_sql(
            "insert into schoolbell.parked (object, key, state, awaits, awaits_key, reason) \
             select 'school', key, 'waiting', 'it', 'x', 'test' from unnest('{a,m,z}'::text[]) as key",
        )
        .await;
        let [one, other, holder] =
            [bell.source_session().await, bell.source_session().await, bell.source_session().await];
        let hold = format!("begin; select from schoolbell.parked where key = '{held}' for update");
        holder.batch_execute(&hold).await.unwrap();
        let waiting = async |sessions: i64| {
            eventually("they wait", || async {
                let sql = "select count(*) from pg_stat_activity where datname = current_database() \
                           and wait_event_type = 'Lock'";
                match bell.source_count(sql).await {
                    found if found == sessions => Ok(()),
                    found => Err(found),
                }
            })
            .await;
        };

        let acknowledging = async {
            if !acknowledged_first {
                waiting(1).await;
            }
            acknowledge(&one, freed, parked).await
        };
        let waking = async {
            if acknowledged_first {
                waiting(1).await;
            }
            other.execute(WAKE, &[&"it", &vec!["x"]]).await
        };
        let releasing = async {
            waiting(2).await;
            holder.batch_execute("rollback").await
        };
        let (acknowledged, woken, _) = tokio::join!(acknowledging, waking, releasing);

        assert!(
            acknowledged.is_ok() && woken.is_ok(),
            "{freed:?}, {parked:?}: {acknowledged:?}, {woken:?}"
        );
        let mut left =
            bell.source_texts("select key from schoolbell.parked where state = 'dead'").await;
        left.sort();
        let mut parked = parked.to_vec();
        parked.sort_unstable();
        assert_eq!(left, parked, "{freed:?}");
        let waiting = "select count(*) from schoolbell.parked where state = 'waiting'";
        assert_eq!(bell.source_count(waiting).await as usize, 3 - freed.len() - parked.len());
    }
}
