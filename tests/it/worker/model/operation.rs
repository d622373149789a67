//! What may happen: drawn at random, applied to the model and to the databases.

use std::fmt;

use proptest::prelude::*;
use tokio_postgres::{Client, Error};

use super::rules::{Object, Role, School, Source, Step};

/// Few of each, so that operations meet.
const SCHOOLS: u8 = 3;
const ROLES: u8 = 3;
pub const PERSONS: u8 = 2;
const DAYS: u8 = 3;
/// The first is trimmed on its way, the last may be refused.
const NAMES: [&str; 4] = [" Acme ", "Beta", "Acme", "Pirates"];
/// What the target refuses at times: the name of a school, the type of a role.
const WORDS: [&str; 2] = ["Pirates", "owner"];

/// One step.
#[derive(Debug, Clone)]
pub enum Operation {
    Commit(Vec<Statement>),
    RollBack(Vec<Statement>),
    ServiceStarts,
    ServiceStops,
    ServiceIsKilled,
    SalesforceAccepts,
    ContactArrives(u8),
    ContactLeaves(u8),
    TargetRefuses(&'static str),
    TargetAdmits(&'static str),
    TargetIsReloaded,
    /// Somebody edits a school in Salesforce.
    SalesforceEdits(u8),
    Resync {
        object: Option<Object>,
        missing: bool,
        detached: bool,
    },
    Retry(Option<Object>),
    Drop(Object),
    EverythingSettles,
}

/// A statement of the application. Without an id it is about all rows.
#[derive(Clone)]
pub enum Statement {
    School(Put, u8, School),
    Role(Put, u8, Role),
    ChangeSchool(Option<u8>, SchoolChange),
    ChangeRole(Option<u8>, RoleChange),
    DeleteSchool(Option<u8>),
    DeleteRole(Option<u8>),
    TruncateRoles,
}

/// How a row comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Insert,
    Upsert,
    Copy,
}

#[derive(Debug, Clone)]
pub enum SchoolChange {
    Name(&'static str),
    Creator(Option<u8>),
    Agrees(Option<bool>),
    Rejected(bool),
    Updated(u8),
    /// A column that nothing is published of.
    Nothing,
}

#[derive(Debug, Clone)]
pub enum RoleChange {
    User(Option<u8>),
    School(Option<u8>),
    Kind(Option<u8>),
    Updated(u8),
}

/// Changes as SQL, so that a failed case can be read.
impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::School(put, id, school) => write!(f, "{put:?} {id} {school:?}"),
            Self::Role(put, id, role) => write!(f, "{put:?} {id} {role:?}"),
            other => f.write_str(&other.sql()),
        }
    }
}

/// The operations that may come next.
pub fn operations(running: bool) -> BoxedStrategy<Operation> {
    let service = match running {
        true => {
            prop_oneof![1 => Just(Operation::ServiceStops), 2 => Just(Operation::ServiceIsKilled)]
                .boxed()
        }
        false => Just(Operation::ServiceStarts).boxed(),
    };
    let object = proptest::sample::select(&Object::ALL[..]);
    let word = proptest::sample::select(&WORDS[..]);
    prop_oneof![
        30 => statement().prop_map(|statement| Operation::Commit(vec![statement])),
        10 => statements().prop_map(Operation::Commit),
        2 => statements().prop_map(Operation::RollBack),
        8 => service,
        10 => Just(Operation::SalesforceAccepts),
        8 => (1..=PERSONS).prop_map(Operation::ContactArrives),
        3 => (1..=PERSONS).prop_map(Operation::ContactLeaves),
        4 => word.clone().prop_map(Operation::TargetRefuses),
        4 => word.prop_map(Operation::TargetAdmits),
        3 => Just(Operation::TargetIsReloaded),
        4 => (1..=SCHOOLS).prop_map(Operation::SalesforceEdits),
        6 => (proptest::option::of(object.clone()), any::<bool>(), any::<bool>()).prop_map(
            |(object, missing, detached)| Operation::Resync { object, missing, detached }
        ),
        4 => proptest::option::of(object.clone()).prop_map(Operation::Retry),
        1 => object.prop_map(Operation::Drop),
        8 => Just(Operation::EverythingSettles),
    ]
    .boxed()
}

