//! What is wrong with a mapping: one form for findings of the file and of a database.

use std::fmt;

use serde::Serialize;

use super::{Field, Object};

/// One thing that is wrong with a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where it is in the file; none: it is about the file as a whole.
    pub line: Option<usize>,
    /// The character of the line, where the file cannot be read from there on.
    pub column: Option<usize>,
    /// The object, when it is about one.
    pub object: Option<String>,
    /// The field or setting, when it is about one.
    pub field: Option<String>,
    /// What is wrong and what would be right.
    pub problem: String,
    /// The right name that is closest to the wrong one.
    pub nearest: Option<String>,
}

impl Finding {
    /// A finding about the file as a whole.
    pub fn file(problem: impl Into<String>) -> Self {
        Self {
            line: None,
            column: None,
            object: None,
            field: None,
            problem: problem.into(),
            nearest: None,
        }
    }

    /// A finding about a setting of an object, with the line of that setting.
    pub fn of(object: &Object, setting: &str, problem: impl Into<String>) -> Self {
        Self {
            line: Some(object.line_of(setting)),
            object: Some(object.name.clone()),
            field: Some(setting.into()),
            ..Self::file(problem)
        }
    }

    /// A finding about a field of an object.
    pub fn field(object: &Object, field: &Field, problem: impl Into<String>) -> Self {
        Self::of(object, &field.column, problem).at(field.line)
    }

    /// The same at another line.
    #[must_use]
    pub fn at(self, line: usize) -> Self {
        Self { line: Some(line), ..self }
    }

    /// The same with the name that was probably meant.
    #[must_use]
    pub fn or(self, nearest: Option<&str>) -> Self {
        Self { nearest: nearest.map(str::to_string), ..self }
    }

    /// As a line that begins with the place in the file, as editors and compilers write it.
    pub fn in_file(&self, file: &str) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let column = self.column.map(|column| format!(":{column}")).unwrap_or_default();
        format!("{file}{line}{column}: {self}")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "object {object}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.problem)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

/// A mapping that cannot be used, with everything that is wrong with it.
#[derive(Debug)]
pub struct Unusable {
    /// The file it came from.
    pub file: String,
    /// Never empty; in the order of the file.
    pub findings: Vec<Finding>,
}

impl Unusable {
    /// Puts the findings into the order of the file.
    pub fn new(file: &str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| (finding.line, finding.column));
        Self { file: file.into(), findings }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> =
            self.findings.iter().map(|finding| finding.in_file(&self.file)).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Unusable {}
