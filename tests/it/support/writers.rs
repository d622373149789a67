//! Applications that write at random: few rows and few people, so that they collide.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// The people of the rows.
pub const PEOPLE: u32 = 30;
/// Between two transactions of a writer that does not end, at most.
const PAUSE_MS: u64 = 20;

/// A person's id, as SQL.
pub fn person(number: u32) -> String {
    format!("md5('person {number}')::uuid")
}

/// One random statement.
fn statement(random: &mut Rng) -> String {
    let school = random.u32(0..40);
    let person = person(random.u32(0..PEOPLE));
    let id = format!("md5('school {school}')::uuid");
    match random.u8(0..16) {
        0..=3 => format!(
            "insert into schools (id, name, reference, address_line_1, municipality, country_code, website, creator_id, \
             creator_agree_to_ux_contact, created_at, updated_at, rejected_at, user_origin) values ({id}, ' School {school} ', \
             null, 'Road', 'Town', 'GB', 'w', {person}, {}, now(), now(), {}, {}) on conflict do nothing",
            random.bool(),
            if random.bool() { "now()" } else { "null" },
            random.u8(0..2)
        ),
        4..=6 => format!(
            "update schools set name = repeat('n{}', {}), updated_at = clock_timestamp() where id = {id}",
            random.u16(..),
            random.u8(1..40)
        ),
        7 => format!(
            "update schools set creator_agree_to_ux_contact = not creator_agree_to_ux_contact where id = {id}"
        ),
        8 => format!(
            "update schools set rejected_at = now(), updated_at = clock_timestamp() where id = {id}"
        ),
        9 => {
            format!("update schools set postal_code = 'P{}' where user_origin = 1", random.u16(..))
        }
        10 => format!("delete from schools where id = {id}"),
        11..=12 => format!(
            "insert into roles (user_id, school_id, role, created_at, updated_at) values ({person}, {id}, {}, now(), now()) \
             on conflict do nothing",
            random.u8(0..3)
        ),
        13 => format!(
            "update roles set role = {} where school_id = {id} and user_id = {person}",
            random.u8(0..3)
        ),
        14 => format!(
            "update roles set school_id = md5('school {}')::uuid where user_id = {person}",
            random.u32(0..40)
        ),
        _ => format!("delete from roles where user_id = {person} and role = 0"),
    }
}

/// A transaction of some random statements; true when it was committed. Deadlocks, conflicts and
/// violated indexes are expected: that transaction did not happen.
async fn transaction(client: &Client, random: &mut Rng) -> Result<bool, tokio_postgres::Error> {
    let level = ["read committed", "repeatable read"][random.usize(0..2)];
    let mut sql = vec![format!("begin isolation level {level}")];
    for _ in 0..random.u8(1..4) {
        match random.u8(0..6) {
            0 => sql.push(format!("savepoint s; {}; rollback to s", statement(random))),
            _ => sql.push(statement(random)),
        }
    }
    sql.push(if random.u8(0..6) == 0 { "rollback" } else { "commit" }.into());
    match client.batch_execute(&sql.join("; ")).await {
        Ok(()) => Ok(true),
        Err(error) if error.as_db_error().is_some() => {
            client.batch_execute("rollback").await.map(|()| false)
        }
        Err(error) => Err(error),
    }
}

/// This many transactions, at full speed; returns how many were committed.
pub async fn write_at_random(client: Client, seed: u64, transactions: usize) -> usize {
    let mut random = Rng::with_seed(seed);
    let mut committed = 0;
    for _ in 0..transactions {
        committed += usize::from(transaction(&client, &mut random).await.unwrap());
    }
    committed
}

/// Writers that continue, whatever happens to the server, until this is dropped.
pub struct Writers {
    gate: Arc<RwLock<()>>,
    committed: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Writers {
    pub fn start(url: &str, count: u64, seed: u64) -> Self {
        let (gate, committed) = (Arc::new(RwLock::new(())), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for writer in 0..count {
            let random = Rng::with_seed(seed.wrapping_add(writer));
            tasks.spawn(keep_writing(url.to_string(), random, gate.clone(), committed.clone()));
        }
        Self { gate, committed, _tasks: tasks }
    }

    /// When this returns no transaction is open, and none begins until the guard is dropped.
    pub async fn pause(&self) -> OwnedRwLockWriteGuard<()> {
        self.gate.clone().write_owned().await
    }

    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }
}

async fn keep_writing(
    url: String,
    mut random: Rng,
    gate: Arc<RwLock<()>>,
    committed: Arc<AtomicU64>,
) {
    loop {
        if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
            let connection = tokio::spawn(connection);
            loop {
                let writing = gate.read().await;
                match transaction(&client, &mut random).await {
                    Ok(true) => _ = committed.fetch_add(1, Ordering::Relaxed),
                    Ok(false) => {}
                    Err(_) => break,
                }
                drop(writing);
                tokio::time::sleep(Duration::from_millis(random.u64(..PAUSE_MS))).await;
            }
            connection.abort();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
