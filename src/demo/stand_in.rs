//! A stand-in for the two systems around Schoolbell: the application's tables, and Heroku Connect with
//! Salesforce behind it.
//!
//! The SQL is in `sql/stand_in`; here is what runs it. It knows nothing of mapping, outbox or service.

use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::{Client, Error};

const APPLICATION: &str = include_str!("../../sql/stand_in/application.sql");
const HEROKU_CONNECT: &str = include_str!("../../sql/stand_in/heroku_connect.sql");
const ACCEPT: &str = include_str!("../../sql/stand_in/accept.sql");

/// Salesforce creates contacts, and Heroku Connect brings them: hence `xmlbinary`, by which its triggers know
/// that no user is writing. As a part of the statement it cannot reach another one on a shared connection.
const CREATE_CONTACTS: &str = "
    with heroku_connect as materialized (
        select set_config('xmlbinary', 'hex', true)
    ),
    person as (
        select nextval('salesforce.contact_id_seq')::integer as id, key, left(key, 8) as short
        from heroku_connect, pg_catalog.unnest($1::text[]) as key
    )
    insert into salesforce.contact (
        id, sfid, pi_accounts_unique_id__c, name, lastname, email, createddate, systemmodstamp, isdeleted
    )
    select
        id,
        '003' || lpad(id::text, 12, '0') || 'AAA',
        key,
        'Person ' || short,
        'Person ' || short,
        short || '@example.org',
        date_trunc('second', now() at time zone 'utc'),
        date_trunc('second', now() at time zone 'utc'),
        false
    from person
";

/// Creates the application's tables in an empty database.
pub async fn install_application(source: &Client) -> Result<(), Error> {
    source.batch_execute(APPLICATION).await
}

/// Creates Heroku Connect's schema, tables and triggers in an empty database.
pub async fn install_heroku_connect(target: &Client) -> Result<(), Error> {
    target.batch_execute(HEROKU_CONNECT).await
}

/// Simulates Salesforce for one round: answers what was written, and returns how many log entries
/// are left. A round takes 2,000 at most, and skips rows that are being written.
pub async fn accept(target: &Client) -> Result<i64, Error> {
    if let Err(error) = target.batch_execute(ACCEPT).await {
        // The script has begun a transaction that nobody else would end.
        let _ = target.batch_execute("rollback").await;
        return Err(error);
    }
    let left = "select count(*) from salesforce._trigger_log where state = 'NEW'";
    Ok(target.query_one(left, &[]).await?.get(0))
}

/// Simulates Salesforce until it is told to stop, or the database refuses.
pub async fn play_salesforce(
    target: Client,
    every: Duration,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut round = tokio::time::interval(every);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // An error means that nothing is left that could tell us to stop.
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            _ = round.tick() => {}
        }
        // Not inside the select: a round that is broken off would leave its transaction open.
        accept(&target).await?;
    }
}

/// Salesforce creates a contact, and it arrives with its `sfid`.
pub async fn create_contact(target: &Client, key: &str) -> Result<(), Error> {
    create_contacts(target, &[key]).await
}

/// Salesforce creates many contacts.
pub async fn create_contacts(target: &Client, keys: &[impl AsRef<str>]) -> Result<(), Error> {
    let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
    target.execute(CREATE_CONTACTS, &[&keys]).await.map(|_| ())
}
