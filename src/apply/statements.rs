//! The SQL that writes and compares target rows, built for one route.
//!
//! Promise: every name passes through `ident`, every value is a parameter, and a row that is right is not touched.

use std::hash::{Hash, Hasher};

use super::Locked;
use crate::mapping::{Object, OnDelete};
use crate::plan::{Form, Route};
use crate::postgres::name::{TableName, ident};
use crate::postgres::qualified::{SqlType, differ, equal};
use crate::postgres::template::RenderedStatement;
use crate::project;

/// The statements of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statements {
    pub(super) write: Write,
    pub(super) copied: Copied,
    pub(super) compare: String,
    pub(super) lacking: String,
    pub(super) leave: Option<String>,
    pub(super) there: String,
    pub(super) standing: String,
    pub(super) arrived: Vec<(String, String)>,
}

/// What writes rows by way of a temporary table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) create: String,
    pub(super) copy: String,
    pub(super) write: Write,
}

/// The same in two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// Rows that somebody has locked are waited for.
    waiting: String,
    /// They are passed over, which costs each row a lock of its own.
    passing: String,
}

impl Write {
    fn new(route: &Route, from: &From) -> Self {
        Self {
            waiting: write(route, from, Locked::Wait),
            passing: write(route, from, Locked::PassOver),
        }
    }

    pub(super) fn form(&self, locked: Locked) -> &str {
        match locked {
            Locked::Wait => &self.waiting,
            Locked::PassOver => &self.passing,
        }
    }
}

impl Statements {
    /// Builds them.
    pub fn new(route: &Route) -> Self {
        Self {
            write: Write::new(route, &From::Parameters),
            copied: Copied::new(route),
            compare: compare(route),
            lacking: lacking(route),
            leave: leave(route),
            there: there(route),
            standing: format!(
                "select pg_catalog.count(*) from (select from {} limit $1) as standing",
                route.object.target
            ),
            arrived: arrived(route),
        }
    }

    /// All of them, to be read by people.
    pub fn shown(&self) -> Vec<RenderedStatement> {
        const BATCH: &str = "$1: keys, $2: external ids, then an array for each column and parent.";
        let Self { write, copied, compare, lacking, leave, there, standing, arrived } = self;
        let mut shown = vec![
            RenderedStatement::new(
                "write_one",
                format!(
                    "Target: writes a single row, and waits briefly where it is locked. {BATCH}"
                ),
                &write.waiting,
            ),
            RenderedStatement::new(
                "write",
                format!(
                    "Target: writes rows that differ or are missing, and passes over locked ones. {BATCH}"
                ),
                &write.passing,
            ),
            RenderedStatement::new(
                "copy_table",
                "Target: the temporary table for a large batch.",
                &copied.create,
            ),
            RenderedStatement::new("copy", "Target: fills it.", &copied.copy),
            RenderedStatement::new(
                "copy_write",
                "Target: the same as write, from that table.",
                &copied.write.passing,
            ),
            RenderedStatement::new(
                "compare",
                format!("Target: what write would do (resync --dry-run). {BATCH}"),
                compare,
            ),
            RenderedStatement::new(
                "lacking",
                "Target: which of these keys have no row (resync --missing). $1: keys.",
                lacking,
            ),
            RenderedStatement::new(
                "there",
                "Target: which of these keys have a row. $1: keys.",
                there,
            ),
            RenderedStatement::new(
                "standing",
                "Target: how many rows there are, for the brake. $1: count no further.",
                standing,
            ),
        ];
        if let Some(leave) = leave {
            shown.push(RenderedStatement::new(
                "leave",
                "Target: rows whose source row is gone. $1: keys.",
                leave,
            ));
        }
        for (place, (awaits, sql)) in arrived.iter().enumerate() {
            let purpose =
                format!("Target: which of the awaited keys ({awaits}) are there now. $1: keys.");
            shown.push(RenderedStatement::new(format!("arrived_{}", place + 1), purpose, sql));
        }
        shown
    }
}

/// Where a statement finds the batch.
enum From {
    /// `$1`: keys, `$2`: external ids, then one array per column and per parent.
    Parameters,
    /// The temporary table.
    Table(String),
}

impl From {
    fn sql(&self, route: &Route) -> String {
        match self {
            Self::Table(name) => format!("{name} as b"),
            Self::Parameters => {
                let places = (1..).zip(columns(route));
                let (names, arrays): (Vec<String>, Vec<String>) = places
                    .map(|(place, (name, sql_type))| {
                        (name, format!("pg_catalog.unnest(${place}::{sql_type}[])"))
                    })
                    .unzip();
                format!("rows from (\n{}\n) as b ({})", arrays.join(",\n"), names.join(", "))
            }
        }
    }
}

