//! Types and operators with their schema, for statements whose search path others can control.
//!
//! Promise: what is built from these means the same on every search path. An operator without a
//! schema is taken from the schema of the path whose operator fits the arguments best, and an
//! attacker may have created that one.

use std::fmt;

/// Where Postgres keeps its own.
const BUILT_IN: &str = "pg_catalog";

/// A type as statements name it, and where its operators are. Displayed as SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlType {
    /// With its schema, quoted, and without its length: a cast to `varchar(80)` would cut silently, and `character`
    /// alone means a single one.
    pub(crate) name: String,
    /// The schema, quoted, of the operators that an index on the type uses.
    pub(crate) operators: String,
    /// The column's own type is a domain over it, so a column's value is cast to it to be compared.
    pub(crate) is_domain: bool,
    /// Its values are texts, in which capitals and blanks count.
    pub(crate) is_text: bool,
    /// Texts that the database takes for equal may differ: citext, or a collation that ignores the case.
    pub(crate) folds: bool,
}

impl SqlType {
    /// The type of a key whose letters count as they are written.
    #[must_use]
    pub fn as_written(self) -> Self {
        Self { folds: true, ..self }
    }

    /// Whether texts that are written differently may be equal: citext, or a nondeterministic collation.
    pub fn folds(&self) -> bool {
        self.folds
    }

    /// Whether its values are texts, in which capitals and blanks count.
    pub fn is_text(&self) -> bool {
        self.is_text
    }

    /// A value as it is compared.
    fn compared(&self, value: &str) -> String {
        match self.is_domain {
            true => format!("({value})::{self}"),
            false => value.to_string(),
        }
    }

    /// An operator that compares values of the type.
    fn operator(&self, symbol: &str) -> String {
        format!("operator({}.{symbol})", self.operators)
    }

    /// Whether two values of the type are equal.
    pub fn equal(&self, left: &str, right: &str) -> String {
        let (left, right) = (self.compared(left), self.compared(right));
        format!("{left} {} {right}", self.operator("="))
    }

    /// The same, in a form that leaves the planner one way to join a table with an index on `left`:
    /// row by row, through it. Other joins need an equality, and would read the whole table where
    /// the planner believes that it is small.
    pub fn equal_through_index(&self, left: &str, right: &str) -> String {
        let (left, right) = (self.compared(left), self.compared(right));
        let (least, most) = (self.operator(">="), self.operator("<="));
        format!("{left} {least} {right} and {left} {most} {right}")
    }

    /// Whether two keys are the same. Letters count as they are written, because they do in the target: a key that is
    /// `ann` now and was `Ann` is another one.
    pub fn same_key(&self, left: &str, right: &str) -> String {
        let equal = self.equal(left, right);
        match self.folds {
            true => format!("{equal} and {}", identical(left, right)),
            false => equal,
        }
    }

    /// Whether a value is among those of an array.
    pub fn equal_any(&self, left: &str, values: &str) -> String {
        format!("{} {} any ({values})", self.compared(left), self.operator("="))
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Whether two values of a built-in type are equal.
pub fn equal(left: &str, right: &str) -> String {
    format!("{left} operator({BUILT_IN}.=) {right}")
}

/// Whether two texts consist of the same characters, whatever their type and collation say.
fn identical(left: &str, right: &str) -> String {
    let bytes = |text: &str| format!("({text})::{BUILT_IN}.text collate {BUILT_IN}.\"C\"");
    equal(&bytes(left), &bytes(right))
}

/// What `is distinct from` says of two values of a built-in type: its operator would be looked for on the search path.
pub fn differ(left: &str, right: &str) -> String {
    format!(
        "coalesce({left} operator({BUILT_IN}.<>) {right}, ({left} is null) operator({BUILT_IN}.<>) ({right} is null))"
    )
}

/// What `nullif(text, '')` says, for the same reason.
pub fn null_if_empty(text: &str) -> String {
    format!("case when {text} operator({BUILT_IN}.<>) '' then {text} end")
}

/// A condition: the row of values comes after another in the order of these types.
pub fn after(types: &[&SqlType], left: &[String], right: &[String]) -> String {
    let compared = |values: &[String]| -> Vec<String> {
        types.iter().zip(values).map(|(sql_type, value)| sql_type.compared(value)).collect()
    };
    let (left, right) = (compared(left), compared(right));
    let (left_row, right_row) = (left.join(", "), right.join(", "));
    match types {
        [first, rest @ ..] if rest.iter().all(|other| other.operators == first.operators) => {
            // A row that is compared as a whole is found through an index on its columns.
            format!("({left_row}) {} ({right_row})", first.operator(">"))
        }
        _ => {
            let alternatives = (0..types.len()).map(|place| {
                let same =
                    (0..place).map(|before| types[before].equal(&left[before], &right[before]));
                let greater =
                    format!("{} {} {}", left[place], types[place].operator(">"), right[place]);
                format!("({})", same.chain([greater]).collect::<Vec<_>>().join(" and "))
            });
            format!("({})", alternatives.collect::<Vec<_>>().join(" or "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, schema: &str) -> SqlType {
        SqlType {
            name: format!("{schema}.{name}"),
            operators: schema.into(),
            is_domain: false,
            is_text: false,
            folds: false,
        }
    }

    #[test]
    fn rows_are_compared_as_a_whole_unless_their_operators_are_in_different_schemas() {
        let (uuid, int, citext) =
            (of("uuid", "pg_catalog"), of("int8", "pg_catalog"), of("citext", "public"));
        let (left, right) = (["a".to_string(), "b".into()], ["$1".to_string(), "$2".into()]);

        let whole = after(&[&uuid, &int], &left, &right);
        assert_eq!(whole, "(a, b) operator(pg_catalog.>) ($1, $2)");
        let mixed = after(&[&uuid, &citext], &left, &right);
        assert_eq!(
            mixed,
            "((a operator(pg_catalog.>) $1) or (a operator(pg_catalog.=) $1 and b operator(public.>) $2))"
        );
    }
}
