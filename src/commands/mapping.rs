//! `mapping`: prints the mapping in use, checks one, drafts a first one.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::Exit;
use crate::cli::{MappingAction, MappingOptions, Settings};
use crate::config::Config;
use crate::mapping::{Finding, Mapping, SCHEMA};
use crate::plan::draft::{self, TablePair};
use crate::plan::{self, SourceSide, Unplannable};
use crate::postgres::catalogue;
use crate::postgres::db::{Database, Evaluator, Session};
use crate::postgres::supported;
use crate::reports::status::counted;
use crate::visible;

pub async fn run(settings: &Settings, options: &MappingOptions) -> Result<Exit> {
    match (&options.action, &options.check) {
        (Some(_), Some(_)) => bail!("--check takes no command after it"),
        (Some(MappingAction::Init { pairs }), None) => return init(settings, pairs).await,
        (None, Some(file)) => {
            let file = file.as_deref().or(settings.mapping.as_deref());
            return check(settings, file, options.json).await;
        }
        (None, None) => {}
    }
    match options.schema {
        true => super::say_text(SCHEMA)?,
        false => print(&super::mapping(settings)?.text)?,
    }
    Ok(Exit::Clean)
}

/// A mapping, which stays the same one when it is read again.
fn print(mapping: &str) -> Result<()> {
    super::put(&visible::unicode(mapping))
}

const MEND_FIRST: &str = "the file must be mended first";

/// What a check has found.
#[derive(Debug, Serialize)]
struct CheckReport {
    file: String,
    /// What keeps the mapping from being used.
    findings: Vec<InFile>,
    /// What would be better.
    advice: Vec<InFile>,
    source: Checked,
    target: Checked,
}

#[derive(Debug, Serialize)]
struct InFile {
    file: String,
    #[serde(flatten)]
    finding: Finding,
}

/// Whether the mapping was held against a database.
#[derive(Debug, Default, Serialize)]
struct Checked {
    checked: bool,
    /// Why it was not.
    why_not: Option<String>,
    /// It should have been: the database is set.
    #[serde(skip)]
    failed: bool,
}

impl Checked {
    fn done() -> Self {
        Self { checked: true, ..Self::default() }
    }

    fn left_out(why_not: &str) -> Self {
        Self { why_not: Some(why_not.into()), ..Self::default() }
    }

    fn failed(error: &anyhow::Error) -> Self {
        Self { why_not: Some(format!("{error:#}")), failed: true, ..Self::default() }
    }
}

impl CheckReport {
    fn new(file: &str, why_not: &str) -> Self {
        Self {
            file: file.into(),
            findings: Vec::new(),
            advice: Vec::new(),
            source: Checked::left_out(why_not),
            target: Checked::left_out(why_not),
        }
    }

    fn add(&mut self, findings: Vec<Finding>) {
        self.findings.extend(told(&self.file, findings));
        self.findings.sort_by_key(|told| (told.finding.line, told.finding.column));
        // Either side may say the same of the file.
        self.findings.dedup_by(|one, other| one.finding == other.finding);
    }
}

fn told(file: &str, findings: Vec<Finding>) -> Vec<InFile> {
    findings.into_iter().map(|finding| InFile { file: file.into(), finding }).collect()
}

async fn check(settings: &Settings, file: Option<&Path>, json: bool) -> Result<Exit> {
    let (report, objects) = match Mapping::load(file) {
        Err(unusable) => {
            let mut report = CheckReport::new(&unusable.file, MEND_FIRST);
            report.add(unusable.findings);
            (report, 0)
        }
        Ok(mapping) => (against_databases(settings, &mapping).await?, mapping.objects.len()),
    };
    if json {
        super::print_json(&report)?;
    } else {
        for InFile { file, finding } in report.findings.iter().chain(&report.advice) {
            say!("{}", finding.in_file(file))?;
        }
    }
    let file = &report.file;
    let failed = [("source", &report.source), ("target", &report.target)].into_iter().find_map(
        |(side, checked)| {
            checked.failed.then(|| (side, checked.why_not.clone().unwrap_or_default()))
        },
    );
    match (report.findings.len(), failed) {
        (0, None) => {}
        (0, Some((side, why))) => bail!("{file}: the {side}'s side was not checked: {why}"),
        (count, None) => {
            let findings = counted(count as i64, "finding");
            // What a database lacks can be found only when the file can be read.
            let not_held = match (report.source.checked, report.source.why_not.as_deref()) {
                (false, Some(MEND_FIRST)) => "; the databases are asked when it is mended",
                _ => "",
            };
            bail!("{file} cannot be used as it is: {findings}{not_held}")
        }
        (count, Some((side, why))) => {
            bail!(
                "{file} cannot be used as it is ({count} found), and the {side}'s side was not checked: {why}"
            )
        }
    }
    if !json {
        match (report.source.checked, report.target.checked) {
            (true, true) => say!("{file}: {objects} objects fit both databases")?,
            (true, false) => say!(
                "{file}: {objects} objects fit the source database; {}",
                report.target.why_not.as_deref().unwrap_or_default()
            )?,
            (false, _) => say!(
                "{file}: {objects} objects, sound in itself; set DATABASE_URL to check it against the databases"
            )?,
        }
    }
    Ok(Exit::attention_if(!report.advice.is_empty()))
}