impl Copied {
    fn new(route: &Route) -> Self {
        let columns: Vec<String> = columns(route)
            .into_iter()
            .map(|(name, sql_type)| format!("{name} {sql_type}"))
            .collect();
        // Each object needs a name of its own, and a new one when its columns change: the session
        // outlives a plan.
        let mut hash = std::hash::DefaultHasher::new();
        (&route.object.name, &columns).hash(&mut hash);
        let table = format!("pg_temp.schoolbell_{:016x}", hash.finish());
        Self {
            create: format!(
                "create temporary table if not exists {table} (\n{}\n) on commit delete rows",
                columns.join(",\n")
            ),
            copy: format!("copy {table} from stdin (format binary)"),
            write: Write::new(route, &From::Table(table)),
        }
    }
}

/// Names and types of the batch's columns.
fn columns(route: &Route) -> Vec<(String, String)> {
    let mut columns = vec![
        ("key".to_string(), "pg_catalog.text".to_string()),
        ("external_id".to_string(), route.external_id_type.to_string()),
    ];
    let fields = route.columns.iter().enumerate();
    columns
        .extend(fields.map(|(index, column)| (format!("f{index}"), column.sql_type.to_string())));
    let parents = route.parents.iter().enumerate();
    columns
        .extend(parents.map(|(index, parent)| (format!("p{index}"), parent.sql_type.to_string())));
    columns
}

/// The batch as rows, gated: what must wait, and for which parent.
fn gated(route: &Route, from: &From) -> String {
    let waits: String = route
        .parents
        .iter()
        .enumerate()
        .map(|(index, parent)| {
            let key = format!("parent.{}", ident(&parent.external_id));
            let known = format!(
                "from {} as parent\nwhere {} and parent.sfid is not null",
                parent.table,
                parent.sql_type.equal(&key, &format!("b.p{index}"))
            );
            let is_known = is_there(&known, parent.is_indexed);
            format!("\nwhen b.p{index} is not null and not {is_known} then {index}")
        })
        .collect();
    let gate = match waits.is_empty() {
        true => "null::pg_catalog.int4".to_string(),
        false => format!("case{waits}\nend"),
    };
    // A table can be read twice as it is; computed rows should not be computed twice.
    let kept = match (from, waits.is_empty()) {
        (From::Table(_), true) => "not materialized",
        _ => "materialized",
    };
    format!("batch as {kept} (\nselect b.*, {gate} as parent\nfrom {}\n)", from.sql(route))
}

/// The rows that need a write, and whether the target lacks them. Rows that are right end here.
fn needed(route: &Route) -> String {
    let external_id = format!("t.{}", ident(&route.object.external_id));
    format!(
        "needed as materialized (\nselect batch.*, {external_id} is null as missing\nfrom batch\n\
         left join {}\nwhere batch.parent is null\nand (\n{external_id} is null or {}\n)\n)",
        present(route),
        differs(route)
    )
}

/// The target's rows of the batch, as `t`. With an index each is looked up, as `offset 0` demands: a
/// plan for all of them at once depends on how many rows the planner believes that the table has,
/// and it does not know that of a table that was never analysed. Without an index the table is
/// better read once.
fn present(route: &Route) -> String {
    let (table, has_id) = (&route.object.target, has_id(route, "batch.external_id"));
    if !route.external_id_is_indexed {
        return format!("{table} as t on {has_id}");
    }
    let compared = route.columns.iter().filter(|column| column.field.compared);
    let columns = compared.map(|column| &column.field.column).chain([&route.object.external_id]);
    let columns: Vec<String> = columns.map(|column| format!("t.{}", ident(column))).collect();
    format!(
        "lateral (\nselect {}\nfrom {table} as t\nwhere {has_id}\noffset 0\n) as t on true",
        columns.join(", ")
    )
}

/// A row that must wait for a parent, with the parent's key.
fn waiting(route: &Route) -> String {
    let keys: String = (0..route.parents.len())
        .map(|index| {
            let is_this = equal("batch.parent", &index.to_string());
            format!(" when {is_this} then batch.p{index}::pg_catalog.text")
        })
        .collect();
    let key = match keys.is_empty() {
        true => "null::pg_catalog.text".to_string(),
        false => format!("case{keys} end"),
    };
    format!(
        "select batch.key, 'waits' as outcome, batch.parent, {key} as parent_key\nfrom batch\nwhere batch.parent is \
         not null"
    )
}

/// A row of an update-only object that Salesforce has not created yet.
const MISSING: &str =
    "select needed.key, 'waits', null, needed.key\nfrom needed\nwhere needed.missing";