fn statements() -> impl Strategy<Value = Vec<Statement>> {
    proptest::collection::vec(statement(), 2..5)
}

fn statement() -> BoxedStrategy<Statement> {
    let put = || proptest::sample::select(&[Put::Insert, Put::Upsert, Put::Copy][..]);
    let one_or_all = |ids: u8| prop_oneof![6 => (1..=ids).prop_map(Some), 1 => Just(None)];
    prop_oneof![
        10 => (put(), 1..=SCHOOLS, school()).prop_map(|(put, id, row)| Statement::School(put, id, row)),
        12 => (put(), 1..=ROLES, role()).prop_map(|(put, id, row)| Statement::Role(put, id, row)),
        12 => (one_or_all(SCHOOLS), school_change()).prop_map(|(id, change)| Statement::ChangeSchool(id, change)),
        8 => (one_or_all(ROLES), role_change()).prop_map(|(id, change)| Statement::ChangeRole(id, change)),
        4 => one_or_all(SCHOOLS).prop_map(Statement::DeleteSchool),
        4 => one_or_all(ROLES).prop_map(Statement::DeleteRole),
        2 => Just(Statement::TruncateRoles),
    ]
    .boxed()
}

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&NAMES[..])
}

fn person() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![5 => (1..=PERSONS).prop_map(Some), 1 => Just(None)]
}

fn school_id() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![7 => (1..=SCHOOLS).prop_map(Some), 1 => Just(None)]
}

fn kind() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![5 => (0..=2_u8).prop_map(Some), 1 => Just(None)]
}

fn agrees() -> impl Strategy<Value = Option<bool>> {
    prop_oneof![6 => any::<bool>().prop_map(Some), 1 => Just(None)]
}

/// Mostly: only then may several schools have one creator, and compete.
fn rejected() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.7)
}

fn school() -> impl Strategy<Value = School> {
    (name(), person(), agrees(), rejected(), 1..=DAYS).prop_map(
        |(name, creator, agrees, rejected, updated)| School {
            name,
            creator,
            agrees,
            rejected,
            updated,
        },
    )
}

fn role() -> impl Strategy<Value = Role> {
    (person(), school_id(), kind(), 1..=DAYS).prop_map(|(user, school, kind, updated)| Role {
        user,
        school,
        kind,
        updated,
    })
}

fn school_change() -> impl Strategy<Value = SchoolChange> {
    prop_oneof![
        4 => name().prop_map(SchoolChange::Name),
        2 => person().prop_map(SchoolChange::Creator),
        3 => agrees().prop_map(SchoolChange::Agrees),
        2 => rejected().prop_map(SchoolChange::Rejected),
        2 => (1..=DAYS).prop_map(SchoolChange::Updated),
        1 => Just(SchoolChange::Nothing),
    ]
}

fn role_change() -> impl Strategy<Value = RoleChange> {
    prop_oneof![
        person().prop_map(RoleChange::User),
        school_id().prop_map(RoleChange::School),
        kind().prop_map(RoleChange::Kind),
        (1..=DAYS).prop_map(RoleChange::Updated),
    ]
}

/// The steps of a transaction, or none if the source itself refuses it.
pub fn steps(source: &Source, statements: &[Statement]) -> Option<Vec<Step>> {
    let mut rows = source.clone();
    let step = |statement: &Statement| {
        let truncated = matches!(statement, Statement::TruncateRoles).then_some(Object::Role);
        let done = statement.changes(&mut rows) && rows.is_allowed();
        done.then(|| Step { rows: rows.clone(), truncated })
    };
    statements.iter().map(step).collect()
}

