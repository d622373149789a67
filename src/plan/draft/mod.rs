//! A first mapping, drafted from both catalogues: similar columns are matched, all others are
//! listed in comments.
//!
//! Promise: the draft is a mapping that fits both databases, and every column of either side is in
//! it: as a field, or as a comment with its type and the closest names. Reads catalogues, no row.

use tokio_postgres::types::Oid;

use crate::mapping::HEROKU_CONNECT_COLUMNS;
use crate::plan;
use crate::postgres::catalogue::{self, Column, Table};
use crate::postgres::db::Session;
use crate::postgres::name::TableName;

mod likeness;
mod text;

use likeness::{Words, singular};

/// Where tables are looked for that are named without a schema.
const SCHEMAS: [&str; 2] = ["public", "salesforce"];
/// Types with a number below this one are built in.
const FIRST_USER_OID: Oid = 16_384;

/// Two tables that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePair {
    /// What the object should be called; none: like the source's table.
    pub object: Option<String>,
    /// The source's table.
    pub source: TableName,
    /// The mapped table.
    pub target: TableName,
}

/// Why a pair cannot be drafted from.
#[derive(Debug)]
pub enum Unreadable {
    /// A table is not there.
    Unknown(String),
    /// A catalogue could not be read.
    Database(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Unreadable {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl TablePair {
    /// Reads `[OBJECT:]SOURCE=TARGET`.
    pub fn parse(text: &str) -> Option<Self> {
        let (source, target) = text.split_once('=')?;
        let (object, source) = match source.split_once(':') {
            Some((object, source)) => (Some(object.to_string()), source),
            None => (None, source),
        };
        let named = !source.is_empty() && !target.is_empty() && object.as_deref() != Some("");
        named.then(|| Self {
            object,
            source: TableName::parse(source, SCHEMAS[0]),
            target: TableName::parse(target, SCHEMAS[1]),
        })
    }

    /// Looks both tables up.
    pub async fn read(self, source: &Session, target: &Session) -> Result<Tables, Unreadable> {
        Ok(Tables {
            source: read(source, &self.source, "source").await?,
            target: read(target, &self.target, "target").await?,
            object: self.object,
        })
    }
}

async fn read(session: &Session, name: &TableName, side: &str) -> Result<Table, Unreadable> {
    if let Some(table) = Table::read(session, name).await? {
        return Ok(table);
    }
    let hint = match catalogue::nearest_table(session, name).await? {
        Some(nearest) => format!("; did you mean {}?", nearest.plain()),
        None => String::new(),
    };
    let problem = format!("the {side} database has no table {}{hint}", name.plain());
    Err(Unreadable::Unknown(problem))
}

/// The tables of a pair.
#[derive(Debug, Clone)]
pub struct Tables {
    /// What the object should be called.
    pub object: Option<String>,
    /// The source's.
    pub source: Table,
    /// The target's.
    pub target: Table,
}

/// Those of the tables that Heroku Connect maps.
pub async fn mapped(
    target: &Session,
    tables: Vec<TableName>,
) -> Result<Vec<TableName>, tokio_postgres::Error> {
    let mut mapped = Vec::new();
    for name in tables {
        let table = Table::read(target, &name).await?;
        let is_mapped = ["sfid", "_hc_lastop"]
            .map(|column| table.as_ref().is_some_and(|table| table.column(column).is_some()));
        if is_mapped == [true, true] {
            mapped.push(name);
        }
    }
    Ok(mapped)
}

/// The tables that are called alike on both sides.
pub fn namesakes(sources: &[TableName], targets: &[TableName]) -> Vec<TablePair> {
    let alike = |source: &&TableName, target: &TableName| {
        likeness::base(&source.table) == likeness::base(&target.table)
    };
    let pairs = targets.iter().filter_map(|target| {
        let source = sources.iter().find(|source| alike(source, target))?;
        Some(TablePair { object: None, source: source.clone(), target: target.clone() })
    });
    pairs.collect()
}

/// An object as far as it can be guessed.
#[derive(Debug)]
struct Draft {
    name: String,
    tables: Tables,
    key: String,
    external_id: String,
    since: Option<String>,
    /// Target column and source column.
    fields: Vec<(String, String)>,
    parents: Vec<DraftParent>,
    /// Target columns without a partner, each with a remark.
    unmatched: Vec<Unmatched>,
}

#[derive(Debug)]
struct DraftParent {
    object: String,
    column: String,
}

/// A target column that found no partner.
#[derive(Debug)]
struct Unmatched {
    column: String,
    /// Source columns that come close, and could be taken as they are.
    candidates: Vec<String>,
    why: String,
}

/// Drafts a mapping of these tables, as the text of a file.
pub async fn mapping(
    source: &Session,
    pairs: Vec<Tables>,
) -> Result<String, tokio_postgres::Error> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut refused = Vec::new();
    for tables in pairs {
        let name = object_name(&tables, &drafts);
        match keys(&tables) {
            Ok((key, external_id)) => drafts.push(Draft {
                name,
                since: since(&tables.source),
                key,
                external_id,
                tables,
                fields: Vec::new(),
                parents: Vec::new(),
                unmatched: Vec::new(),
            }),
            Err(why) => refused.push(why),
        }
    }
    let keys: Vec<Known> = drafts.iter().map(Known::of).collect();
    for draft in &mut drafts {
        match_columns(source, draft, &keys).await?;
    }
    Ok(text::file(&drafts, &refused))
}

/// What a child must know of an object to refer to it.
struct Known {
    object: String,
    target: String,
    external_id: String,
    source: String,
    key_type: Oid,
}

impl Known {
    fn of(draft: &Draft) -> Self {
        let key = draft.tables.source.column(&draft.key);
        Self {
            object: draft.name.clone(),
            target: likeness::base(&draft.tables.target.name.table),
            external_id: draft.external_id.clone(),
            source: singular(&draft.tables.source.name.table.to_lowercase()),
            key_type: key.map_or(0, |key| key.type_oid),
        }
    }
}

fn object_name(tables: &Tables, drafts: &[Draft]) -> String {
    let taken = |name: &String| drafts.iter().any(|draft| draft.name == *name);
    let first = match &tables.object {
        Some(name) => name.clone(),
        None => singular(&tables.source.name.table),
    };
    if !taken(&first) {
        return first;
    }
    let second = likeness::base(&tables.target.name.table);
    let numbered = (2..).map(|number| format!("{first}_{number}"));
    std::iter::once(second).chain(numbered).find(|name| !taken(name)).unwrap_or(first)
}

/// The source's key and the target's external id, or why there is none.
fn keys(tables: &Tables) -> Result<(String, String), String> {
    let Tables { source, target, .. } = tables;
    let lacks = |what: &str| Err(format!("{}: {what}", source.name.plain()));
    if target.column("sfid").is_none() {
        return lacks(&format!("{} is no table that Heroku Connect maps", target.name.plain()));
    }
    if source.primary_key().is_empty() {
        return lacks("it has no primary key, which a resync needs for its order");
    }
    let mut unique: Vec<&Column> = source.columns.iter().filter(|column| column.unique).collect();
    let primary = source.primary_key();
    unique.sort_by_key(|column| !primary.iter().any(|key| key.name == column.name));
    let Some(first) = unique.first() else {
        return lacks("it has no column with a unique index of its own, which could be the key");
    };
    let words = Words::of(tables);
    let may_hold_keys = |column: &&Column| {
        !is_heroku_connects(column)
            && !column.name.contains("__r__")
            && column.type_oid < FIRST_USER_OID
            && (column.category == 'S' || column.category == 'N' || column.type_name == "uuid")
    };
    let mut ids: Vec<&Column> = target.columns.iter().filter(may_hold_keys).collect();
    // Best a unique index, as Heroku Connect has on external ids; else what is called like one.
    let sounds = |column: &Column| {
        ["uuid", "external", "id"]
            .iter()
            .any(|word| words.without_table_name(&column.name).contains(word))
    };
    ids.retain(|column| column.unique || sounds(column));
    ids.sort_by_key(|column| (!column.unique, !sounds(column)));
    let Some(id) = ids.first() else {
        return lacks(&format!(
            "{} has no column with a unique index that could be the external id",
            target.name.plain()
        ));
    };
    let namesake = unique.iter().find(|column| words.alike(&column.name, &id.name));
    Ok((namesake.unwrap_or(first).name.clone(), id.name.clone()))
}

fn since(source: &Table) -> Option<String> {
    let named = ["updated_at", "modified_at", "changed_at", "updated_on"];
    let columns = named.iter().filter_map(|name| source.column(name));
    let is_time = |column: &&Column| column.type_name == "timestamp without time zone";
    columns.into_iter().find(is_time).map(|column| column.name.clone())
}

fn is_heroku_connects(column: &Column) -> bool {
    HEROKU_CONNECT_COLUMNS.contains(&column.name.as_str()) || column.name.starts_with("_hc_")
}

/// Finds each target column's partner.
async fn match_columns(
    source: &Session,
    draft: &mut Draft,
    known: &[Known],
) -> Result<(), tokio_postgres::Error> {
    let words = Words::of(&draft.tables);
    let Tables { source: from, target: to, .. } = &draft.tables;
    let ByName { mut matched, open, mut reasons, mut parents } = by_name(draft, &words, known);
    for place in clashing(source, &matched).await?.into_iter().rev() {
        let (column, partner) = matched.remove(place);
        parents.retain(|parent: &DraftParent| parent.column != partner.name);
        let why = format!(
            "{} is called alike, but is {}: convert it with {{ sql = … }}",
            partner.name, partner.type_name
        );
        reasons.push((column, why));
    }
    let taken: Vec<&str> = matched.iter().map(|(_, from)| from.name.as_str()).collect();
    let mut unmatched = Vec::new();
    for column in open {
        let free = from.columns.iter().filter(|other| !taken.contains(&other.name.as_str()));
        let near = words.nearest(&column.name, free);
        unmatched.push(suggested(source, from, column, &near).await?);
    }
    unmatched.extend(reasons.into_iter().map(|(column, why)| Unmatched {
        column: column.name.clone(),
        candidates: Vec::new(),
        why,
    }));
    unmatched.sort_by_key(|unmatched| {
        to.columns.iter().position(|column| column.name == unmatched.column)
    });
    let fields = matched.iter().map(|(to, from)| (to.name.clone(), from.name.clone())).collect();
    draft.parents.extend(parents);
    draft.unmatched.extend(unmatched);
    draft.fields = fields;
    Ok(())
}

/// Target columns, by what their names alone tell.
struct ByName<'a> {
    /// With the source column that is called alike.
    matched: Vec<(&'a Column, &'a Column)>,
    /// Nothing is called alike.
    open: Vec<&'a Column>,
    /// Why they have no partner.
    reasons: Vec<(&'a Column, String)>,
    parents: Vec<DraftParent>,
}

fn by_name<'a>(draft: &'a Draft, words: &Words, known: &[Known]) -> ByName<'a> {
    let Tables { source: from, target: to, .. } = &draft.tables;
    let wanted = to
        .columns
        .iter()
        .filter(|column| !is_heroku_connects(column) && column.name != draft.external_id);
    let mut named = ByName { matched: vec![], open: vec![], reasons: vec![], parents: vec![] };
    let mut taken: Vec<&str> = vec![&draft.key];
    for column in wanted {
        if column.name.contains("__r__") {
            match reference(column, from, known, &taken) {
                Ok((object, partner)) => {
                    taken.push(&partner.name);
                    named.matched.push((column, partner));
                    named.parents.push(DraftParent { object, column: partner.name.clone() });
                }
                Err(why) => named.reasons.push((column, why)),
            }
            continue;
        }
        let alike = from.columns.iter().find(|other| words.alike(&other.name, &column.name));
        match alike {
            _ if column.type_oid >= FIRST_USER_OID => {
                let why = format!("{} is no built-in type", column.type_name);
                named.reasons.push((column, why));
            }
            Some(partner) => named.matched.push((column, partner)),
            None => named.open.push(column),
        }
    }
    named
}