/// Whether the target's row differs from the batch's in a compared column. Most values are
/// identical, and comparing them directly is far cheaper than comparing what Salesforce would make
/// of them.
fn differs(route: &Route) -> String {
    let compared: Vec<String> = route
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.field.compared)
        .map(|(index, column)| {
            let (t, b) = (format!("t.{}", ident(&column.field.column)), format!("batch.f{index}"));
            let formed = project::comparable(column, &t);
            let differs = match column.form {
                Form::Plain => differ(&formed, &b),
                Form::Time => format!("(\n{}\nand {}\n)", differ(&t, &b), differ(&formed, &b)),
                Form::Text(_) => {
                    // A collation that ignores the case would hide a difference.
                    let letters =
                        if column.sql_type.folds() { " collate pg_catalog.\"C\"" } else { "" };
                    let text = |value: &str| format!("({value})::pg_catalog.text{letters}");
                    let (t, b) = (text(&t), text(&b));
                    format!("(\n{}\nand {}\n)", differ(&t, &b), differ(&text(&formed), &b))
                }
            };
            match project::is_clear(column, &t) {
                Some(clear) => format!("({differs} and {clear})"),
                None => differs,
            }
        })
        .collect();
    match compared.is_empty() {
        true => "false".to_string(),
        false => compared.join("\nor "),
    }
}

fn update(route: &Route, locked: Locked) -> Option<String> {
    let set: Vec<String> = route
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| !column.field.insert_only)
        .map(|(index, column)| format!("{} = b.f{index}", ident(&column.field.column)))
        .collect();
    if set.is_empty() {
        return None;
    }
    let (from, unless_missing) = match locked {
        Locked::Wait => ("needed", " and not b.missing"),
        Locked::PassOver => ("free", ""),
    };
    let Route { object, external_id_type, .. } = route;
    let id = format!("t.{}", ident(&object.external_id));
    let has_id = match route.external_id_is_indexed {
        true => external_id_type.equal_through_index(&id, "b.external_id"),
        false => external_id_type.equal(&id, "b.external_id"),
    };
    Some(format!(
        "update {} as t\nset {}\nfrom {from} as b\nwhere {has_id}{unless_missing}\nreturning b.key",
        object.target,
        set.join(",\n"),
    ))
}

/// The rows to update that nobody else has locked; from now on we have them locked.
fn free(route: &Route) -> String {
    let (table, has_id) = (&route.object.target, has_id(route, "needed.external_id"));
    let from = match route.external_id_is_indexed {
        true => format!(
            "cross join lateral (\nselect\nfrom {table} as t\nwhere {has_id}\nfor update skip locked\n) as t\n\
             where not needed.missing"
        ),
        false => format!(
            "join {table} as t on {has_id}\nwhere not needed.missing\nfor update of t skip locked"
        ),
    };
    format!("free as materialized (\nselect needed.*\nfrom needed\n{from}\n)")
}

/// Those that another transaction has locked.
fn passed_over() -> String {
    format!(
        "select needed.key, 'locked', null, null\nfrom needed\nwhere not needed.missing\n\
         and not exists (select from free where {})",
        equal("free.key", "needed.key")
    )
}

fn insert(route: &Route) -> String {
    let mut columns = vec![ident(&route.object.external_id)];
    let mut values = vec!["needed.external_id".to_string()];
    for (index, column) in route.columns.iter().enumerate() {
        columns.push(ident(&column.field.column));
        values.push(format!("needed.f{index}"));
    }
    format!(
        "insert into {} ({})\nselect {}\nfrom needed\nwhere needed.missing\norder by needed.key\n\
         returning {}::pg_catalog.text as key",
        route.object.target,
        columns.join(", "),
        values.join(", "),
        ident(&route.object.external_id)
    )
}

/// One statement: its parts see the target as it was, so no row is both updated and inserted.
fn write(route: &Route, from: &From, locked: Locked) -> String {
    let mut steps = vec![gated(route, from), needed(route)];
    let mut results = vec![waiting(route)];
    if let Some(update) = update(route, locked) {
        if locked == Locked::PassOver {
            steps.push(free(route));
            results.push(passed_over());
        }
        steps.push(format!("updated as (\n{update}\n)"));
        results.push(done("updated"));
    }
    match route.object.update_only {
        true => results.push(MISSING.to_string()),
        false => {
            steps.push(format!("inserted as (\n{}\n)", insert(route)));
            results.push(done("inserted"));
        }
    }
    format!("with {}\n{}", steps.join(",\n"), results.join("\nunion all\n"))
}

fn done(step: &str) -> String {
    format!("select {step}.key, '{step}', null, null\nfrom {step}")
}

