//! Builds the statement that turns claimed keys into target rows, as the source has them now.
//!
//! Promise: one statement per object, whatever the mapping; each wanted key comes back exactly once,
//! with its row in the form that Salesforce keeps, or as absent. Knows only the route.

use std::collections::HashSet;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use crate::mapping::{Object, Winner};
use crate::plan::{Form, Route, RouteColumn};
use crate::postgres::apart::Parts;
use crate::postgres::db::{Evaluator, Parameter};
use crate::postgres::failure::{Failure, Refusal};
use crate::postgres::name::ident;
use crate::postgres::qualified::null_if_empty;

/// The key that is asked for.
const WANTED: &str = "schoolbell__wanted.schoolbell__key";
/// What Salesforce trims: white space of ASCII.
const WHITE_SPACE: &str = "E' \\t\\n\\r\\f\\x0b'";

/// The keys of one object that a batch is about.
#[derive(Debug, Default, Clone)]
pub struct Wanted {
    /// Keys of the object itself.
    pub keys: Vec<String>,
    /// Per touching table of the route: the recorded keys (JSON) of its changes.
    pub touches: Vec<Vec<String>>,
}

impl Wanted {
    /// Nothing to project.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.touches.iter().all(Vec::is_empty)
    }

    /// Whether changes of other tables are among it.
    pub fn has_touches(&self) -> bool {
        !self.touches.iter().all(Vec::is_empty)
    }

    /// Nothing, of an object that this many other tables touch.
    pub fn none(touching_tables: usize) -> Self {
        Self::of(Vec::new(), touching_tables)
    }

    /// These keys and nothing that is touched.
    pub fn of(keys: Vec<String>, touching_tables: usize) -> Self {
        Self { keys, touches: vec![Vec::new(); touching_tables] }
    }

    /// For a statement over wanted keys.
    pub fn parameters(&self) -> Vec<&dyn Parameter> {
        let touches = self.touches.iter().map(|keys| keys as &dyn Parameter);
        std::iter::once(&self.keys as &dyn Parameter).chain(touches).collect()
    }

    /// Leaves out what is named twice.
    pub fn leave_each_once(&mut self) {
        for texts in std::iter::once(&mut self.keys).chain(&mut self.touches) {
            let mut seen = HashSet::with_capacity(texts.len());
            texts.retain(|text| seen.insert(text.clone()));
        }
    }
}

impl Parts for Wanted {
    fn count(&self) -> usize {
        self.keys.len() + self.touches.iter().map(Vec::len).sum::<usize>()
    }

    fn halves(self) -> [Self; 2] {
        let size = self.count();
        let mut halves = [Self::none(self.touches.len()), Self::none(self.touches.len())];
        let mut place = 0;
        // The second half comes first, because it is popped off a stack.
        let mut half = || {
            place += 1;
            usize::from(place <= size / 2)
        };
        for key in self.keys {
            halves[half()].keys.push(key);
        }
        for (index, recorded) in self.touches.into_iter().enumerate() {
            for keys in recorded {
                halves[half()].touches[index].push(keys);
            }
        }
        halves
    }
}

/// The target rows of one object, in the order of their keys.
#[derive(Debug, Default)]
pub struct Projected {
    /// Keys whose row is published. Columns: `key`, `present`, the external id, the route's columns, its parents.
    pub rows: Vec<Row>,
    /// Keys whose row is gone, or left out by the filter.
    pub absent: Vec<String>,
}

impl Projected {
    fn of(rows: Vec<Row>) -> Self {
        let is_present = |row: &Row| row.get::<_, Option<bool>>("present").is_some();
        let (rows, absent): (_, Vec<Row>) = rows.into_iter().partition(is_present);
        Self { rows, absent: absent.iter().map(|row| key(row).to_string()).collect() }
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(key).chain(self.absent.iter().map(String::as_str))
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.rows.len() + self.absent.len()
    }

