//! What was measured, as a table for people (Markdown) and for programs (JSON).

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use schoolbell::demo::cluster::{Cluster, Options};
use serde_json::{Value, json};

use crate::plot;
use crate::stage::SETTINGS;

/// One line of the table.
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// The goal, as text; empty where there is none.
    pub goal: String,
    /// What Schoolbell reached.
    pub ours: String,
    /// What it is compared with, measured in the same run.
    pub baseline: String,
    /// Ours by the baseline, where that is what the goal is about.
    pub ratio: Option<f64>,
    /// Whether the goal is met; none where there is none.
    pub met: Option<bool>,
}

/// Everything that was measured in a run.
pub struct Report {
    machine: Vec<(String, String)>,
    figures: Vec<Figure>,
    /// Most memory of a service, KiB, by measurement.
    memory: Vec<(String, u64)>,
    /// Transactions per second: variant, clients, figure.
    pub throughput: Vec<(String, u32, f64)>,
    /// Commit to visible, microseconds, by name.
    pub latencies: Vec<(String, Histogram<u64>)>,
}

impl Report {
    pub async fn new(quick: bool) -> Result<Self> {
        let cluster = Cluster::start(Options::open()).await?;
        let client = cluster.connect("postgres").await?;
        let version: String = client.query_one("show server_version", &[]).await?.get(0);
        let machine = vec![
            ("date".into(), jiff::Zoned::now().strftime("%F").to_string()),
            ("form".into(), if quick { "quick" } else { "full" }.into()),
            ("processor".into(), processor()),
            ("cores".into(), std::thread::available_parallelism()?.to_string()),
            ("PostgreSQL".into(), version),
            ("settings".into(), SETTINGS.join(", ")),
            ("Schoolbell".into(), env!("CARGO_PKG_VERSION").into()),
        ];
        Ok(Self {
            machine,
            figures: Vec::new(),
            memory: Vec::new(),
            throughput: Vec::new(),
            latencies: Vec::new(),
        })
    }

    /// Adds a figure, and shows it at once.
    pub fn add(&mut self, figure: Figure) {
        eprintln!("   {}", line(&figure));
        self.figures.push(figure);
    }

    /// Notes how much memory a service has needed, at the end of a measurement.
    pub fn memory(&mut self, what: &str, kib: Option<u64>) {
        if let Some(kib) = kib {
            self.memory.push((what.into(), kib));
        }
    }

    /// Prints the table and writes it with its JSON and its plots.
    pub fn write(mut self, folder: &Path, took: Duration) -> Result<()> {
        const ALLOWED_KIB: u64 = 64 * 1024;
        if let Some((what, most)) = self.memory.iter().max_by_key(|(_, kib)| *kib).cloned() {
            self.add(Figure {
                what: "memory of the service (peak RSS) through all of it".into(),
                goal: "≤ 64 MiB".into(),
                ours: format!("{:.0} MiB ({what})", most as f64 / 1024.0),
                baseline: String::new(),
                ratio: None,
                met: Some(most <= ALLOWED_KIB),
            });
        }
        let mut text = String::new();
        for (name, value) in &self.machine {
            _ = writeln!(text, "- {name}: {value}");
        }
        _ = writeln!(text, "- the run took {:.0} s\n", took.as_secs_f64());
        text.push_str("| measured | goal | Schoolbell | compared with | ratio | met |\n|---|---|---|---|---|---|\n");
        for figure in &self.figures {
            _ = writeln!(text, "{}", line(figure));
        }
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("bench.md"), &text)?;
        std::fs::write(folder.join("bench.json"), serde_json::to_string_pretty(&self.json())?)?;
        plot::throughput(&folder.join("throughput.svg"), &self.throughput)?;
        plot::latency(&folder.join("latency.svg"), &self.latencies)?;
        println!("\n{text}\nin {}", folder.display());
        Ok(())
    }

    fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| {
                json!({
                    "measured": figure.what, "goal": figure.goal, "schoolbell": figure.ours,
                    "baseline": figure.baseline, "ratio": figure.ratio, "met": figure.met,
                })
            })
            .collect();
        let latencies: Vec<Value> = self
            .latencies
            .iter()
            .map(|(name, histogram)| json!({ "name": name, "microseconds": quantiles(histogram) }))
            .collect();
        json!({
            "machine": self.machine.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "figures": figures,
            "throughput": self.throughput,
            "latencies": latencies,
        })
    }
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    json!({
        "count": histogram.len(), "p50": histogram.value_at_quantile(0.5), "p90": histogram.value_at_quantile(0.9),
        "p99": histogram.value_at_quantile(0.99), "max": histogram.max(),
    })
}

fn line(figure: &Figure) -> String {
    let ratio = figure.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
    let met = match figure.met {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    };
    let Figure { what, goal, ours, baseline, .. } = figure;
    format!("| {what} | {goal} | {ours} | {baseline} | {ratio} | {met} |")
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    model
        .and_then(|line| line.split_once(':'))
        .map_or("unknown".into(), |(_, name)| name.trim().into())
}

/// The middle one; of an even number the lower of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// `12345.6` as `12,346`.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
