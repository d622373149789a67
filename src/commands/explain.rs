//! `explain`: where one row is, why, and what happens next.

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::Exit;
use crate::cli::Settings;
use crate::reports::explain::{
    self, ColumnValue, Conclusion, Explanation, NearMiss, SourceState, Subject, Surroundings,
    TargetRow,
};
use crate::reports::status;
use crate::service::Ground;

/// This much of a value is shown: enough to see what it is about.
const SHOWN_CHARS: usize = 60;

/// The explanation for a machine.
#[derive(Debug, Serialize)]
struct WithConclusion {
    #[serde(flatten)]
    explanation: Explanation,
    next: Conclusion,
}

pub async fn run(
    settings: &Settings,
    object: &str,
    key: &str,
    no_values: bool,
    json: bool,
) -> Result<Exit> {
    let mapping = super::mapping(settings)?;
    let config = super::config(settings)?;
    // An object that does not fit (any more) must not hide the others.
    let ground = Ground::check(&config, &mapping.reduced_to(object)).await;
    let ground = ground.map_err(super::stopped(&config))?;
    let Some(route) = ground.routes().find(|route| route.object.name == object) else {
        let known: Vec<&str> = mapping.objects.iter().map(|known| known.name.as_str()).collect();
        bail!("the mapping has no object {object}; it has {}", known.join(", "));
    };
    let (source, evaluator) = (ground.source.session().await?, ground.source.evaluator().await?);
    let target = ground.target.session().await?;
    let status = status::collect((&source, &evaluator), Ok(&target), &mapping, config.enabled);
    let status = status.await.map_err(super::reason)?;
    let surroundings = Surroundings {
        writer: status.writer.is_some(),
        capture_problems: status.capture_problems,
        resyncs: status.resyncs.into_iter().map(|resync| resync.object).collect(),
    };
    let routes: Vec<_> = ground.routes().collect();
    let look = Subject { source: &source, evaluator: &evaluator, target: &target, route };
    let explained = explain::explain(look, &routes, key, &surroundings).await;
    let mut explanation = explained.with_context(|| format!("cannot explain {object} {key}"))?;
    let next = explanation.conclude();
    if no_values {
        leave_out_values(&mut explanation);
    }
    let by_itself = next.by_itself;
    match json {
        true => super::print_json(&WithConclusion { explanation, next })?,
        false => print(&explanation, &next, no_values)?,
    }
    Ok(Exit::attention_if(!by_itself))
}

fn leave_out_values(explanation: &mut Explanation) {
    if let Some(awaited) = &mut explanation.awaited {
        leave_out_values(awaited);
    }
    for column in &mut explanation.source.columns {
        column.source = None;
    }
    for differing in explanation.target.iter_mut().flat_map(|row| &mut row.differing) {
        differing.target = None;
    }
}

fn print(explanation: &Explanation, next: &Conclusion, no_values: bool) -> Result<()> {
    let line = |what: &str, how: &str| say!("{what:<10} {how}");
    say!("{} {}", explanation.object, explanation.key)?;
    line("source", &source(explanation))?;
    if explanation.source.state == SourceState::Published {
        for column in &explanation.source.columns {
            line("", &projected(column, explanation, no_values))?;
        }
    }
    line("pending", &pending(explanation))?;
    for parent in &explanation.parents {
        line("parent", &told_parent(parent))?;
    }
    line("parked", &parked(explanation))?;
    if explanation.target.is_empty() {
        line("target", &format!("{} has no such row", explanation.target_table))?;
    }
    for row in &explanation.target {
        line("target", &told_row(&explanation.target_table, row))?;
        for entry in &row.log {
            let explain::LogEntry { id, state, action, created_at, message } = entry;
            let since = created_at.map(|at| format!(" since {at:.0}")).unwrap_or_default();
            let message = message.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
            line("log", &format!("entry {id}, {action} {state}{since}{message}"))?;
        }
    }
    for NearMiss { table, wanted, there } in &explanation.near_misses {
        line("near", &format!("{table} has not {wanted:?}, but {there:?}"))?;
    }
    for problem in &explanation.problems {
        line("unknown", problem)?;
    }
    line("next", &next.sentence)
}

