//! When two names mean the same: `district_name` and `DistrictName__c`, `reference` and `editorreference__c`.

use super::Tables;
use crate::postgres::catalogue::Column;

/// Names with less similarity than this are no candidates.
const ALIKE: f64 = 0.6;
/// Shorter names are in too many others.
const SHORTEST_PART: usize = 4;
/// More candidates do not help.
const CANDIDATES: usize = 2;

/// Without capitals, underscores, and the `__c` of a custom field.
pub(super) fn plain(name: &str) -> String {
    let name = name.to_lowercase();
    let name = name.strip_suffix("__c").unwrap_or(&name);
    name.chars().filter(|character| character.is_alphanumeric()).collect()
}

/// What one row of a target table is called.
pub(super) fn base(table: &str) -> String {
    let table = table.to_lowercase();
    singular(&plain(&table))
}

/// The name of one of many, as Rails would have it in most cases.
pub(super) fn singular(name: &str) -> String {
    match name {
        "people" => "person".into(),
        "children" => "child".into(),
        _ if name.ends_with("ies") => format!("{}y", &name[..name.len() - 3]),
        _ if ["sses", "shes", "ches", "xes"].iter().any(|end| name.ends_with(end)) => {
            name[..name.len() - 2].into()
        }
        _ if name.ends_with('s') && !name.ends_with("ss") && !name.ends_with("us") => {
            name[..name.len() - 1].into()
        }
        _ => name.into(),
    }
}

/// The names of a pair's columns, of which some begin with what the tables are called.
pub(super) struct Words {
    prefixes: Vec<String>,
}

impl Words {
    pub(super) fn of(tables: &Tables) -> Self {
        let source = plain(&singular(&tables.source.name.table.to_lowercase()));
        let target = base(&tables.target.name.table);
        let object = tables.object.as_deref().map(plain);
        let prefixes = [Some(source), Some(target), object].into_iter().flatten();
        Self { prefixes: prefixes.filter(|prefix| !prefix.is_empty()).collect() }
    }

    /// The plain name, without what the table is called.
    pub(super) fn without_table_name(&self, name: &str) -> String {
        let name = plain(name);
        let rest = self.prefixes.iter().filter_map(|prefix| name.strip_prefix(prefix.as_str()));
        rest.filter(|rest| !rest.is_empty()).max_by_key(|rest| rest.len()).unwrap_or(&name).into()
    }

    pub(super) fn alike(&self, source: &str, target: &str) -> bool {
        plain(source) == plain(target)
            || self.without_table_name(source) == self.without_table_name(target)
    }

    /// The columns with the names that come closest, the closest first.
    pub(super) fn nearest<'a>(
        &self,
        target: &str,
        columns: impl Iterator<Item = &'a Column>,
    ) -> Vec<&'a Column> {
        let target = self.without_table_name(target);
        let mut near: Vec<(f64, &Column)> = columns
            .map(|column| (likeness(&self.without_table_name(&column.name), &target), column))
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .collect();
        near.sort_by(|one, other| other.0.total_cmp(&one.0));
        near.into_iter().take(CANDIDATES).map(|(_, column)| column).collect()
    }
}

fn likeness(one: &str, other: &str) -> f64 {
    let part = |one: &str, other: &str| one.len() >= SHORTEST_PART && other.contains(one);
    let part = if part(one, other) || part(other, one) { ALIKE } else { 0.0 };
    strsim::normalized_damerau_levenshtein(one, other).max(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many() {
        for (many, one) in [
            ("schools", "school"),
            ("entries", "entry"),
            ("addresses", "address"),
            ("class", "class"),
            ("status", "status"),
            ("people", "person"),
        ] {
            assert_eq!(singular(many), one);
        }
    }

    #[test]
    fn names_are_plain_whatever_their_capitals_underscores_and_ends() {
        assert_eq!(plain("AddressLine1__c"), plain("address_line_1"));
        assert_eq!(plain("c"), "c");
        assert_eq!(base("LibraryCards__c"), "librarycard");
    }
}
