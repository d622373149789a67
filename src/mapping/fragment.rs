//! Whether a piece of SQL in a mapping stays within the place that it is put into.
//!
//! Promise: a piece without a flaw cannot end the parentheses around it, nor swallow what follows
//! it. Whether it is valid SQL only Postgres can say; a mapping is code, and what that code does is
//! not judged here.
//!
//! Strings, quoted names and comments are read as Postgres reads them where `standard_conforming_strings` is on, which
//! each of our sessions sees to (`src/scan.l` in PostgreSQL's sources has the rules).

use std::iter::Peekable;
use std::str::CharIndices;

/// Words that would end a list of expressions to sort by, and begin another part of the query.
const AFTER_AN_ORDER: [&str; 9] =
    ["limit", "offset", "fetch", "for", "union", "intersect", "except", "window", "into"];

/// What is wrong with an expression, or with a query, that is put between parentheses.
pub(super) fn flaw(sql: &str) -> Option<String> {
    Scanner::new(sql).scan(|_| None).or_else(|| reserved(sql))
}

/// The same of a list of expressions to sort by, which is followed by other parts of its query.
pub(super) fn flaw_of_order(sql: &str) -> Option<String> {
    let flaw = Scanner::new(sql).scan(|word| {
        let ends = AFTER_AN_ORDER.iter().any(|end| end.eq_ignore_ascii_case(word));
        ends.then(|| format!("has the word {word}, which ends the list of what to sort by"))
    });
    flaw.or_else(|| reserved(sql))
}

/// In a statement of ours it would mean something else.
fn reserved(sql: &str) -> Option<String> {
    let found = sql.to_ascii_lowercase().contains(RESERVED);
    found.then(|| {
        format!("has a name with {RESERVED}, which is reserved for statements of Schoolbell")
    })
}

/// How names of ours begin that a mapping's SQL could meet in our statements: those of common tables, and those of
/// columns, which `order by` prefers to the columns of a table.
const RESERVED: &str = "schoolbell__";

struct Scanner<'s> {
    sql: &'s str,
    rest: Peekable<CharIndices<'s>>,
    /// The opening brackets that are not closed yet.
    open: Vec<char>,
}

impl<'s> Scanner<'s> {
    fn new(sql: &'s str) -> Self {
        Self { sql, rest: sql.char_indices().peekable(), open: Vec::new() }
    }

    /// `forbidden` says what is wrong with a word outside all brackets.
    fn scan(mut self, forbidden: impl Fn(&str) -> Option<String>) -> Option<String> {
        while let Some((start, character)) = self.rest.next() {
            let next = self.rest.peek().map(|(_, next)| *next);
            let flaw = match (character, next) {
                ('\0', _) => Some("holds a NUL character".to_string()),
                (';', _) => Some("has a ; although it is a part of a statement".into()),
                ('-', Some('-')) => self.line_comment(),
                ('/', Some('*')) => self.block_comment(),
                ('\'', _) => self.quoted('\'', false),
                ('"', _) => self.quoted('"', false),
                ('$', _) => self.dollar(start),
                ('(' | '[', _) => {
                    self.open.push(character);
                    None
                }
                (')' | ']', _) => self.close(character),
                _ if is_word_start(character) => self.word(start, &forbidden),
                _ => None,
            };
            if flaw.is_some() {
                return flaw;
            }
        }
        self.open.last().map(|open| format!("does not close its {open}"))
    }

    fn close(&mut self, character: char) -> Option<String> {
        let opening = if character == ')' { '(' } else { '[' };
        match self.open.pop() {
            Some(open) if open == opening => None,
            _ => Some(format!("has a {character} that nothing opens")),
        }
    }

    fn line_comment(&mut self) -> Option<String> {
        match self.rest.by_ref().any(|(_, character)| matches!(character, '\n' | '\r')) {
            true => None,
            false => Some("ends in a comment, which would swallow what follows".into()),
        }
    }

    /// They may be nested.
    fn block_comment(&mut self) -> Option<String> {
        self.rest.next();
        let mut depth = 1;
        while let Some((_, character)) = self.rest.next() {
            match (character, self.rest.peek().map(|(_, next)| *next)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => continue,
            }
            self.rest.next();
            if depth == 0 {
                return None;
            }
        }
        Some("does not end its comment".into())
    }

    fn quoted(&mut self, quote: char, escapes: bool) -> Option<String> {
        while let Some((_, character)) = self.rest.next() {
            if escapes && character == '\\' {
                self.rest.next();
            } else if character == quote && self.rest.next_if(|(_, next)| *next == quote).is_none()
            {
                return None;
            }
        }
        Some(format!("does not close its {quote}"))
    }