/// Executes it on the source; returns whether it was committed.
pub async fn transact(
    source: &Client,
    statements: &[Statement],
    commit: bool,
) -> Result<(), Error> {
    if let ([statement], true) = (statements, commit) {
        return statement.run(source).await;
    }
    source.batch_execute("begin").await?;
    for statement in statements {
        if let Err(error) = statement.run(source).await {
            source.batch_execute("rollback").await?;
            return Err(error);
        }
    }
    source.batch_execute(if commit { "commit" } else { "rollback" }).await
}

impl Statement {
    /// False if the primary key refuses it.
    fn changes(&self, source: &mut Source) -> bool {
        let chosen = |id: &Option<u8>, one: &u8| id.is_none_or(|id| id == *one);
        match self {
            Self::School(put, id, school) => {
                let before = source.schools.insert(*id, school.clone());
                return *put == Put::Upsert || before.is_none();
            }
            Self::Role(put, id, role) => {
                let before = source.roles.insert(*id, role.clone());
                return *put == Put::Upsert || before.is_none();
            }
            Self::ChangeSchool(id, change) => {
                for (_, school) in source.schools.iter_mut().filter(|(one, _)| chosen(id, one)) {
                    match change {
                        SchoolChange::Name(name) => school.name = name,
                        SchoolChange::Creator(creator) => school.creator = *creator,
                        SchoolChange::Agrees(agrees) => school.agrees = *agrees,
                        SchoolChange::Rejected(rejected) => school.rejected = *rejected,
                        SchoolChange::Updated(day) => school.updated = *day,
                        SchoolChange::Nothing => {}
                    }
                }
            }
            Self::ChangeRole(id, change) => {
                for (_, role) in source.roles.iter_mut().filter(|(one, _)| chosen(id, one)) {
                    match change {
                        RoleChange::User(user) => role.user = *user,
                        RoleChange::School(school) => role.school = *school,
                        RoleChange::Kind(kind) => role.kind = *kind,
                        RoleChange::Updated(day) => role.updated = *day,
                    }
                }
            }
            Self::DeleteSchool(id) => source.schools.retain(|one, _| !chosen(id, one)),
            Self::DeleteRole(id) => source.roles.retain(|one, _| !chosen(id, one)),
            Self::TruncateRoles => source.roles.clear(),
        }
        true
    }

    async fn run(&self, source: &Client) -> Result<(), Error> {
        let (table, columns, values) = match self {
            Self::School(Put::Copy, id, school) => {
                ("schools", SCHOOL_COLUMNS, school_values(*id, school))
            }
            Self::Role(Put::Copy, id, role) => ("roles", ROLE_COLUMNS, role_values(*id, role)),
            other => return source.batch_execute(&other.sql()).await,
        };
        let values: Vec<String> =
            values.into_iter().map(|value| value.unwrap_or_else(|| "\\N".into())).collect();
        let line = values.join("\t") + "\n";
        let copy = source.copy_in(&format!("copy {table} ({columns}) from stdin")).await?;
        futures_util::pin_mut!(copy);
        futures_util::SinkExt::send(&mut copy, bytes::Bytes::from(line)).await?;
        copy.finish().await.map(|_| ())
    }

