//! What capture costs writers: none, Schoolbell awake, Schoolbell away, and a NOTIFY in every transaction.

use anyhow::Result;

use crate::Scale;
use crate::bridge::{self, Bridge};
use crate::pgbench;
use crate::report::{Figure, Report, median, thousands};
use crate::stage::Stage;

const SCHOOLS: u32 = 50_000;
const CLIENTS: [u32; 4] = [1, 4, 16, 64];

/// What the usual tutorials build: a trigger that notifies for every row, with the row's id.
pub const NOTIFY_EACH: &str = "
    create function notify_each() returns trigger language plpgsql as $$
    begin
        perform pg_notify('school_changed', new.id::text);
        return null;
    end $$;
    create trigger notify_each after insert or update on schools for each row execute function notify_each();
";

const NONE: &str = "no triggers";
const AWAKE: &str = "Schoolbell, service running";
const AWAY: &str = "Schoolbell, service down";
const EACH: &str = "NOTIFY in every transaction";

pub async fn measure(scale: Scale, report: &mut Report) -> Result<()> {
    let stage = Stage::start().await?;
    let plain = stage.pair("plain").await?;
    plain.insert_schools(SCHOOLS).await?;
    let notify = stage.pair("notify").await?;
    notify.insert_schools(SCHOOLS).await?;
    notify.source.batch_execute(NOTIFY_EACH).await?;
    let listener = stage.source.connect("notify").await?;
    listener.batch_execute("listen school_changed").await?;
    let bell = stage.pair("bell").await?;
    bell.synced_schools(SCHOOLS).await?;

    for clients in CLIENTS {
        let mut tps: [Vec<f64>; 4] = Default::default();
        for _ in 0..scale.rounds {
            let variants = [
                (NONE, "plain", &plain),
                (AWAKE, "bell", &bell),
                (EACH, "notify", &notify),
                (AWAY, "bell", &bell),
            ];
            for (variant, database, pair) in variants {
                pair.settle_source().await?;
                let service = match variant {
                    AWAKE => Some(Bridge::start(&bell).await?),
                    _ => None,
                };
                let figure = pgbench::updates(
                    &stage.source,
                    database,
                    SCHOOLS,
                    clients,
                    scale.pgbench_seconds,
                )
                .await?;
                let index = [NONE, AWAKE, EACH, AWAY].iter().position(|name| *name == variant);
                tps[index.unwrap_or_default()].push(figure);
                if let Some(service) = service {
                    bridge::caught_up(&bell).await?;
                    report.memory("writers", service.peak_memory());
                    service.stop().await?;
                }
                if variant == AWAY {
                    bridge::command(&bell, &["run", "--drain"]).await?;
                    bell.settle_target().await?;
                }
            }
        }
        for (variant, figures) in [NONE, AWAKE, EACH, AWAY].into_iter().zip(&tps) {
            report.throughput.push((variant.into(), clients, median(figures)));
        }
        figures(clients, &tps, report);
    }
    Ok(())
}

fn figures(clients: u32, tps: &[Vec<f64>; 4], report: &mut Report) {
    let [none, awake, each, away] = tps;
    let goals = clients >= 16;
    let ratio = |ours: &[f64], other: &[f64]| {
        median(&ours.iter().zip(other).map(|(ours, other)| ours / other).collect::<Vec<_>>())
    };
    for (ours, ours_name, other, other_name, wanted) in [
        (awake, "service running", none, NONE, 0.75),
        (awake, "service running", each, EACH, 3.2),
        (away, "service down", awake, AWAKE, 1.0),
    ] {
        let ratio = ratio(ours, other);
        report.add(Figure {
            what: format!("writers, {clients} clients, {ours_name}"),
            goal: if goals { format!("≥ {wanted} × {other_name}") } else { String::new() },
            ours: format!("{} tps", thousands(median(ours))),
            baseline: format!("{other_name}: {} tps", thousands(median(other))),
            ratio: Some(ratio),
            // A hundredth below is noise, not a goal missed.
            met: goals.then_some(ratio >= wanted - 0.005),
        });
    }
}