fn source(explanation: &Explanation) -> String {
    let source = &explanation.source;
    let table = &source.table;
    let changed = source.changed_at.map(|at| format!(", last changed {at:.0}")).unwrap_or_default();
    let several = match source.rows {
        rows if rows > 1 => format!(", the winner of {rows} rows"),
        _ => String::new(),
    };
    match &source.state {
        SourceState::Published => format!("published from {table}{several}{changed}"),
        SourceState::LeftOut(filter) => {
            format!("left out of {table} by the filter ({filter}){changed}")
        }
        SourceState::Gone => format!("{table} has no such row"),
        SourceState::Unreadable(reason) => format!("{table} refuses to give it: {reason}"),
    }
}

/// A column, with the target's value where that is another one.
fn projected(column: &ColumnValue, explanation: &Explanation, no_values: bool) -> String {
    let name = &column.column;
    let differing: Vec<String> = explanation
        .target
        .iter()
        .flat_map(|row| row.differing.iter().filter(|other| other.column == *name))
        .map(|other| shown(other.target.as_deref()))
        .collect();
    let once = match (column.insert_only, column.compared) {
        (true, _) => " (only when it is inserted)",
        (false, false) => " (not compared)",
        (false, true) => "",
    };
    match (differing.as_slice(), no_values) {
        ([], true) => format!("{name}{once}"),
        ([], false) => format!("{name} = {}{once}", shown(column.source.as_deref())),
        (_, true) => format!("{name} differs{once}"),
        (others, false) => format!(
            "{name} = {}, but the target has {}{once}",
            shown(column.source.as_deref()),
            others.join(" and ")
        ),
    }
}

fn shown(value: Option<&str>) -> String {
    let Some(text) = value else { return "null".into() };
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn pending(explanation: &Explanation) -> String {
    let pending = &explanation.pending;
    match (pending.changes, pending.oldest_at, pending.touched) {
        (0, _, false) => "no change".into(),
        (0, _, true) => "a change of another table touches it".into(),
        (changes, oldest, _) => {
            let since = oldest.map(|at| format!(", the oldest since {at:.0}")).unwrap_or_default();
            format!("{}{since}", status::counted(changes, "change"))
        }
    }
}

fn told_parent(parent: &explain::ParentRow) -> String {
    let explain::ParentRow { object, key, table, is_there, sfid, lastop, error } = parent;
    let Some(key) = key else { return format!("no {object} is needed") };
    let lastop = lastop.as_deref().unwrap_or("no _hc_lastop");
    let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    match (is_there, sfid) {
        (false, _) => format!("{object} {key} is not in {table}"),
        (true, None) => format!("{object} {key} has no sfid yet, {lastop}{error}"),
        (true, Some(sfid)) => format!("{object} {key} is known to Salesforce as {sfid}"),
    }
}

fn parked(explanation: &Explanation) -> String {
    let Some(parked) = &explanation.parked else { return "no".into() };
    let due = parked.due_at.map(|at| format!("; next retry at {at:.0}")).unwrap_or_default();
    let tries = match parked.attempts {
        tries if tries > 0 => format!(", tried {tries} times"),
        _ => String::new(),
    };
    format!("{} since {:.0}{tries}{due}: {}", parked.state, parked.parked_at, parked.reason)
}

fn told_row(table: &str, row: &TargetRow) -> String {
    let TargetRow { id, sfid, lastop, error, .. } = row;
    let sfid = sfid.as_ref().map_or("no sfid".into(), |sfid| format!("sfid {sfid}"));
    let lastop = lastop.as_deref().unwrap_or("no _hc_lastop");
    let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    format!("{table} id {id}, {sfid}, {lastop}{error}")
}
