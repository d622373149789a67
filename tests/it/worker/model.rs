//! Random operations on a pair of databases, compared with a simple model of what the target must hold and of what
//! must be parked (`model/rules.rs`). A failed case is shrunk and printed as the operations that lead to it.
//!
//! Each run draws its own cases. `PROPTEST_CASES=1000` runs more of them, `PROPTEST_RNG_SEED=42` always the same
//! ones. A case that failed is written to `proptest-regressions/model.txt` next to this file and comes first
//! in later runs; commit that line with the correction, and take it out when the operations change. Shrinking
//! ends after a minute; `PROPTEST_MAX_SHRINK_TIME` (milliseconds) gives it longer. `PROPTEST_VERBOSE=1` with
//! `-- --nocapture` tells each operation before it is done.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tokio::runtime::Runtime;

use crate::support::load::stretched;
use crate::support::{self, TestBell, rows};
use operation::{Operation, Statement};
use rules::{Key, Model, Object, School};

mod operation;
mod rules;

/// What an ordinary run can afford.
const CASES: u32 = 12;
/// The service needs some milliseconds; what has not come to rest by then never will.
const PATIENCE: Duration = Duration::from_secs(15);

prop_state_machine! {
    #![proptest_config(support::drawn(CASES, "model"))]

    #[test]
    fn whatever_happens_the_target_holds_what_the_model_says(sequential 20..50 => Bridge);
}

/// The refusals are a table, so that they can change without a lock on what they are about. Only users are
/// refused: Heroku Connect itself may write what is there.
const REFUSALS: &str = "create table salesforce.refused (word text primary key); \
    create function salesforce.refuse() returns trigger language plpgsql as $$ begin \
    if public.get_xmlbinary() = 'base64' and exists (select from salesforce.refused where word = \
    coalesce(to_jsonb(new) ->> 'roletype__c', to_jsonb(new) ->> 'name')) then \
    raise exception 'refused' using errcode = '23514'; end if; return new; end $$; \
    create trigger refuse before insert or update on salesforce.editor__c \
    for each row execute function salesforce.refuse(); \
    create trigger refuse before insert or update on salesforce.contact_editor_affiliation__c \
    for each row execute function salesforce.refuse()";

/// The target's rows in the words of the model.
const HELD: &str = "
    select 'school' as object, editoruuid__c as key, concat_ws(' ', name,
        case when rejectedat__c is null then 'standing' else 'rejected' end, extract(day from updatedat__c)) as content
    from salesforce.editor__c
    union all
    select 'role', affiliation_id__c, concat_ws(' ', coalesce(right(contact__r__pi_accounts_unique_id__c, 1), 'nobody'),
        'in', coalesce(right(editor__r__editoruuid__c, 1), 'nobody'), 'as', coalesce(roletype__c, 'nothing'),
        extract(day from updatedat__c))
    from salesforce.contact_editor_affiliation__c
    union all
    select 'contact', pi_accounts_unique_id__c, coalesce(editoragreetouxcontact__c::text, 'unknown')
    from salesforce.contact";
const PARKED: &str = "select object, key, concat_ws(' ', state, 'for ' || awaits, right(awaits_key, 1)) as content \
    from schoolbell.parked";
/// What is waited for, in the words of [`THERE`].
const AWAITED: &str =
    "select distinct awaits || ' ' || awaits_key from schoolbell.parked where state = 'waiting'";
const THERE: &str = "select 'school sfid ' || editoruuid__c from salesforce.editor__c where sfid is not null \
    union all select 'contact sfid ' || pi_accounts_unique_id__c from salesforce.contact \
    union all select 'contact row ' || pi_accounts_unique_id__c from salesforce.contact";
const DUE: &str = "(select count(*) from schoolbell.change) \
    + (select count(*) from schoolbell.parked where due_at is not null) \
    + (select count(*) from schoolbell.resync where finished_at is null)";

/// Draws the operations. Its state is a model that has seen nothing of the target.
struct Script;

impl ReferenceStateMachine for Script {
    type State = Model;
    type Transition = Operation;