/// Checks a mapping without findings against the databases that are set.
async fn against_databases(settings: &Settings, mapping: &Mapping) -> Result<CheckReport> {
    let mut report = CheckReport::new(&mapping.file, "DATABASE_URL is not set");
    if !super::names_a_source(settings) {
        return Ok(report);
    }
    let config = super::config(settings)?;
    let (source, target) = (super::source_session(&config.source).await, target(&config).await);
    let source_side = match &source {
        Ok(source) => {
            let evaluator = super::evaluator(&config.source).await?;
            check_source((source, &evaluator), mapping, &mut report).await?
        }
        Err(error) => {
            report.source = Checked::failed(error);
            None
        }
    };
    let target = match target {
        Ok(target) => target,
        Err(error) => {
            report.target = Checked::failed(&error);
            return Ok(report);
        }
    };
    let side = plan::target_side(&target, mapping).await?;
    if side.is_elsewhere() && config.target.to_string() == config.source.to_string() {
        report.target =
            Checked::left_out("set SALESFORCE_CONNECT_URL to check the target's side, too");
        return Ok(report);
    }
    report.target = Checked::done();
    report.advice.extend(told(&mapping.file, side.advice));
    report.add(side.findings);
    if let (Ok(source), Some(source_side)) = (&source, source_side) {
        // It contains the target's own findings again; each is reported once.
        match plan::routes(&source_side, source, &target, mapping).await {
            Ok(_) => {}
            Err(Unplannable::Mapping(unusable)) => report.add(unusable.findings),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(report)
}

async fn check_source(
    (source, evaluator): (&Session, &Evaluator),
    mapping: &Mapping,
    report: &mut CheckReport,
) -> Result<Option<SourceSide>> {
    report.source = Checked::done();
    match plan::source_side(source, evaluator, mapping).await {
        Ok(side) => {
            report.advice.extend(told(&mapping.file, side.advice.clone()));
            Ok(Some(side))
        }
        Err(Unplannable::Mapping(unusable)) => {
            report.add(unusable.findings);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn target(config: &Config) -> Result<Session> {
    let target = Database::new(config.target.clone(), "command")?.session().await;
    let target = target.with_context(|| {
        format!(
            "cannot use the target database ({}); check {}",
            config.target,
            config.target.setting()
        )
    })?;
    if let Some(refusal) = supported::refusal(&target).await.map_err(super::reason)? {
        bail!("cannot use the target database ({}): {refusal}", config.target);
    }
    Ok(target)
}

async fn init(settings: &Settings, asked: &[String]) -> Result<Exit> {
    let config = super::config(settings)?;
    let (source, target) = (super::source_session(&config.source).await?, target(&config).await?);
    let asked: Vec<TablePair> = asked
        .iter()
        .map(|text| {
            TablePair::parse(text).with_context(|| {
                format!("{text:?} is no pair of tables; write it as SOURCE=TARGET or OBJECT:SOURCE=TARGET")
            })
        })
        .collect::<Result<_>>()?;
    let tables = (catalogue::tables(&source).await.map_err(super::reason)?, {
        let tables = catalogue::tables(&target).await.map_err(super::reason)?;
        draft::mapped(&target, tables).await.map_err(super::reason)?
    });
    let pairs = match asked.is_empty() {
        false => asked,
        true => draft::namesakes(&tables.0, &tables.1),
    };
    if pairs.is_empty() {
        let list = |tables: &[crate::postgres::name::TableName]| {
            let names: Vec<String> =
                tables.iter().map(crate::postgres::name::TableName::plain).collect();
            names.join(", ")
        };
        bail!(visible::Lines(vec![
            "no table of the source is called like one of the target's; say which belong together: schoolbell mapping init \
             SOURCE=TARGET…"
                .to_string(),
            format!("the source has {}", list(&tables.0)),
            format!("the target has {}", list(&tables.1)),
        ]));
    }
    let mut drafts = Vec::new();
    for pair in pairs {
        drafts.push(pair.read(&source, &target).await.map_err(|error| match error {
            draft::Unreadable::Database(error) => super::reason(error),
            draft::Unreadable::Unknown(problem) => anyhow::anyhow!(problem),
        })?);
    }
    let text = draft::mapping(&source, drafts).await.map_err(super::reason)?;
    print(&text)?;
    Ok(Exit::Clean)
}
