//! Two clusters with default durability, and pairs of databases in them.

use std::time::Duration;

use anyhow::Result;
use schoolbell::demo::cluster::{Cluster, Options};
use schoolbell::demo::stand_in;
use tokio_postgres::Client;

use crate::bridge;

/// Memory for both on one machine, and no checkpoint in the middle of a measurement. Durability is untouched:
/// fsync, synchronous_commit and full_page_writes stay on.
pub const SETTINGS: [&str; 5] = [
    "shared_buffers = 1GB",
    "max_wal_size = 16GB",
    "checkpoint_timeout = 1h",
    "max_connections = 200",
    "wal_level = logical",
];

/// The id of a school by its number, as SQL.
pub fn school_id(number: &str) -> String {
    format!("md5('school ' || {number})::uuid")
}

/// A cluster for either side.
pub struct Stage {
    pub source: Cluster,
    pub target: Cluster,
}

/// A database on either side.
pub struct Pair {
    pub source: Client,
    pub target: Client,
    pub source_url: String,
    pub target_url: String,
}

impl Stage {
    pub async fn start() -> Result<Self> {
        let settings = || SETTINGS.map(str::to_string).to_vec();
        let options = || Options { durable: true, settings: settings(), ..Options::open() };
        let (source, target) = tokio::join!(Cluster::start(options()), Cluster::start(options()));
        Ok(Self { source: source?, target: target? })
    }

    /// The application's tables, and Heroku Connect's with their triggers. Nothing of ours yet.
    pub async fn pair(&self, name: &str) -> Result<Pair> {
        self.source.create_database(name, None).await?;
        self.target.create_database(name, None).await?;
        let source = self.source.connect(name).await?;
        let target = self.target.connect(name).await?;
        stand_in::install_application(&source).await?;
        stand_in::install_heroku_connect(&target).await?;
        let (source_url, target_url) = (self.source.url(name), self.target.url(name));
        Ok(Pair { source, target, source_url, target_url })
    }
}

impl Pair {
    /// This many schools, each by a creator of its own; not in the order of their ids.
    pub async fn insert_schools(&self, count: u32) -> Result<()> {
        let sql = format!(
            "insert into schools (id, name, reference, address_line_1, address_line_2, municipality, \
             administrative_area, postal_code, country_code, verified_at, created_at, updated_at, creator_id, \
             creator_agree_to_ux_contact, website, user_origin, district_name, district_nces_id, school_roll_number) \
             select {}, 'School number ' || n, 'R' || n, n || ' High Street', 'Building ' || n % 7, 'Town ' || n % 999, \
             'Region ' || n % 50, 'P' || n, 'GB', timestamp '2026-01-01' + n * interval '1 s', timestamp '2026-01-01', \
             timestamp '2026-01-01', md5('creator ' || n)::uuid, n % 2 = 0, 'https://school-' || n || '.example', n % 2, \
             'District ' || n % 300, 'D' || n, 'S' || n from generate_series(1, {count}) as n",
            school_id("n")
        );
        self.source.batch_execute(&sql).await?;
        self.source.batch_execute("vacuum (analyze) schools").await?;
        Ok(())
    }

    /// Both sides hold the same schools, nothing is pending.
    pub async fn synced_schools(&self, count: u32) -> Result<()> {
        self.insert_schools(count).await?;
        self.insert_contacts().await?;
        bridge::command(self, &["migrate"]).await?;
        bridge::command(self, &["resync"]).await?;
        self.settle_target().await
    }

    /// Salesforce has a contact of each creator.
    pub async fn insert_contacts(&self) -> Result<()> {
        let sql = "select creator_id::text from schools where creator_id is not null";
        let keys: Vec<String> =
            self.source.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
        stand_in::create_contacts(&self.target, &keys).await?;
        self.target.batch_execute("vacuum (analyze) salesforce.contact").await?;
        Ok(())
    }

    /// The same without anything of ours in the source.
    pub async fn synced_schools_without_us(
        &self,
        count: u32,
        stage: &Stage,
        database: &str,
    ) -> Result<()> {
        self.insert_schools(count).await?;
        crate::resync::floor(stage, database).await?;
        self.settle_target().await
    }

    /// Dead rows of former updates are removed, so that every measurement begins alike.
    pub async fn settle_source(&self) -> Result<()> {
        self.source.batch_execute("vacuum (analyze) schools").await?;
        self.source.batch_execute("checkpoint").await?;
        Ok(())
    }

    /// The same on the other side.
    pub async fn settle_target(&self) -> Result<()> {
        self.target.batch_execute("truncate salesforce._trigger_log").await?;
        self.target.batch_execute("vacuum (analyze) salesforce.editor__c").await?;
        self.target.batch_execute("checkpoint").await?;
        Ok(())
    }

    /// As the target is that nobody has analysed, and nobody will while it is measured.
    pub async fn forget_target_statistics(&self) -> Result<()> {
        let forget = "alter table salesforce.editor__c set (autovacuum_enabled = off); \
                      delete from pg_statistic where starelid = 'salesforce.editor__c'::regclass; \
                      update pg_class set reltuples = -1, relpages = 0 \
                      where oid = 'salesforce.editor__c'::regclass";
        Ok(self.target.batch_execute(forget).await?)
    }

    /// Changes the first school, and waits until the target shows it. Where what is captured first is written first,
    /// all that was committed before is there by then.
    pub async fn until_a_last_change_is_shown(&self, name: &str) -> Result<()> {
        let school = school_id("'1'");
        let change = format!("update schools set name = '{name}' where id = {school}");
        self.source.batch_execute(&change).await?;
        let shown = format!(
            "select count(*) from salesforce.editor__c where editoruuid__c = {school}::text and name = '{name}'"
        );
        while number(&self.target, &shown).await? == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Heroku Connect's triggers on or off.
    pub async fn heroku_triggers(&self, on: bool) -> Result<()> {
        let what = if on { "enable" } else { "disable" };
        let sql = format!("alter table salesforce.editor__c {what} trigger user");
        Ok(self.target.batch_execute(&sql).await?)
    }
}

/// A single number.
pub async fn number(client: &Client, sql: &str) -> Result<i64> {
    Ok(client.query_one(&format!("select ({sql})::int8"), &[]).await?.get(0))
}