/// The places of those pairs whose types do not fit. Everything can be written as text.
async fn clashing(
    source: &Session,
    matched: &[(&Column, &Column)],
) -> Result<Vec<usize>, tokio_postgres::Error> {
    let typed = matched.iter().enumerate().filter(|(_, (to, _))| to.category != 'S');
    let (places, types): (Vec<usize>, Vec<(Oid, Oid)>) =
        typed.map(|(place, (to, from))| (place, (from.type_oid, to.type_oid))).unzip();
    let clashes = plan::not_assignable(source, &types).await?;
    let mut clashes: Vec<usize> = clashes.into_iter().map(|clash| places[clash]).collect();
    clashes.sort_unstable();
    Ok(clashes)
}

/// A target column without a partner, and which source columns it may be.
async fn suggested(
    source: &Session,
    from: &Table,
    column: &Column,
    near: &[&Column],
) -> Result<Unmatched, tokio_postgres::Error> {
    let pairs: Vec<(&Column, &Column)> = near.iter().map(|other| (column, *other)).collect();
    let clashes = clashing(source, &pairs).await?;
    let fitting = (0..near.len()).filter(|place| !clashes.contains(place));
    let candidates = fitting.map(|place| near[place].name.clone()).collect();
    let others: Vec<String> = clashes
        .iter()
        .map(|place| format!("{} is {}", near[*place].name, near[*place].type_name))
        .collect();
    let why = match (near.is_empty(), others.is_empty()) {
        (true, _) => format!("nothing in {} has a similar name", from.name.plain()),
        (false, true) => String::new(),
        (false, false) => format!("types clash: {}", others.join(", ")),
    };
    Ok(Unmatched { column: column.name.clone(), candidates, why })
}

