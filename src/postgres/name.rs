//! Names of tables and columns. Everything that is spliced into SQL passes through [`ident`] or [`literal`].

use std::fmt;

use crate::visible;

/// A schema-qualified table. Displayed as SQL, quoted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema, unquoted.
    pub schema: String,
    /// The table, unquoted.
    pub table: String,
}

impl TableName {
    /// Reads `table` or `schema.table`; a name without a schema is in `default_schema`.
    pub fn parse(text: &str, default_schema: &str) -> Self {
        match text.split_once('.') {
            Some((schema, table)) => Self { schema: schema.into(), table: table.into() },
            None => Self { schema: default_schema.into(), table: text.into() },
        }
    }

    /// The name as text for `regclass`, which reads no Unicode escapes.
    pub fn regclass(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    /// The name without quotes, for people, for notices and for the outbox: `public.schools`.
    pub fn plain(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", ident(&self.schema), ident(&self.table))
    }
}

/// An SQL identifier, always quoted, so reserved words, capitals and quotes need no special case.
///
/// SQL is also printed, for people to paste. So characters that a terminal would obey are written as their numbers.
pub fn ident(name: &str) -> String {
    if !name.contains(visible::is_hidden) {
        return quoted(name);
    }
    format!("U&{}", quoted(&numbered(&name.replace('\\', "\\\\"), "\\", visible::is_hidden)))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL string literal. Only for text that cannot be a parameter (DDL and trigger bodies).
pub fn literal(text: &str) -> String {
    literal_with(text, visible::is_hidden)
}

/// The same for a text of several lines, which stay lines.
pub fn literal_of_lines(text: &str) -> String {
    literal_with(text, |character| visible::is_hidden(character) && !"\n\t".contains(character))
}

fn literal_with(text: &str, is_numbered: fn(char) -> bool) -> String {
    let quoted = text.replace('\'', "''");
    // A backslash means itself only where standard_conforming_strings is on; E'' means the same everywhere.
    if quoted.contains('\\') || quoted.contains(is_numbered) {
        format!("E'{}'", numbered(&quoted.replace('\\', "\\\\"), "\\u", is_numbered))
    } else {
        format!("'{quoted}'")
    }
}

/// Each of these characters as four digits after this mark. None of them needs more.
fn numbered(text: &str, mark: &str, is_numbered: fn(char) -> bool) -> String {
    let number = |character: char| match is_numbered(character) {
        true => format!("{mark}{:04x}", u32::from(character)),
        false => character.to_string(),
    };
    text.chars().map(number).collect()
}

/// A short name for a text. FNV-1a, 64 bits: the same in every release, unlike the standard library's hasher.
pub fn fingerprint(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// A part of a name that is shorter than this is in too many others.
const SHORTEST_PART: usize = 4;

/// The known name that is closest to an unknown one, for messages.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = name.to_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&known.to_lowercase(), &folded);
    let known = known.into_iter().filter(|known| *known != name);
    let mut known: Vec<(usize, &str)> = known.map(|known| (distance(known), known)).collect();
    known.sort_unstable();
    // Further away than half its length it is another word, unless it is the same one and more.
    let near = |distance: usize| distance * 2 <= name.chars().count();
    let more = |known: &str| name.len() >= SHORTEST_PART && known.to_lowercase().contains(&folded);
    let nearest = known.first().filter(|(distance, _)| near(*distance));
    nearest.or_else(|| known.iter().find(|(_, known)| more(known))).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_inside_names_are_doubled() {
        assert_eq!(ident("a\"; drop table x; --"), "\"a\"\"; drop table x; --\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }

    #[test]
    fn what_a_terminal_would_obey_is_written_as_its_number() {
        assert_eq!(ident("a\x1b\"\\\u{202e}"), "U&\"a\\001b\"\"\\\\\\202e\"");
        assert_eq!(literal("a\x1b'\\\n\r"), "E'a\\u001b''\\\\\\u000a\\u000d'");
        assert_eq!(literal_of_lines("a\n\t\r\u{9b}"), "E'a\n\t\\u000d\\u009b'");
        assert_eq!(literal_of_lines("a\n"), "'a\n'");
        let table = TableName { schema: "s".into(), table: "t\x1b".into() };
        assert_eq!(table.regclass(), "\"s\".\"t\x1b\"");
    }

    #[test]
    fn the_nearest_name_is_one_that_may_have_been_meant() {
        let known = ["country_code", "name", "postal_code", "PostCode"];
        for (wrong, right) in [
            ("postcode", Some("PostCode")),
            ("country", Some("country_code")),
            ("nam", Some("name")),
            ("e", None),
            ("website", None),
        ] {
            assert_eq!(nearest(wrong, known), right, "{wrong}");
        }
        assert_eq!(nearest("name", []), None);
    }

    #[test]
    fn a_table_without_a_schema_is_in_the_default_one() {
        assert_eq!(TableName::parse("schools", "public").to_string(), "\"public\".\"schools\"");
        assert_eq!(TableName::parse("app.Order", "public").to_string(), "\"app\".\"Order\"");
    }
}
