//! What a team would otherwise use, in the same run, on the same tables, with the same triggers on the target:
//! a NOTIFY per row with a listener that takes one row at a time, a job queue, and native logical replication
//! (which copies a table as it is: no mapping, no comparison, and none of Heroku Connect's triggers).

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::poll_fn;
use tokio::process::Command;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::Scale;
use crate::bridge::Bridge;
use crate::latency::{figure, times_of_singles};
use crate::report::{Figure, Report, thousands};
use crate::stage::{Pair, Stage, number, school_id};
use crate::writers::NOTIFY_EACH;

const SCHOOLS: u32 = 20_000;
const QUEUE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/bridge/queue");

/// What each row costs when it is written alone.
const UPSERT: &str = "
    with updated as (
        update salesforce.editor__c set name = $2, updatedat__c = localtimestamp where editoruuid__c = $1 returning 1
    )
    insert into salesforce.editor__c (editoruuid__c, name)
    select $1, $2 where not exists (select from updated)
";

pub async fn measure(scale: Scale, report: &mut Report) -> Result<()> {
    let stage = Stage::start().await?;
    ours(&stage, scale, report).await?;
    notify_each(&stage, scale, report).await?;
    job_queue(&stage, report).await?;
    logical_replication(&stage, scale, report).await
}

async fn ours(stage: &Stage, scale: Scale, report: &mut Report) -> Result<()> {
    let pair = stage.pair("bell").await?;
    pair.synced_schools(SCHOOLS).await?;
    let service = Bridge::start(&pair).await?;
    let times = times_of_singles(&pair, scale.singles).await?;
    report.add(figure("rivals: Schoolbell, commit to visible", &times, u64::MAX, u64::MAX));
    let (update, all) = update_of_all(&pair).await?;
    service.stop().await?;
    report.add(rate("Schoolbell", update, all));
    Ok(())
}

async fn notify_each(stage: &Stage, scale: Scale, report: &mut Report) -> Result<()> {
    let pair = stage.pair("notify").await?;
    pair.synced_schools_without_us(SCHOOLS, stage, "notify").await?;
    pair.source.batch_execute(NOTIFY_EACH).await?;
    let listener = tokio::spawn(row_at_a_time(pair.source_url.clone(), pair.target_url.clone()));
    let times = times_of_singles(&pair, scale.singles).await?;
    report.add(figure(
        "rivals: NOTIFY and a listener, commit to visible",
        &times,
        u64::MAX,
        u64::MAX,
    ));
    let (update, all) = update_of_all(&pair).await?;
    listener.abort();
    report.add(rate("NOTIFY and a listener", update, all));
    Ok(())
}

/// The tutorials' listener: read the row that was named, write it, wait for the next.
async fn row_at_a_time(source_url: String, target_url: String) -> Result<()> {
    let (listener, mut connection) = tokio_postgres::connect(&source_url, NoTls).await?;
    let (heard, mut hear) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notice) = message {
                _ = heard.send(notice.payload().to_string());
            }
        }
    });
    listener.batch_execute("listen school_changed").await?;
    let source = connect(&source_url).await?;
    let target = connect(&target_url).await?;
    let read = source.prepare("select name from schools where id = $1::text::uuid").await?;
    let write = target.prepare(UPSERT).await?;
    while let Some(id) = hear.recv().await {
        let name: String = source.query_one(&read, &[&id]).await?.get(0);
        target.execute(&write, &[&id, &name]).await?;
    }
    Ok(())
}

/// graphile-worker: a trigger adds a job per row, ten at a time are worked.
async fn job_queue(stage: &Stage, report: &mut Report) -> Result<()> {
    let folder = stage.source.folder().join("queue");
    std::fs::create_dir_all(&folder)?;
    for file in ["package.json", "work.mjs"] {
        std::fs::copy(format!("{QUEUE}/{file}"), folder.join(file))?;
    }
    let installed = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .output()
        .await;
    let installed = installed.context("running npm (Node.js)")?;
    ensure!(installed.status.success(), "npm: {}", String::from_utf8_lossy(&installed.stderr));
    let pair = stage.pair("queue").await?;
    pair.synced_schools_without_us(SCHOOLS, stage, "queue").await?;
    let mut worker = Command::new("node")
        .arg("work.mjs")
        .current_dir(&folder)
        .env("SOURCE_URL", &pair.source_url)
        .env("TARGET_URL", &pair.target_url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    // It installs its schema first.
    while pair
        .source
        .query_one("select to_regproc('graphile_worker.add_job') is null", &[])
        .await?
        .get(0)
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    pair.source
        .batch_execute(
            "create function add_job() returns trigger language plpgsql as $$ begin \
             perform graphile_worker.add_job('school', json_build_object('id', new.id)); return null; end $$; \
             create trigger add_job after insert or update on schools for each row execute function add_job()",
        )
        .await?;
    let (update, all) = update_of_all(&pair).await?;
    worker.kill().await?;
    report.add(rate("graphile-worker, 10 at a time", update, all));
    Ok(())
}

async fn logical_replication(stage: &Stage, scale: Scale, report: &mut Report) -> Result<()> {
    let pair = stage.pair("replica").await?;
    pair.insert_schools(SCHOOLS).await?;
    let tables: String =
        "create table public.schools (id uuid primary key, name varchar, updated_at timestamp(6))"
            .into();
    pair.target.batch_execute(&tables).await?;
    pair.source
        .batch_execute("create publication schools for table schools (id, name, updated_at)")
        .await?;
    pair.target
        .batch_execute(&format!(
            "create subscription schools connection '{}' publication schools",
            pair.source_url
        ))
        .await?;
    while number(&pair.target, "select count(*) from public.schools").await? < i64::from(SCHOOLS) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // So that the same queries find it: the way is measured, not the name of the table.
    pair.target
        .batch_execute(
            "drop table salesforce.editor__c; create view salesforce.editor__c as select id::text as editoruuid__c, name \
             from public.schools",
        )
        .await?;
    let look = "create index on public.schools ((id::text))";
    pair.target.batch_execute(look).await?;
    let times = times_of_singles(&pair, scale.singles).await?;
    report.add(figure(
        "rivals: logical replication, commit to visible",
        &times,
        u64::MAX,
        u64::MAX,
    ));
    let (update, all) = update_of_all(&pair).await?;
    pair.target.batch_execute("drop subscription schools").await?;
    report.add(rate("logical replication (one table as it is)", update, all));
    Ok(())
}

/// How long an UPDATE of all schools takes its writer, and from its start until the target has them.
async fn update_of_all(pair: &Pair) -> Result<(Duration, Duration)> {
    let began = Instant::now();
    let last = school_id("'1'");
    pair.source
        .batch_execute(&format!(
            "update schools set name = 'All of them ' || id where id <> {last}"
        ))
        .await?;
    let update = began.elapsed();
    pair.until_a_last_change_is_shown("The last").await?;
    Ok((update, began.elapsed()))
}

fn rate(who: &str, update: Duration, all: Duration) -> Figure {
    Figure {
        what: format!(
            "rivals: {who}, UPDATE of {} schools, from its start until the target has them",
            thousands(SCHOOLS.into())
        ),
        goal: String::new(),
        ours: format!("{} rows/s", thousands(f64::from(SCHOOLS) / all.as_secs_f64())),
        baseline: format!("the UPDATE itself: {:.2} s", update.as_secs_f64()),
        ratio: None,
        met: None,
    }
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