    /// Takes out the rows that would come back from Salesforce with another key, and would be
    /// inserted repeatedly.
    pub fn take_unkeepable(&mut self) -> Vec<(String, Refusal)> {
        let kept = |row: &mut Row| would_change(key(row)).is_some();
        let taken = self.rows.extract_if(.., kept);
        let refused = taken.map(|row| {
            let reason = would_change(key(&row)).unwrap_or_default();
            (key(&row).to_string(), Refusal::of_key(reason))
        });
        refused.collect()
    }

    /// How many bytes its rows have.
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(Row::raw_size_bytes).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds another part; a key that is in both (written in two ways) stays once.
    pub fn add(&mut self, other: Self) {
        let seen: HashSet<String> = self.keys().map(str::to_string).collect();
        self.rows.extend(other.rows.into_iter().filter(|row| !seen.contains(key(row))));
        self.absent.extend(other.absent.into_iter().filter(|key| !seen.contains(key)));
    }
}

/// Several rows that are read together have no more bytes than this: three batches are in hand at a time, and memory is
/// bounded whatever the rows hold.
pub const BATCH_BYTES: usize = 12 * 1024 * 1024;

/// At most this many rows that changes of other tables touch are looked at together, if they fit
/// into a batch. If there are more, all rows of the object are resynced instead, page by page.
pub const MOST_TOUCHED: usize = 20_000;

/// Where the external id is in a projected row; the route's columns and parents follow.
pub const EXTERNAL_ID: usize = 2;

/// The key of a projected row.
pub fn key(row: &Row) -> &str {
    row.get("key")
}

/// Why Salesforce would not know a record by this key again: it trims text, and keeps no empty one.
fn would_change(key: &str) -> Option<&'static str> {
    let is_white = |character: char| character.is_ascii_whitespace() || character == '\x0b';
    match () {
        () if key.is_empty() => Some("the key is empty, and Salesforce keeps no empty text"),
        () if key.starts_with(is_white) || key.ends_with(is_white) => {
            Some("the key begins or ends with white space, which Salesforce trims")
        }
        () => None,
    }
}

/// Reads the wanted keys' rows; none where several rows have more than this many bytes.
pub async fn project(
    source: &Evaluator,
    bytes: usize,
    statement: &str,
    wanted: &Wanted,
) -> Result<Option<Projected>, Failure> {
    let found = source.rows_within(bytes, statement, &wanted.parameters()).await?;
    Ok(found.map(Projected::of))
}

/// The same for a part of what was refused, which is broken off after this long.
pub async fn project_part(
    source: &Evaluator,
    limit: Duration,
    bytes: usize,
    statement: &str,
    wanted: &Wanted,
) -> Result<Option<Projected>, Failure> {
    let parameters = wanted.parameters();
    let found = source.rows_within_briefly(limit, bytes, statement, &parameters).await?;
    Ok(found.map(Projected::of))
}

/// Finds out which keys are wanted, without reading their rows.
pub async fn resolve(
    source: &Evaluator,
    statement: &str,
    wanted: &Wanted,
) -> Result<Vec<String>, Failure> {
    let rows = source.rows(statement, &wanted.parameters()).await?;
    Ok(rows.iter().map(|row| row.get("key")).collect())
}

/// Whether the source's encoding has the characters of these keys. Those that it lacks are in no row and no table of it.
pub async fn can_be_sent(source: &Evaluator, keys: &[String]) -> Result<bool, Failure> {
    match source.rows("select from pg_catalog.unnest($1::pg_catalog.text[])", &[&keys]).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::UNTRANSLATABLE_CHARACTER) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The statement behind [`resolve`], with the parameters of [`statement`].
pub fn resolve_statement(route: &Route) -> String {
    let wanted = wanted(route, Some(MOST_TOUCHED + 1));
    format!("select k.key::pg_catalog.text as key\nfrom (\n{wanted}\n) as k (key)\norder by k.key")
}