/// The same without writing.
fn compare(route: &Route) -> String {
    let would = |what: &str, which: &str| {
        format!("select needed.key, '{what}', null, null\nfrom needed\nwhere {which}")
    };
    let results = [
        waiting(route),
        would("updated", "not needed.missing"),
        match route.object.update_only {
            true => MISSING.to_string(),
            false => would("inserted", "needed.missing"),
        },
    ];
    format!(
        "with {},\n{}\n{}",
        gated(route, &From::Parameters),
        needed(route),
        results.join("\nunion all\n")
    )
}

fn lacking(route: &Route) -> String {
    let there = format!(
        "from {} as t\nwhere {}",
        route.object.target,
        has_id(route, &format!("k.key::{}", route.external_id_type))
    );
    format!("{ASKED}\nwhere not {}", is_there(&there, route.external_id_is_indexed))
}

/// Keys that are asked for.
const ASKED: &str = "select k.key\nfrom pg_catalog.unnest($1::pg_catalog.text[]) as k (key)";

/// Whether a query has a row. The planner may answer `exists` for many keys at once by reading the
/// whole table; a single value is looked up.
fn is_there(query: &str, is_indexed: bool) -> String {
    match is_indexed {
        true => format!("coalesce((\nselect true\n{query}\nlimit 1\n), false)"),
        false => format!("exists (\nselect\n{query}\n)"),
    }
}

/// An update-only object's rows are Salesforce's own: that their source is gone changes nothing.
fn leave(route: &Route) -> Option<String> {
    match (route.object.update_only, route.object.on_delete) {
        (true, _) => None,
        (false, OnDelete::Keep) => Some(there(route)),
        (false, OnDelete::Delete) => Some(delete(route)),
    }
}

/// Those that nobody else has locked.
fn delete(route: &Route) -> String {
    let Object { target, external_id, .. } = &route.object;
    let (id, id_type) = (format!("t.{}", ident(external_id)), &route.external_id_type);
    let there = format!("select {id} as id\nfrom {target} as t\nwhere {}", has_key(route));
    // To lock a row takes the right to update it, which a role that only inserts and deletes does without.
    let lock = if update(route, Locked::Wait).is_some() { "\nfor update skip locked" } else { "" };
    let is_free = id_type.equal_any(&id, "select free.id from free");
    // From an array they are looked up; joined, the whole table may be read.
    let is_deleted = match route.external_id_is_indexed {
        true => id_type.equal_any(&id, "array(select free.id from free)"),
        false => is_free.clone(),
    };
    format!(
        "with free as materialized (\n{there}{lock}\n), deleted as (\n\
         delete from {target} as t\nwhere {is_deleted}\nreturning {id} as id\n)\n\
         select deleted.id::pg_catalog.text as key, 'deleted' as outcome\nfrom deleted\nunion all\n\
         select {id}::pg_catalog.text, 'locked'\nfrom {target} as t\nwhere {} and not {is_free}",
        has_key(route)
    )
}

fn there(route: &Route) -> String {
    format!(
        "select t.{}::pg_catalog.text as key, 'kept' as outcome\nfrom {} as t\nwhere {}",
        ident(&route.object.external_id),
        route.object.target,
        has_key(route)
    )
}

fn has_key(route: &Route) -> String {
    let (id, id_type) =
        (format!("t.{}", ident(&route.object.external_id)), &route.external_id_type);
    id_type.equal_any(&id, &format!("$1::pg_catalog.text[]::{id_type}[]"))
}

/// Whether a target row has this external id.
fn has_id(route: &Route, id: &str) -> String {
    route.external_id_type.equal(&format!("t.{}", ident(&route.object.external_id)), id)
}

/// For each thing a key of this route may wait for: the query that finds the ones that are there.
fn arrived(route: &Route) -> Vec<(String, String)> {
    let there = |table: &TableName,
                 (external_id, is_indexed): (&str, bool),
                 sql_type: &SqlType,
                 and: &str| {
        let has_id =
            sql_type.equal(&format!("t.{}", ident(external_id)), &format!("k.key::{sql_type}"));
        let there = is_there(&format!("from {table} as t\nwhere {has_id}{and}"), is_indexed);
        format!("{ASKED}\nwhere {there}")
    };
    let parents = route.parents.iter().map(|parent| {
        let sfid = "\nand t.sfid is not null";
        let id = (parent.external_id.as_str(), parent.is_indexed);
        let sql = there(&parent.table, id, &parent.sql_type, sfid);
        (Route::awaits_sfid(&parent.object), sql)
    });
    let object = &route.object;
    let own = object.update_only.then(|| {
        let id = (object.external_id.as_str(), route.external_id_is_indexed);
        (route.awaits_row(), there(&object.target, id, &route.external_id_type, ""))
    });
    parents.chain(own).collect()
}