/// The object that a relationship column refers to, and the source column with that object's key.
fn reference<'a>(
    column: &Column,
    from: &'a Table,
    known: &[Known],
    taken: &[&str],
) -> Result<(String, &'a Column), String> {
    let (lookup, id) = column.name.split_once("__r__").unwrap_or((&column.name, ""));
    let lookup = likeness::base(lookup);
    let mut parents: Vec<&Known> = known.iter().filter(|known| known.external_id == id).collect();
    parents.sort_by_key(|known| known.target != lookup);
    let Some(parent) = parents.first() else {
        return Err(format!(
            "refers to {lookup} by {id}, which is the external id of no object here; draft that one, too"
        ));
    };
    let names = [&parent.object, &parent.source, &lookup, &parent.target];
    let called = |column: &&&Column| {
        names
            .iter()
            .any(|name| likeness::plain(&column.name) == likeness::plain(&format!("{name}_id")))
    };
    let fitting: Vec<&Column> = from
        .columns
        .iter()
        .filter(|column| {
            column.type_oid == parent.key_type && !taken.contains(&column.name.as_str())
        })
        .collect();
    match fitting.iter().find(called) {
        Some(partner) => Ok((parent.object.clone(), partner)),
        None => {
            let names: Vec<&str> = fitting.iter().map(|column| column.name.as_str()).collect();
            let of_its_type = match names.is_empty() {
                true => "no column has the type of its key".to_string(),
                false => format!("of its key's type: {}", names.join(", ")),
            };
            Err(format!(
                "refers to object {}, but no column is called {}_id; {of_its_type}",
                parent.object, parent.object
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_read_with_and_without_schemas_and_a_name() {
        let pair = TablePair::parse("pupil:app.kids=Kid__c").unwrap();
        assert_eq!(pair.object.as_deref(), Some("pupil"));
        assert_eq!(
            (pair.source.plain(), pair.target.plain()),
            ("app.kids".into(), "salesforce.Kid__c".into())
        );
        assert_eq!(TablePair::parse("a=b").unwrap().object, None);
        for wrong in ["", "a", "=b", "a=", ":a=b", "x:=b"] {
            assert_eq!(TablePair::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tables_that_are_called_alike_are_found() {
        let table = |schema: &str, name: &str| TableName::parse(name, schema);
        let sources = ["people", "loans", "library_cards"].map(|name| table("public", name));
        let targets =
            ["Loan__c", "librarycard__c", "contact"].map(|name| table("salesforce", name));
        let pairs: Vec<String> = namesakes(&sources, &targets)
            .iter()
            .map(|pair| format!("{}={}", pair.source.table, pair.target.table))
            .collect();
        assert_eq!(pairs, ["loans=Loan__c", "library_cards=librarycard__c"]);
    }
}