    fn init_state() -> BoxedStrategy<Model> {
        // Some contacts are there from the start, so that not all cases begin with waiting.
        let persons = 1..=operation::PERSONS;
        let there = proptest::collection::btree_set(persons, 0..=usize::from(operation::PERSONS));
        let model = there.prop_map(|there| {
            let mut model = Model::default();
            there.into_iter().for_each(|person| model.contact_arrives(person));
            model
        });
        model.boxed()
    }

    fn transitions(model: &Model) -> BoxedStrategy<Operation> {
        operation::operations(model.running)
    }

    fn preconditions(model: &Model, operation: &Operation) -> bool {
        match operation {
            Operation::ServiceStarts => !model.running,
            Operation::ServiceStops | Operation::ServiceIsKilled => model.running,
            Operation::ContactArrives(person) => !model.has_contact(*person),
            Operation::ContactLeaves(person) => model.has_contact(*person),
            _ => true,
        }
    }

    fn apply(mut model: Model, operation: &Operation) -> Model {
        if needs_rest(&model, operation) {
            model.comes_to_rest(None);
        }
        tell(&mut model, operation);
        if let Operation::EverythingSettles = operation {
            model.comes_to_rest(None);
        }
        model
    }
}

/// What depends on how far the service has come happens only when that is known.
fn needs_rest(model: &Model, operation: &Operation) -> bool {
    let depends = match operation {
        Operation::SalesforceAccepts
        | Operation::ContactLeaves(_)
        | Operation::TargetRefuses(_)
        | Operation::TargetAdmits(_)
        | Operation::TargetIsReloaded
        | Operation::SalesforceEdits(_)
        | Operation::Drop(_) => true,
        // Whether it is there when a resync looks for what is missing.
        Operation::ContactArrives(_) => model.looks_for_missing(),
        Operation::Commit(statements) => truncates(statements),
        _ => false,
    };
    depends && (model.running || model.unclear)
}

fn truncates(statements: &[Statement]) -> bool {
    statements.iter().any(|statement| matches!(statement, Statement::TruncateRoles))
}

fn tell(model: &mut Model, operation: &Operation) {
    match operation {
        Operation::Commit(statements) => {
            if let Some(steps) = operation::steps(&model.source, statements) {
                model.commits(steps);
            }
        }
        Operation::RollBack(_) | Operation::EverythingSettles => {}
        Operation::ServiceStarts => model.service_starts(),
        Operation::ServiceStops | Operation::ServiceIsKilled => model.service_ends(),
        Operation::SalesforceAccepts => model.accepts(),
        Operation::ContactArrives(person) => model.contact_arrives(*person),
        Operation::ContactLeaves(person) => {
            model.accepts();
            model.contact_leaves(*person);
        }
        Operation::TargetRefuses(word) => model.refuses(word),
        Operation::TargetAdmits(word) => model.admits(word),
        Operation::TargetIsReloaded => model.reloads(),
        Operation::SalesforceEdits(school) => model.edits(*school),
        Operation::Resync { object, missing, detached } => {
            model.resyncs(*object, *missing, *detached);
        }
        Operation::Retry(object) => model.retries(*object),
        Operation::Drop(object) => model.drops(*object),
    }
}

/// The real pair of databases, and a model that learns which of several right states was seen.
struct Bridge {
    bell: TestBell,
    model: Model,
    runtime: Runtime,
}

impl StateMachineTest for Bridge {
    type SystemUnderTest = Self;
    type Reference = Script;

    fn init_test(model: &Model) -> Self {
        let runtime = Runtime::new().unwrap();
        let bell = runtime.block_on(async {
            let mut bell = TestBell::installed().await;
            // The sweep finds every key that nothing has woken: with it, a lost wake-up would only
            // be slow.
            bell.pace.sweep = Duration::from_secs(3600);
            bell.target_sql(REFUSALS).await;
            for (_, person) in model.held.keys() {
                bell.salesforce_has_contact(&operation::person_uuid(*person)).await;
            }
            bell
        });
        Self { bell, model: model.clone(), runtime }
    }

    fn apply(mut bridge: Self, _: &Model, operation: Operation) -> Self {
        let Self { bell, model, runtime } = &mut bridge;
        runtime.block_on(step(bell, model, &operation));
        bridge
    }

