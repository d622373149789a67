//! SQL with placeholders, and rendered SQL for a database administrator to read.

/// Replaces each placeholder once over the template, never inside what was put in.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        filled.push_str(before);
        match values.iter().find(|(name, _)| from.starts_with(name)) {
            Some((name, value)) => {
                filled.push_str(value);
                rest = &from[name.len()..];
            }
            None => {
                filled.push('{');
                rest = &from[1..];
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// A rendered statement, with what it is for. `sql/rendered` has those of the built-in mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedStatement {
    /// Letters, digits and `_`.
    pub name: String,
    /// What it is for, and what its parameters are.
    pub purpose: String,
    /// As it is sent.
    pub sql: String,
}

impl RenderedStatement {
    /// A statement.
    pub fn new(
        name: impl Into<String>,
        purpose: impl Into<String>,
        sql: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), purpose: purpose.into(), sql: sql.into() }
    }
}
