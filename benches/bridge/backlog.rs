//! The outbox under pressure: millions of pending changes, millions of dead row versions.

use std::time::{Duration, Instant};

use anyhow::Result;
use schoolbell::outbox::change::{self, Position};
use schoolbell::postgres::db::{Database, Session};
use schoolbell::postgres::url::DatabaseUrl;

use crate::Scale;
use crate::bridge::{self, Bridge};
use crate::report::{Figure, Report, thousands};
use crate::stage::{Pair, Stage, number};

const SCHOOLS: u32 = 100_000;
const LIMIT: i64 = 5_000;
const CLAIMS: usize = 21;

pub async fn measure(scale: Scale, report: &mut Report) -> Result<()> {
    let stage = Stage::start().await?;
    let pair = stage.pair("bell").await?;
    pair.synced_schools(SCHOOLS).await?;
    let session = session(&pair).await?;

    fill(&pair, LIMIT as u32).await?;
    let small = claim_time(&session).await?;
    fill(&pair, scale.backlog - LIMIT as u32).await?;
    let large = claim_time(&session).await?;
    let changes = thousands(scale.backlog.into());
    report.add(Figure {
        what: format!("one claim of {} changes, {changes} pending", thousands(LIMIT as f64)),
        goal: String::new(),
        ours: milliseconds(large),
        baseline: format!("{} pending: {}", thousands(LIMIT as f64), milliseconds(small)),
        ratio: Some(large.as_secs_f64() / small.as_secs_f64()),
        met: None,
    });

    // From here on no dead row version is removed.
    let holder = stage.source.connect("bell").await?;
    holder
        .batch_execute("begin isolation level repeatable read; select count(*) from roles")
        .await?;
    let service = Bridge::start(&pair).await?;
    let began = Instant::now();
    bridge::caught_up(&pair).await?;
    let rate = f64::from(scale.backlog) / began.elapsed().as_secs_f64();
    let dead_claims = live_claim_time(&pair, &session).await?;
    report.memory("backlog", service.peak_memory());
    report.add(Figure {
        what: format!(
            "backlog of {changes} changes of {} schools worked off",
            thousands(SCHOOLS.into())
        ),
        goal: String::new(),
        ours: format!("{} changes/s", thousands(rate)),
        baseline: String::new(),
        ratio: None,
        met: None,
    });
    service.stop().await?;
    holder.batch_execute("rollback").await?;
    pair.source.batch_execute("vacuum schoolbell.change").await?;
    let clean_claims = live_claim_time(&pair, &session).await?;
    let ratio = dead_claims.as_secs_f64() / clean_claims.as_secs_f64();
    report.add(Figure {
        what: format!("a running service's claim over {changes} dead row versions"),
        goal: "≤ 2 × without".into(),
        ours: milliseconds(dead_claims),
        baseline: format!("without: {}", milliseconds(clean_claims)),
        ratio: Some(ratio),
        met: Some(ratio <= 2.0),
    });
    Ok(())
}

async fn session(pair: &Pair) -> Result<Session> {
    let url =
        DatabaseUrl::parse("bench", &format!("{}?sslmode=disable", pair.source_url), &|_| None)?;
    Ok(Database::new(url, "bench")?.session().await?)
}

/// As if this many updates of the schools had been captured while no service ran.
async fn fill(pair: &Pair, changes: u32) -> Result<()> {
    let sql = format!(
        "insert into schoolbell.change (source_table, operation, keys) \
         select 'public.schools', 'UPDATE', jsonb_build_object('id', id, 'creator_id', creator_id) \
         from (select id, creator_id from schools) as s cross join generate_series(1, {changes} / {SCHOOLS} + 1) limit {changes}"
    );
    pair.source.batch_execute(&sql).await?;
    pair.source.batch_execute("vacuum (analyze) schoolbell.change").await?;
    Ok(())
}

/// The median of some claims from the start of the outbox.
async fn claim_time(session: &Session) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..CLAIMS {
        let mut position = Position::default();
        let began = Instant::now();
        change::claim(session, usize::MAX, &mut position, LIMIT).await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[CLAIMS / 2])
}

/// The median of claims as a running service makes them: from its position, one new change each.
async fn live_claim_time(pair: &Pair, session: &Session) -> Result<Duration> {
    let mut position = Position::default();
    while !change::claim(session, usize::MAX, &mut position, LIMIT)
        .await?
        .is_none_or(|found| found.is_empty())
    {}
    let mut times = Vec::new();
    for number in 0..CLAIMS {
        let sql = format!("update schools set name = 'claim {number}' where reference = 'R1'");
        pair.source.batch_execute(&sql).await?;
        let began = Instant::now();
        change::claim(session, usize::MAX, &mut position, LIMIT).await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    // Nothing of this may be left for the next measurement.
    while number(&pair.source, "select count(*) from schoolbell.change").await? > 0 {
        pair.source.batch_execute("delete from schoolbell.change").await?;
    }
    Ok(times[CLAIMS / 2])
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
}