/// The statement for a route. `$1`: keys as text; `$2`…: the recorded keys of each touching table. Of the keys that each
/// of these touches it finds one more than [`MOST_TOUCHED`].
pub fn statement(route: &Route) -> String {
    let mut sql = format!(
        "with schoolbell__wanted (schoolbell__key) as materialized (\n{}\n)",
        wanted(route, Some(MOST_TOUCHED + 1))
    );
    let found = match &route.object.winner {
        // `offset 0` keeps the planner from reading the whole table instead of the wanted rows.
        None => format!("left join lateral (\n{}\noffset 0\n) as r on true", row(route, "")),
        Some(winner) => {
            sql.push_str(&winners(route, winner));
            format!(
                "left join schoolbell__winner as r on {}",
                route.key_type.equal("r.schoolbell__key", WANTED)
            )
        }
    };
    let outer = outer(route, WANTED);
    sql + &format!("\nselect {outer}\nfrom schoolbell__wanted\n{found}\norder by {WANTED}")
}

/// Of each wanted key the row that speaks for it, in one read of the table where the key has no index. Where it has one
/// of some rows only, which may be the preferred ones, these are looked up first, and read are those of the other keys.
fn winners(route: &Route, winner: &Winner) -> String {
    let Winner { prefer, order } = winner;
    let key = key_of(route);
    let values = inner(route);
    let best = prefer.as_ref().map_or(String::new(), |prefer| format!("({prefer}) is true desc, "));
    let (preferred, rest_keys, all) = match prefer {
        Some(prefer) if route.key_is_partly_indexed => (
            format!(
                ",\nschoolbell__preferred as materialized (\nselect schoolbell__wanted.schoolbell__key, r.*\n\
                 from schoolbell__wanted\ncross join lateral (\n{}\norder by {order}\nlimit 1\n) as r\n)",
                row(route, &format!("\nand ({prefer})"))
            ),
            "select schoolbell__wanted.schoolbell__key from schoolbell__wanted\n\
             except select schoolbell__preferred.schoolbell__key from schoolbell__preferred",
            "select schoolbell__preferred.* from schoolbell__preferred\n\
             union all select schoolbell__rest.* from schoolbell__rest",
        ),
        _ => (
            String::new(),
            "select schoolbell__wanted.schoolbell__key from schoolbell__wanted",
            "select schoolbell__rest.* from schoolbell__rest",
        ),
    };
    let is_wanted = route.key_type.same_key(&key, "schoolbell__other.schoolbell__key");
    let filter = filter_where(route, &is_wanted);
    let source = &route.object.source;
    format!(
        "{preferred},\nschoolbell__rest as materialized (\nselect distinct on ({key}) {key} as schoolbell__key, {values}\n\
         from (\n{rest_keys}\n) as schoolbell__other (schoolbell__key)\njoin {source} as source on {is_wanted}{filter}\n\
         order by {key}, {best}{order}\n),\nschoolbell__winner as (\n{all}\n)"
    )
}

/// A stretch of source rows in some order, as SQL over `source`.
#[derive(Debug)]
pub struct Walk {
    /// Which rows.
    pub condition: String,
    /// In which order.
    pub order: String,
    /// What tells a row's place in that order.
    pub position: String,
    /// How many rows.
    pub limit: &'static str,
}

/// The column of a stretch that tells each row's place.
pub const POSITION: &str = "position";

/// The statement for a stretch of rows that are projected as they are read. None for an object with
/// a winner: a single row does not show whether it wins for its key.
pub fn stretch(route: &Route, walk: &Walk) -> Option<String> {
    if route.object.winner.is_some() {
        return None;
    }
    let values = format!("{},\n{}", inner(route), walk.position);
    Some(format!(
        "select {},\nr.{POSITION}\nfrom (\n{}\n) as r",
        outer(route, "r.key"),
        walked(route, walk, &values)
    ))
}

/// The statement for the keys of a stretch.
pub fn stretch_keys(route: &Route, walk: &Walk) -> String {
    let rows = walked(route, walk, &walk.position);
    format!("select r.key::pg_catalog.text as key, r.{POSITION}\nfrom (\n{rows}\n) as r")
}

