//! Rows read from and written to tables, as the servers count them themselves.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::{TestBell, eventually};

/// Each table of both databases.
pub struct Books(BTreeMap<String, Account>);

/// Rows of one table, however they were found.
#[derive(Default, Clone, Copy)]
struct Account {
    read: i64,
    written: i64,
}

impl Books {
    /// Of this work alone. It has to be done by sessions that end with it, and so has what was done before it: only
    /// then all of it is counted for certain.
    pub async fn of(bell: &TestBell, work: impl Future) -> Self {
        let before = accounts(bell).await;
        work.await;
        let mut books = accounts(bell).await;
        for (table, account) in &mut books {
            let before = before.get(table).copied().unwrap_or_default();
            account.read -= before.read;
            account.written -= before.written;
        }
        Self(books)
    }

    /// Rows read, through an index or not.
    pub fn read(&self, table: &str) -> i64 {
        self.0[table].read
    }

    /// Rows inserted, updated and deleted.
    pub fn written(&self, table: &str) -> i64 {
        self.0[table].written
    }
}

async fn accounts(bell: &TestBell) -> BTreeMap<String, Account> {
    let mut accounts = BTreeMap::new();
    for (client, last) in
        [(&bell.source, bell.source_session().await), (&bell.target, bell.target_session().await)]
    {
        everything_is_counted(client, last).await;
        let sql = "select relname::text, seq_tup_read + coalesce(idx_tup_fetch, 0), n_tup_ins + n_tup_upd + n_tup_del \
                   from pg_stat_user_tables";
        let rows = client.query(sql, &[]).await.unwrap();
        let account = |row: &tokio_postgres::Row| Account { read: row.get(1), written: row.get(2) };
        accounts.extend(rows.iter().map(|row| (row.get(0), account(row))));
    }
    accounts
}

/// Waits until the other sessions have ended and what they did is counted. A server before 15 gets
/// these counts as messages, in order: everything sent before the last message is counted when that
/// one is.
async fn everything_is_counted(client: &Client, last: Client) {
    let ended = "not exists (select from pg_stat_activity where datname = current_database() \
                 and backend_type = 'client backend' and pid <> all ($1))";
    let pids = [pid(client).await, pid(&last).await];
    becomes_true(client, ended, &pids).await;
    last.batch_execute("drop table if exists last; create table last as select").await.unwrap();
    drop(last);
    let counted =
        "exists (select from pg_stat_user_tables where relname = 'last' and n_tup_ins = 1)";
    becomes_true(client, &format!("{ended} and {counted}"), &pids[..1]).await;
}

async fn pid(client: &Client) -> i32 {
    client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
}

async fn becomes_true(client: &Client, condition: &str, pids: &[i32]) {
    eventually(condition, || async {
        let row = client.query_one(&format!("select {condition}"), &[&pids]).await.unwrap();
        if row.get(0) { Ok(()) } else { Err("it is not so") }
    })
    .await;
}