    fn teardown(mut bridge: Self, _: Model) {
        let Self { bell, model, runtime } = &mut bridge;
        runtime.block_on(settle(bell, model));
    }
}

async fn step(bell: &mut TestBell, model: &mut Model, operation: &Operation) {
    if needs_rest(model, operation) {
        settle(bell, model).await;
    }
    let expected = match operation {
        Operation::Commit(statements) | Operation::RollBack(statements) => {
            operation::steps(&model.source, statements).is_some()
        }
        _ => true,
    };
    // Before it happens: the service may be faster than we are.
    tell(model, operation);
    match operation {
        Operation::Commit(statements) => transact(bell, statements, true, expected).await,
        Operation::RollBack(statements) => transact(bell, statements, false, expected).await,
        Operation::ServiceStarts => bell.service_starts(),
        Operation::ServiceStops => _ = bell.service_stops().await,
        Operation::ServiceIsKilled => {
            bell.service_is_killed().await;
            no_session_is_left(bell).await;
        }
        Operation::SalesforceAccepts => bell.salesforce_accepts_everything().await,
        Operation::ContactArrives(person) => {
            bell.salesforce_has_contact(&operation::person_uuid(*person)).await;
        }
        Operation::ContactLeaves(person) => {
            bell.salesforce_accepts_everything().await;
            let person = operation::person_uuid(*person);
            heroku_connect(
                bell,
                &format!(
                    "delete from salesforce.contact where pi_accounts_unique_id__c = '{person}'"
                ),
            )
            .await;
        }
        Operation::TargetRefuses(word) => {
            bell.target_sql(&format!(
                "insert into salesforce.refused values ('{word}') on conflict do nothing"
            ))
            .await;
        }
        Operation::TargetAdmits(word) => {
            bell.target_sql(&format!("delete from salesforce.refused where word = '{word}'")).await;
        }
        Operation::TargetIsReloaded => {
            heroku_connect(
                bell,
                "delete from salesforce.contact_editor_affiliation__c where sfid is null; \
                 delete from salesforce.editor__c where sfid is null",
            )
            .await;
        }
        Operation::SalesforceEdits(school) => {
            let school = operation::school_uuid(*school);
            let edit = "update salesforce.editor__c set name = 'Edited', rejectedat__c = null, updatedat__c = '2026-01-09'";
            heroku_connect(bell, &format!("{edit} where editoruuid__c = '{school}'")).await;
        }
        Operation::Resync { object, missing, detached } => {
            let object = object.map(Object::name);
            let missing = missing.then_some("--missing");
            let detached = detached.then_some("--detach");
            let arguments: Vec<&str> =
                ["resync"].into_iter().chain(object).chain(missing).chain(detached).collect();
            ran(bell, &arguments).await;
        }
        Operation::Retry(object) => {
            ran(bell, &["parked", "retry", object.map_or("--all", Object::name)]).await;
        }
        Operation::Drop(object) => ran(bell, &["parked", "drop", object.name(), "--yes"]).await,
        Operation::EverythingSettles => settle(bell, model).await,
    }
}

async fn transact(bell: &TestBell, statements: &[Statement], commit: bool, expected: bool) {
    let done = operation::transact(&bell.source, statements, commit).await;
    assert_eq!(done.is_ok(), expected, "the source itself: {done:?}");
}

/// As Heroku Connect's own write.
async fn heroku_connect(bell: &TestBell, sql: &str) {
    bell.target_sql(&format!("begin; set local xmlbinary = 'hex'; {sql}; commit")).await;
}

/// 1: something is dead, which is not our question.
async fn ran(bell: &TestBell, arguments: &[&str]) {
    let ended = bell.run(arguments).await;
    assert!(ended.code < 2, "{ended}");
}

/// What a killed service had sent to the databases is done or undone.
async fn no_session_is_left(bell: &TestBell) {
    let sessions = "select count(*) from pg_stat_activity where application_name like 'schoolbell%' \
                    and datname = current_database()";
    patiently("the sessions of the killed service end", || async {
        match bell.source_count(sessions).await + bell.target_count(sessions).await {
            0 => Ok(()),
            left => Err(format!("{left} left")),
        }
    })
    .await;
}