    /// After a line break a string continues, and a backslash still means something there.
    fn continued(&mut self) -> Option<String> {
        let at = self.rest.peek().map_or(self.sql.len(), |(place, _)| *place);
        let mut after = self.sql[at..].trim_start();
        while let Some(comment) = after.strip_prefix("--") {
            after = comment.split_once(['\n', '\r']).map_or("", |(_, after)| after).trim_start();
        }
        after
            .starts_with('\'')
            .then(|| "continues an E'…' string on another line; write it as one string".into())
    }

    /// A string between dollars, or a parameter, which only our own part of a statement may have.
    fn dollar(&mut self, start: usize) -> Option<String> {
        let after = &self.sql[start + 1..];
        if after.starts_with(|character: char| character.is_ascii_digit()) {
            return Some("has a parameter ($1), and there is no value for it".into());
        }
        let tag = after.split('$').next().filter(|tag| after.len() > tag.len())?;
        if !tag.chars().all(is_word_part) {
            return None;
        }
        let delimiter = format!("${tag}$");
        let body = start + delimiter.len();
        let Some(length) = self.sql[body..].find(&delimiter) else {
            return Some(format!("does not close its {delimiter}"));
        };
        let end = body + length + delimiter.len();
        while self.rest.next_if(|(place, _)| *place < end).is_some() {}
        None
    }

    fn word(&mut self, start: usize, forbidden: impl Fn(&str) -> Option<String>) -> Option<String> {
        while self.rest.next_if(|(_, next)| is_word_part(*next)).is_some() {}
        let end = self.rest.peek().map_or(self.sql.len(), |(place, _)| *place);
        let word = &self.sql[start..end];
        // E'…' is the one kind of string in which a backslash means something.
        if word.eq_ignore_ascii_case("e") && self.rest.next_if(|(_, next)| *next == '\'').is_some()
        {
            return self.quoted('\'', true).or_else(|| self.continued());
        }
        match self.open.is_empty() {
            true => forbidden(word),
            false => None,
        }
    }
}

fn is_word_start(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_' || !character.is_ascii()
}

fn is_word_part(character: char) -> bool {
    is_word_start(character) || character.is_ascii_digit() || character == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_in_its_place_has_no_flaw() {
        for sql in [
            "source.name",
            "coalesce(a, (select max(b[1]) from t)) || ')'",
            "'it''s ) -- no comment' || \"a \"\" ) name\"",
            "E'a\\') still inside' || e'\\\\' || 'a\\'",
            "E'it''s \\' ) still inside'",
            "$$ ) $$ || $tag$ ) $$ $tag$ || a$b$c",
            "1 -- )\n + 2",
            "1 /* ) /* nested ) */ ' */ + 2",
            "U&'\\0029' || N')' || B'1' || X'1F'",
            "a - -b / c * d",
            "naïve || $ü$ ) $ü$",
            "",
        ] {
            assert_eq!(flaw(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_would_leave_its_place_is_found() {
        for (sql, told) in [
            ("1) from schools; drop table schools; --", "has a ) that nothing opens"),
            ("name from schools limit 0)), pg_sleep(9), ((select 1", "has a ) that nothing opens"),
            ("(1", "does not close its ("),
            ("array[1)", "has a ) that nothing opens"),
            ("array[1", "does not close its ["),
            ("1; select 2", "has a ; although it is a part of a statement"),
            ("1 -- the rest", "ends in a comment, which would swallow what follows"),
            ("1 /* /* */", "does not end its comment"),
            ("'open", "does not close its '"),
            ("e'a\\'", "does not close its '"),
            ("\"open", "does not close its \""),
            ("$x$ $$", "does not close its $x$"),
            (
                "E'a'\n'b\\'' ) '",
                "continues an E'…' string on another line; write it as one string",
            ),
            (
                "E'a'\n -- x\n'b\\'' ) '",
                "continues an E'…' string on another line; write it as one string",
            ),
            ("a = $1", "has a parameter ($1), and there is no value for it"),
            ("a\0", "holds a NUL character"),
            // Neither begins a string between dollars: what is between cannot be a tag, or it is within a word.
            ("$a b$ ) $a b$", "has a ) that nothing opens"),
            ("a1$b$ ) $b$", "has a ) that nothing opens"),
            // Not the prefix of a string with escapes, but the end of a word before a plain one.
            ("date'a\\') ", "has a ) that nothing opens"),
        ] {
            assert_eq!(flaw(sql).as_deref(), Some(told), "{sql}");
        }
    }

    #[test]
    fn an_order_does_not_go_on_with_another_part_of_the_query() {
        assert_eq!(
            flaw_of_order("updated_at desc nulls last, (select 1 limit 1), \"limit\""),
            None
        );
        assert_eq!(flaw_of_order("limited, unions, t.for_all"), None);
        for order in [
            "id limit 0",
            "id LIMIT 1 -- \n",
            "id offset 1",
            "id fetch first row only",
            "id for update",
            "id union all select 1",
            "id intersect select 1",
            "id except select 1",
            "id window w as ()",
            "id into public.copy",
        ] {
            assert!(flaw_of_order(order).is_some(), "{order}");
        }
    }
}
