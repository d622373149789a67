//! A million roles that wait for their schools, and what that costs everybody else.

use anyhow::Result;

use crate::Scale;
use crate::bridge::Bridge;
use crate::latency::times_of_singles;
use crate::report::{Figure, Report, thousands};
use crate::stage::Stage;

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
    tokio::time::sleep(std::time::Duration::from_secs(scale.idle_seconds.into())).await;
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