/// Everything is compared when nothing is due any more; the service is started for that if it does not run.
async fn settle(bell: &mut TestBell, model: &mut Model) {
    let running = model.running;
    if !running {
        bell.service_starts();
    }
    patiently("nothing is due any more", || due(bell)).await;

    let held = found(&bell.target, HELD).await;
    let mut wrong = model.comes_to_rest(Some(&held));
    let (must_hold, must_be_parked) = model.expected();
    wrong.extend(differences("target", &must_hold, &held));
    wrong.extend(differences("parked", &must_be_parked, &found(&bell.source, PARKED).await));
    let writes = usize::try_from(bell.salesforce_writes().await).unwrap();
    if writes > model.writes {
        wrong.push(format!("{writes} writes, where {} are enough", model.writes));
    }
    model.writes = writes;
    let failed = "select sf_message from salesforce._trigger_log where state = 'FAILED'";
    wrong.extend(bell.target_texts(failed).await);
    assert!(wrong.is_empty(), "{}\n{model:#?}", wrong.join("\n"));

    if !running {
        bell.service_stops().await;
    }
}

/// What is still to be done: claims, and parked keys whose parent has come.
async fn due(bell: &TestBell) -> Result<(), String> {
    let due = bell.source_count(DUE).await;
    let awaited = bell.source_texts(AWAITED).await;
    let mut there = bell.target_texts(THERE).await;
    there.retain(|key| awaited.contains(key));
    match (due, &there[..]) {
        (0, []) => Ok(()),
        _ => Err(format!("{due} due, arrived: {there:?}, parked: {:?}", bell.parked().await)),
    }
}

async fn found(client: &tokio_postgres::Client, sql: &str) -> BTreeMap<Key, String> {
    let mut found = BTreeMap::new();
    for row in rows(client, sql).await {
        let text = |column: &str| row[column].clone().unwrap();
        let object = Object::ALL.into_iter().find(|object| object.name() == text("object"));
        let number = text("key").chars().last().and_then(|last| last.to_digit(10));
        let key = (object.unwrap(), u8::try_from(number.unwrap()).unwrap());
        let before = found.insert(key, text("content"));
        assert_eq!(before, None, "{key:?} is there twice");
    }
    found
}

fn differences(
    where_: &str,
    wanted: &BTreeMap<Key, String>,
    found: &BTreeMap<Key, String>,
) -> Vec<String> {
    let mut keys: Vec<&Key> = wanted.keys().chain(found.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| wanted.get(key) != found.get(key))
        .map(|key| format!("{where_}: {key:?} is {:?}, not {:?}", found.get(key), wanted.get(key)))
        .collect()
}

/// As `eventually`, but with less patience: a failed case is tried many times while it is shrunk.
async fn patiently<F>(what: &str, mut look: impl FnMut() -> F)
where
    F: Future<Output = Result<(), String>>,
{
    let started = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        ticks.tick().await;
        match look().await {
            Ok(()) => return,
            Err(found) if started.elapsed() > stretched(PATIENCE) => {
                panic!("waited in vain until {what}: {found}")
            }
            Err(_) => {}
        }
    }
}

/// A resync of what the target lacks has met a contact that was away, which is therefore waited for.
#[test]
fn a_contact_that_comes_after_a_resync_has_missed_it_is_written() {
    let mut model = Model::default();
    model.contact_arrives(1);
    let mut bridge = Bridge::init_test(&model);
    let school =
        School { name: "Acme", creator: Some(1), agrees: Some(true), rejected: true, updated: 1 };
    for operation in [
        Operation::Commit(vec![Statement::School(operation::Put::Insert, 1, school)]),
        Operation::EverythingSettles,
        Operation::ContactLeaves(1),
        Operation::Resync { object: None, missing: true, detached: false },
        Operation::ContactArrives(1),
        Operation::SalesforceAccepts,
        Operation::EverythingSettles,
    ] {
        bridge = Bridge::apply(bridge, &model, operation);
    }
    let held = bridge.model.held.get(&(Object::Contact, 1)).cloned();
    Bridge::teardown(bridge, model);
    assert_eq!(held.as_deref(), Some("true"));
}
