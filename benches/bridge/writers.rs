//! What capture costs writers: none, Schoolbell awake, Schoolbell away, and a NOTIFY in every transaction.

use std::time::Duration;

use anyhow::Result;
use schoolbell::demo::cluster::Cluster;

use crate::Scale;
use crate::bridge::{self, Bridge};
use crate::pgbench;
use crate::processor;
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
        let mut costs: [Vec<[f64; 3]>; 4] = Default::default();
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
                let before = spent(&stage, service.as_ref());
                let figure = pgbench::updates(
                    &stage.source,
                    database,
                    SCHOOLS,
                    clients,
                    scale.pgbench_seconds,
                )
                .await?;
                let index = [NONE, AWAKE, EACH, AWAY].iter().position(|name| *name == variant);
                let index = index.unwrap_or_default();
                tps[index].push(figure);
                if let Some((before, after)) = before.zip(spent(&stage, service.as_ref())) {
                    let transactions = figure * f64::from(scale.pgbench_seconds);
                    costs[index].push([0, 1, 2].map(|part| {
                        (after[part] - before[part]).as_secs_f64() * 1e6 / transactions
                    }));
                }
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
        let [none, awake, _, away] = costs;
        report.add(cost(clients, &none, &awake, &away));
    }
    Ok(())
}

/// Microseconds of processor time for each transaction, which tells what must fit into the machine's cores.
fn cost(clients: u32, none: &[[f64; 3]], awake: &[[f64; 3]], away: &[[f64; 3]]) -> Figure {
    let part = |costs: &[[f64; 3]], part: usize| {
        median(&costs.iter().map(|cost| cost[part]).collect::<Vec<_>>())
    };
    Figure {
        what: format!("processor time for a transaction, {clients} clients"),
        goal: String::new(),
        ours: format!(
            "service running: source {:.0} µs, target {:.0} µs, service {:.0} µs; down: source {:.0} µs",
            part(awake, 0),
            part(awake, 1),
            part(awake, 2),
            part(away, 0)
        ),
        baseline: format!("{NONE}: source {:.0} µs", part(none, 0)),
        ratio: None,
        met: None,
    }
}

/// What the source's server, the target's and the service have used so far.
fn spent(stage: &Stage, service: Option<&Bridge>) -> Option<[Duration; 3]> {
    let server = |cluster: &Cluster| {
        let pid = std::fs::read_to_string(cluster.folder().join("data/postmaster.pid")).ok()?;
        processor::time_of_family(pid.lines().next()?.parse().ok()?)
    };
    let service = service.map_or(Some(Duration::ZERO), Bridge::processor_time);
    Some([server(&stage.source)?, server(&stage.target)?, service?])
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