    fn sql(&self) -> String {
        match self {
            Self::School(put, id, row) => {
                put_sql(*put, "schools", SCHOOL_COLUMNS, school_values(*id, row))
            }
            Self::Role(put, id, row) => put_sql(*put, "roles", ROLE_COLUMNS, role_values(*id, row)),
            Self::ChangeSchool(id, change) => {
                let set = match change {
                    SchoolChange::Name(name) => format!("name = '{name}'"),
                    SchoolChange::Creator(creator) => {
                        format!("creator_id = {}", literal(creator.map(person_uuid)))
                    }
                    SchoolChange::Agrees(agrees) => {
                        format!("creator_agree_to_ux_contact = {}", literal(*agrees))
                    }
                    SchoolChange::Rejected(rejected) => {
                        format!("rejected_at = {}", literal(rejected_at(*rejected)))
                    }
                    SchoolChange::Updated(day) => format!("updated_at = '{}'", moment(*day)),
                    SchoolChange::Nothing => {
                        "creator_department = coalesce(creator_department, '') || 'x'".into()
                    }
                };
                format!("update schools set {set}{}", condition(id.map(school_uuid)))
            }
            Self::ChangeRole(id, change) => {
                let set = match change {
                    RoleChange::User(user) => {
                        format!("user_id = {}", literal(user.map(person_uuid)))
                    }
                    RoleChange::School(school) => {
                        format!("school_id = {}", literal(school.map(school_uuid)))
                    }
                    RoleChange::Kind(kind) => format!("role = {}", literal(*kind)),
                    RoleChange::Updated(day) => format!("updated_at = '{}'", moment(*day)),
                };
                format!("update roles set {set}{}", condition(*id))
            }
            Self::DeleteSchool(id) => {
                format!("delete from schools{}", condition(id.map(school_uuid)))
            }
            Self::DeleteRole(id) => format!("delete from roles{}", condition(*id)),
            Self::TruncateRoles => "truncate roles".into(),
        }
    }
}

const SCHOOL_COLUMNS: &str = "id, name, creator_id, creator_agree_to_ux_contact, rejected_at, updated_at, created_at, \
    address_line_1, municipality, country_code, website";
const ROLE_COLUMNS: &str = "id, user_id, school_id, role, updated_at, created_at";

fn school_values(id: u8, school: &School) -> Vec<Option<String>> {
    let same = |text: &str| Some(text.to_string());
    vec![
        Some(school_uuid(id)),
        same(school.name),
        school.creator.map(person_uuid),
        school.agrees.map(|agrees| agrees.to_string()),
        rejected_at(school.rejected),
        Some(moment(school.updated)),
        same("2025-01-01"),
        same("Road"),
        same("Town"),
        same("GB"),
        same("w"),
    ]
}

fn role_values(id: u8, role: &Role) -> Vec<Option<String>> {
    vec![
        Some(id.to_string()),
        role.user.map(person_uuid),
        role.school.map(school_uuid),
        role.kind.map(|kind| kind.to_string()),
        Some(moment(role.updated)),
        Some("2025-01-01".into()),
    ]
}

fn put_sql(put: Put, table: &str, columns: &str, values: Vec<Option<String>>) -> String {
    let values: Vec<String> = values.into_iter().map(literal).collect();
    let values = values.join(", ");
    let conflict = match put {
        Put::Upsert => {
            let set = columns.split(", ").map(|column| format!("{column} = excluded.{column}"));
            format!(" on conflict (id) do update set {}", set.collect::<Vec<_>>().join(", "))
        }
        Put::Insert | Put::Copy => String::new(),
    };
    format!("insert into {table} ({columns}) values ({values}){conflict}")
}

fn condition(id: Option<impl fmt::Display>) -> String {
    id.map_or(String::new(), |id| format!(" where id = '{id}'"))
}

fn literal(value: Option<impl fmt::Display>) -> String {
    value.map_or("null".into(), |value| format!("'{value}'"))
}

fn rejected_at(rejected: bool) -> Option<String> {
    rejected.then(|| "2026-02-01".into())
}

/// With a fraction, which Salesforce does not keep.
fn moment(day: u8) -> String {
    format!("2026-01-0{day} 12:00:00.25")
}

pub fn school_uuid(id: u8) -> String {
    format!("00000000-0000-4000-8000-00000000000{id}")
}

pub fn person_uuid(id: u8) -> String {
    format!("00000000-0000-4000-9000-00000000000{id}")
}