fn walked(route: &Route, walk: &Walk, values: &str) -> String {
    let Walk { condition, order, limit, .. } = walk;
    format!(
        "select source.{} as key, {values} as {POSITION}\nfrom {} as source\nwhere {condition}\norder by {order}\n\
         limit {limit}",
        ident(&route.object.key),
        route.object.source
    )
}

/// The keys: those that are named, and those that changes of other tables touch, at most this many of each.
pub(crate) fn wanted(route: &Route, most_touched: Option<usize>) -> String {
    let key_type = &route.key_type;
    let limit = most_touched.map_or(String::new(), |most| format!(" limit {most}"));
    let named = format!("k.key::{key_type}");
    // `union` would take 'Ann' and 'ann' for one, so of a type that folds letters the texts are collected. Another table
    // may write a key otherwise than the row itself.
    let (cast, touched, own) = match key_type.folds() {
        false => ("", named.clone(), String::new()),
        true => {
            let key = key_of(route);
            let is_touched = key_type.equal(&key, &named);
            let own = format!(" left join {} as source on {is_touched}", route.object.source);
            ("::pg_catalog.text", format!("coalesce({key}, {named})"), own)
        }
    };
    let mut parts = vec![format!(
        "select {named}{cast} from pg_catalog.unnest($1::pg_catalog.text[]) as k (key)"
    )];
    for touch in &route.touches {
        parts.push(format!(
            "(select distinct ({touched}){cast} from ({}) as k (key){own} where k.key is not null{limit})",
            touch.keys
        ));
    }
    let keys = parts.join("\nunion\n");
    match key_type.folds() {
        false => keys,
        true => format!("select k.key::{key_type} from (\n{keys}\n) as k (key)"),
    }
}

/// The source row of one wanted key.
fn row(route: &Route, condition: &str) -> String {
    let is_wanted = route.key_type.same_key(&key_of(route), WANTED);
    format!(
        "select {}\nfrom {} as source\nwhere {is_wanted}{}{condition}",
        inner(route),
        route.object.source,
        filter_where(route, &is_wanted)
    )
}

fn key_of(route: &Route) -> String {
    format!("source.{}", ident(&route.object.key))
}

/// The filter where all rows are read.
pub(crate) fn filter(object: &Object) -> String {
    match &object.filter {
        Some(filter) => format!("\nand ({filter})"),
        None => String::new(),
    }
}

/// The filter, evaluated for the wanted rows alone. Otherwise the planner could evaluate it first,
/// for other rows, and an error in one of those would fail the whole statement.
pub(crate) fn filter_where(route: &Route, is_wanted: &str) -> String {
    match &route.object.filter {
        Some(filter) => format!("\nand case when {is_wanted} then ({filter}) end"),
        None => String::new(),
    }
}

/// The values as the mapping names them, trimmed and in whole seconds. [`outer`] brings them into
/// Salesforce's form: values that it uses twice are computed here once.
pub(crate) fn inner(route: &Route) -> String {
    let mut list = vec!["true as schoolbell__present".to_string()];
    for (index, column) in route.columns.iter().enumerate() {
        let value = column.field.value.sql();
        list.push(match column.form {
            Form::Text(_) => format!("{} as schoolbell__f{index}", trimmed(&value)),
            Form::Time => {
                format!(
                    "pg_catalog.date_trunc('second', {value}::{}) as schoolbell__f{index}",
                    column.sql_type
                )
            }
            Form::Plain => format!("{value}::{} as schoolbell__f{index}", column.sql_type),
        });
    }
    for (index, parent) in route.parents.iter().enumerate() {
        let key = parent.key.sql();
        // As it is written: a field that refers to a parent is trimmed like any other.
        let key = match parent.sql_type.is_text() {
            true => null_if_empty(&trimmed(&key)),
            false => format!("{key}::pg_catalog.text"),
        };
        list.push(format!("{key} as schoolbell__p{index}"));
    }
    list.join(",\n")
}

