//! What becomes of changes in the partitions and children of the tables that a mapping reads, and in unlogged tables.

use std::collections::BTreeMap;

use crate::mapping::{Finding, Mapping, Object};
use crate::postgres::catalogue::{Part, Table};
use crate::postgres::name::TableName;

/// The findings about the tables.
#[derive(Default)]
pub(super) struct PartFindings {
    /// Errors: no trigger can be installed.
    pub findings: Vec<Finding>,
    /// Advice: it works without.
    pub advice: Vec<Finding>,
    /// Partitions and children whose changes no trigger of ours sees, each in a sentence.
    pub unseen: Vec<String>,
    /// Tables that a crash of their server empties, each in a sentence.
    pub unlogged: Vec<String>,
}

/// A table that a mapping names, and where.
struct NamedTable<'m> {
    object: &'m Object,
    setting: &'static str,
    line: usize,
    table: &'m TableName,
}

impl NamedTable<'_> {
    fn finding(&self, problem: String) -> Finding {
        Finding::of(self.object, self.setting, problem).at(self.line)
    }

    /// The changes of both tables are captured under one name.
    fn shares_triggers_with(&self, other: &NamedTable<'_>) -> bool {
        let is_source = |named: &NamedTable<'_>| named.setting == "source";
        match (is_source(self), is_source(other)) {
            (true, true) => true,
            (false, false) => self.object.name == other.object.name,
            _ => false,
        }
    }
}

fn named(mapping: &Mapping) -> Vec<NamedTable<'_>> {
    let tables = mapping.objects.iter().flat_map(|object| {
        let line = object.line_of("source");
        let source = NamedTable { object, setting: "source", line, table: &object.source };
        let touching = object.touched_by.iter().map(move |touch| NamedTable {
            object,
            setting: "touched_by",
            line: touch.lines.table,
            table: &touch.table,
        });
        std::iter::once(source).chain(touching)
    });
    tables.collect()
}

pub(super) fn check_parts(
    mapping: &Mapping,
    tables: &BTreeMap<TableName, Table>,
    parts: &BTreeMap<TableName, Vec<Part>>,
) -> PartFindings {
    let named = named(mapping);
    let parts_of = |table: &TableName| parts.get(table).map_or(&[][..], Vec::as_slice);
    let mut said = PartFindings::default();
    for one in &named {
        for problem in unseen(one.table, parts_of(one.table)) {
            said.advice.push(one.finding(problem.clone()));
            said.unseen.push(problem);
        }
        let is_unlogged = tables.get(one.table).is_some_and(|table| table.is_unlogged);
        for problem in unlogged((one.table, is_unlogged), parts_of(one.table)) {
            said.advice.push(one.finding(problem.clone()));
            said.unlogged.push(problem);
        }
        let is_part = |other: &&NamedTable<'_>| {
            let mut parts = parts_of(other.table).iter();
            parts.any(|part| part.is_partition && part.table == *one.table)
        };
        let beside = named.iter().filter(|other| other.shares_triggers_with(one)).find(is_part);
        said.findings.extend(beside.map(|whole| one.finding(beside_its_table(one, whole))));
    }
    for sentences in [&mut said.unseen, &mut said.unlogged] {
        sentences.sort();
        sentences.dedup();
    }
    said
}

fn unseen<'a>(table: &'a TableName, parts: &'a [Part]) -> impl Iterator<Item = String> + 'a {
    parts.iter().filter_map(|part| {
        let why = part.unseen.as_ref()?;
        let (part, table) = (part.table.plain(), table.plain());
        Some(format!("{part} holds rows of {table}, and {why}, so no change of these is captured"))
    })
}

fn unlogged<'a>(
    (table, is_unlogged): (&'a TableName, bool),
    parts: &'a [Part],
) -> impl Iterator<Item = String> + 'a {
    let parts = parts.iter().filter(|part| part.is_unlogged).map(|part| &part.table);
    is_unlogged.then_some(table).into_iter().chain(parts).map(|table| {
        format!(
            "{} is unlogged: a crash of its server empties it, and a standby lacks its rows; no trigger reports that",
            table.plain()
        )
    })
}

fn beside_its_table(part: &NamedTable<'_>, whole: &NamedTable<'_>) -> String {
    let (part, whole) = (part.table.plain(), whole.table.plain());
    format!(
        "{part} is a partition of {whole}, which this mapping reads, too; read {whole} in both places, here with a filter"
    )
}
