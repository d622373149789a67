//! A million roles that wait for their schools, and what that costs; how soon roles follow whose
//! schools have been accepted.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Scale;
use crate::bridge::{self, Bridge};
use crate::latency::times_of_singles;
use crate::report::{Figure, Report, thousands};
use crate::stage::{Pair, Stage, number};

/// As many schools are waited for by ten roles each.
const ROLES_PER_SCHOOL: u32 = 10;

pub async fn measure(scale: Scale, report: &mut Report) -> Result<()> {
    let stage = Stage::start().await?;
    let pair = stage.pair("bell").await?;
    pair.synced_schools(20_000).await?;
    let before = {
        let service = Bridge::start(&pair).await?;
        let times = times_of_singles(&pair, scale.singles / 2).await?;
        service.stop().await?;
        times
    };
    let sql = format!(
        "insert into schoolbell.parked (object, key, state, awaits, awaits_key, reason, attempts) \
         select 'role', n::text, 'waiting', 'school sfid', md5('absent ' || n / {ROLES_PER_SCHOOL})::uuid::text, \
         'the school has no sfid yet', 1 from generate_series(1, {}) as n",
        scale.waiting
    );
    pair.source.batch_execute(&sql).await?;
    pair.source.batch_execute("vacuum (analyze) schoolbell.parked").await?;
    let service = Bridge::start(&pair).await?;
    let began = service.processor_time();
    tokio::time::sleep(Duration::from_secs(scale.idle_seconds.into())).await;
    let used = service.processor_time().zip(began).map(|(now, began)| now - began);
    let after = times_of_singles(&pair, scale.singles / 2).await?;
    report.memory("waiting", service.peak_memory());
    service.stop().await?;
    let waiting = thousands(scale.waiting.into());
    let (p50_before, p50) = (before.value_at_quantile(0.5), after.value_at_quantile(0.5));
    report.add(Figure {
        what: format!("commit to visible, p50, while {waiting} roles wait"),
        goal: "unchanged".into(),
        ours: format!("{:.2} ms", p50 as f64 / 1_000.0),
        baseline: format!("none waiting: {:.2} ms", p50_before as f64 / 1_000.0),
        ratio: Some(p50 as f64 / p50_before as f64),
        met: Some(p50 as f64 <= 1.2 * p50_before as f64),
    });
    if let Some(used) = used {
        let share = used.as_secs_f64() / f64::from(scale.idle_seconds) * 100.0;
        report.add(Figure {
            what: format!("the service's processor time while {waiting} roles wait"),
            goal: "≤ 1 % of a core".into(),
            ours: format!("{share:.2} %"),
            baseline: String::new(),
            ratio: None,
            met: Some(share <= 1.0),
        });
    }
    Ok(())
}

const ROLES: &str = "salesforce.contact_editor_affiliation__c";

/// A role of each of many schools waits for it, and Salesforce accepts all schools at once.
pub async fn woken(scale: Scale, report: &mut Report) -> Result<()> {
    let stage = Stage::start().await?;
    let pair = stage.pair("bell").await?;
    pair.insert_schools(scale.woken).await?;
    pair.insert_contacts().await?;
    pair.source
        .batch_execute(
            "insert into roles (user_id, school_id, role, created_at, updated_at) \
             select creator_id, id, 1, now(), now() from schools",
        )
        .await?;
    bridge::command(&pair, &["migrate"]).await?;
    bridge::command(&pair, &["resync"]).await?;
    pair.settle_target().await?;
    let service = Bridge::start(&pair).await?;
    tokio::time::sleep(Duration::from_secs(scale.idle_seconds.into())).await;
    // As Heroku Connect writes: its own setting of xmlbinary says that the rows come from Salesforce.
    pair.target
        .batch_execute(
            "begin; set local xmlbinary = 'hex'; \
             update salesforce.editor__c set sfid = 'a' || lpad(id::text, 17, '0'), _hc_lastop = 'INSERTED'; commit",
        )
        .await?;
    let accepted = Instant::now();
    let first = until_written(&pair, accepted, 1).await?;
    let all = until_written(&pair, accepted, scale.woken.into()).await?;
    report.memory("woken", service.peak_memory());
    service.stop().await?;
    pair.target.batch_execute(&format!("truncate {ROLES}")).await?;
    let resync = bridge::command(&pair, &["resync", "role"]).await?;
    let woken = thousands(scale.woken.into());
    report.add(Figure {
        what: format!("{woken} waiting roles after the acceptance of their schools: all written"),
        goal: "within 10 s".into(),
        ours: format!("{:.1} s, the first after {:.1} s", all.as_secs_f64(), first.as_secs_f64()),
        baseline: String::new(),
        ratio: None,
        met: Some(all.as_secs_f64() <= 10.0),
    });
    let rate = |took: Duration| f64::from(scale.woken) / took.as_secs_f64();
    let ratio = rate(all - first) / rate(resync);
    report.add(Figure {
        what: format!("the rate at which {woken} woken roles are written"),
        goal: "≥ 0.8 × a resync of them".into(),
        ours: format!("{} rows/s", thousands(rate(all - first))),
        baseline: format!("{} rows/s", thousands(rate(resync))),
        ratio: Some(ratio),
        met: Some(ratio >= 0.8),
    });
    Ok(())
}

/// How long after a moment the target has this many roles.
async fn until_written(pair: &Pair, since: Instant, roles: i64) -> Result<Duration> {
    let written = format!("select count(*) from (select from {ROLES} limit {roles}) as r");
    while number(&pair.target, &written).await? < roles {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(since.elapsed())
}
