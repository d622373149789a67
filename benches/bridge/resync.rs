//! A resync of many schools against the floor: `psql COPY out | psql COPY in; UPDATE; INSERT`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::Scale;
use crate::bridge;
use crate::report::{Figure, Report, median, thousands};
use crate::stage::{Pair, Stage};

/// Target column and source expression: what the built-in mapping writes, without bringing values into a form.
const COLUMNS: [(&str, &str); 18] = [
    ("editoruuid__c", "id"),
    ("name", "name"),
    ("editorreference__c", "reference"),
    ("addressline1__c", "address_line_1"),
    ("addressline2__c", "address_line_2"),
    ("editormunicipality__c", "municipality"),
    ("editoradministrativearea__c", "administrative_area"),
    ("postcode__c", "postal_code"),
    ("countrycode__c", "country_code"),
    ("verifiedat__c", "verified_at"),
    ("createdat__c", "created_at"),
    ("updatedat__c", "updated_at"),
    ("rejectedat__c", "rejected_at"),
    ("website__c", "website"),
    ("userorigin__c", "case user_origin when 1 then 'experience_cs' else 'for_education' end"),
    ("districtnamesupplied__c", "district_name"),
    ("ncesid__c", "district_nces_id"),
    ("schoolrollnumber__c", "school_roll_number"),
];

/// The fastest plain way: everything in one stream, one temporary table, two statements, one transaction.
pub async fn floor(stage: &Stage, database: &str) -> Result<Duration> {
    let names = COLUMNS.map(|(column, _)| column).join(", ");
    let values = COLUMNS.map(|(_, value)| value).join(", ");
    let set = COLUMNS[1..].iter().map(|(column, _)| format!("{column} = b.{column}"));
    let set = set.collect::<Vec<_>>().join(", ");
    let row = |table: &str| COLUMNS.map(|(column, _)| format!("{table}.{column}")).join(", ");
    let read = format!("copy (select {values} from schools) to stdout");
    let write = [
        // An empty table is analysed as such, and would be searched row by row while it fills.
        "set enable_nestloop = off".to_string(),
        "begin".to_string(),
        format!(
            "create temporary table b on commit drop as select {names} from salesforce.editor__c with no data"
        ),
        "copy b from stdin".to_string(),
        "analyze b".to_string(),
        format!(
            "update salesforce.editor__c t set {set} from b where t.editoruuid__c = b.editoruuid__c and \
             ({}) is distinct from ({})",
            row("t"),
            row("b")
        ),
        format!(
            "insert into salesforce.editor__c ({names}) select {names} from b where not exists (select from \
             salesforce.editor__c t where t.editoruuid__c = b.editoruuid__c)"
        ),
        "commit".to_string(),
    ];
    let psql = stage.source.programs().join("psql");
    let psql = psql.to_str().context("the path of psql")?;
    let commands: Vec<String> = write.iter().map(|sql| format!("-c \"{sql}\"")).collect();
    let script = format!(
        "set -o pipefail; {psql} -qX -v ON_ERROR_STOP=1 -c \"{read}\" {}/{database} | \
         {psql} -qX -v ON_ERROR_STOP=1 {} {}/{database}",
        stage.source.url("").trim_end_matches('/'),
        commands.join(" "),
        stage.target.url("").trim_end_matches('/'),
    );
    let began = Instant::now();
    let output = Command::new("bash").args(["-c", &script]).output().await?;
    let took = began.elapsed();
    ensure!(output.status.success(), "the floor: {}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

pub async fn measure(scale: Scale, report: &mut Report) -> Result<()> {
    let stage = Stage::start().await?;
    let base = stage.pair("floor").await?;
    base.insert_schools(scale.resync_schools).await?;
    let ours = stage.pair("bell").await?;
    ours.insert_schools(scale.resync_schools).await?;
    bridge::command(&ours, &["migrate"]).await?;
    for (triggers, prepare, statistics) in [
        (true, Prepare::Empty, true),
        (true, Prepare::Change, true),
        (true, Prepare::Nothing, true),
        (false, Prepare::Empty, true),
        (false, Prepare::Change, true),
        (true, Prepare::Empty, false),
        (true, Prepare::Change, false),
        (true, Prepare::Nothing, false),
        (false, Prepare::Empty, false),
    ] {
        let case = format!(
            "{}, {} triggers{}",
            prepare.what(),
            if triggers { "with" } else { "without" },
            if statistics { "" } else { ", target never analysed" }
        );
        let (mut resyncs, mut floors) = (Vec::new(), Vec::new());
        // Only reading is cheap enough to be done more than once.
        let rounds = if matches!(prepare, Prepare::Nothing) { scale.rounds } else { 1 };
        for _ in 0..rounds {
            for pair in [&base, &ours] {
                pair.heroku_triggers(false).await?;
                prepare.apply(pair).await?;
                pair.heroku_triggers(triggers).await?;
                pair.settle_target().await?;
                if !statistics {
                    pair.forget_target_statistics().await?;
                }
            }
            let rows = f64::from(scale.resync_schools);
            floors.push(rows / floor(&stage, "floor").await?.as_secs_f64());
            resyncs.push(rows / bridge::command(&ours, &["resync", "school"]).await?.as_secs_f64());
        }
        for pair in [&base, &ours] {
            pair.target
                .batch_execute("alter table salesforce.editor__c reset (autovacuum_enabled)")
                .await?;
        }
        if matches!(prepare, Prepare::Nothing) && statistics {
            verify(&ours, scale, report).await?;
        }
        let ratios: Vec<f64> =
            resyncs.iter().zip(&floors).map(|(ours, floor)| ours / floor).collect();
        report.add(Figure {
            what: format!("resync of {} schools, {case}", thousands(scale.resync_schools.into())),
            goal: "≥ 0.9 × the floor".into(),
            ours: format!("{} rows/s", thousands(median(&resyncs))),
            baseline: format!("{} rows/s", thousands(median(&floors))),
            ratio: Some(median(&ratios)),
            met: Some(median(&ratios) >= 0.895),
        });
    }
    Ok(())
}

/// All rows are right at this moment.
async fn verify(pair: &Pair, scale: Scale, report: &mut Report) -> Result<()> {
    let mut rates = Vec::new();
    for _ in 0..scale.rounds {
        let took = bridge::command(pair, &["verify", "school"]).await?;
        rates.push(f64::from(scale.resync_schools) / took.as_secs_f64());
    }
    report.add(Figure {
        what: format!("verify of {} equal schools", thousands(scale.resync_schools.into())),
        goal: "≥ 150,000 rows/s".into(),
        ours: format!("{} rows/s", thousands(median(&rates))),
        baseline: String::new(),
        ratio: None,
        met: Some(median(&rates) >= 150_000.0),
    });
    Ok(())
}

/// What the target is like before.
enum Prepare {
    Empty,
    Change,
    Nothing,
}

impl Prepare {
    fn what(&self) -> &'static str {
        match self {
            Self::Empty => "all new",
            Self::Change => "all changed",
            Self::Nothing => "all equal",
        }
    }

    async fn apply(&self, pair: &Pair) -> Result<()> {
        match self {
            Self::Nothing => {}
            Self::Empty => pair.target.batch_execute("truncate salesforce.editor__c").await?,
            Self::Change => {
                let change = "update salesforce.editor__c set name = 'Not ' || editoruuid__c";
                pair.target.batch_execute(change).await?;
                pair.target.batch_execute("vacuum full salesforce.editor__c").await?;
            }
        }
        Ok(())
    }
}