/// When a row was changed last, by a column of the application's: a time or a day. Null where no calendar has it.
pub fn changed_at(column: &str) -> String {
    let value = format!("source.{}", ident(column));
    format!(
        "case when {value} operator(pg_catalog.>=) '0001-01-01' and {value} operator(pg_catalog.<) '9999-12-31' \
         then {value}::pg_catalog.timestamptz end"
    )
}

/// The result, typed like the target's columns, so that values pass through in their binary form.
pub(crate) fn outer(route: &Route, key: &str) -> String {
    let mut list = vec![
        format!("{key}::pg_catalog.text as key"),
        "r.schoolbell__present as present".to_string(),
        format!("{key}::pg_catalog.text::{} as external_id", route.external_id_type),
    ];
    for (index, column) in route.columns.iter().enumerate() {
        list.push(format!(
            "({})::{} as f{index}",
            cut(column, &format!("r.schoolbell__f{index}"), route.ellipsis()),
            column.sql_type
        ));
    }
    for (index, parent) in route.parents.iter().enumerate() {
        list.push(format!("r.schoolbell__p{index}::{} as p{index}", parent.sql_type));
    }
    list.join(",\n")
}

/// Without the white space at its ends. Empty text is still text.
pub(crate) fn trimmed(value: &str) -> String {
    format!("pg_catalog.btrim({value}::pg_catalog.text, {WHITE_SPACE})")
}

/// Empty text is null. Text that is too long ends with an ellipsis and just fits, so that a reader sees that it continues.
fn cut(column: &RouteColumn, value: &str, ellipsis: &str) -> String {
    match column.form {
        Form::Text(Some(max)) => {
            let room = usize::try_from(max).unwrap_or_default();
            let end: String = ellipsis.chars().take(room).collect();
            let kept = room - end.chars().count();
            format!(
                "case when pg_catalog.char_length({value}) operator(pg_catalog.>) {max} then \
             pg_catalog.left({value}, {kept}) operator(pg_catalog.||) '{end}' when {value} operator(pg_catalog.<>) '' then \
                 {value} end"
            )
        }
        Form::Text(None) => null_if_empty(value),
        Form::Time | Form::Plain => value.to_string(),
    }
}

/// The form in which a target value is compared: what Salesforce would have made of it.
pub fn comparable(column: &RouteColumn, value: &str) -> String {
    match column.form {
        Form::Text(_) => null_if_empty(&trimmed(value)),
        Form::Time => format!("pg_catalog.date_trunc('second', {value})"),
        Form::Plain => value.to_string(),
    }
}

/// Of an encrypted field: a condition that a target value meets unless Salesforce has masked it, which leaves nothing but
/// asterisks of it. A masked value is never a difference.
pub fn is_clear(column: &RouteColumn, value: &str) -> Option<String> {
    let clear = || {
        let trimmed = trimmed(value);
        // Nothing at all is clear, too.
        format!(
            "(pg_catalog.btrim({trimmed}, '*') operator(pg_catalog.<>) '' or {trimmed} operator(pg_catalog.=) '' \
             or {value} is null)"
        )
    };
    column.field.encrypted.then(clear)
}

/// The same of a target value that was read: whether it is masked.
pub fn is_masked(column: &RouteColumn, value: Option<&str>) -> bool {
    let asterisks = |value: &str| {
        let value = value.trim_matches(|character: char| character.is_ascii_whitespace());
        !value.is_empty() && value.bytes().all(|byte| byte == b'*')
    };
    column.field.encrypted && value.is_some_and(asterisks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_hold_everything_once() {
        let texts =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_string()).collect::<Vec<_>>();
        let wanted =
            Wanted { keys: texts(&["1", "2"]), touches: vec![texts(&["a"]), texts(&["b", "c"])] };

        let [second, first] = wanted.halves();

        assert_eq!((first.keys, first.touches), (texts(&["1", "2"]), vec![vec![], vec![]]));
        assert_eq!(
            (second.keys, second.touches),
            (vec![], vec![texts(&["a"]), texts(&["b", "c"])])
        );
    }
}
