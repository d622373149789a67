//! Text from elsewhere, in a form that a terminal only shows.
//!
//! Keys, reasons, names and messages come from databases, files and variables. A terminal obeys some characters instead
//! of showing them: they clear the screen, set its title, or make a line look like another one. Here each of them
//! becomes its number. Promise: what comes out holds none of them; text without them comes out as it is.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// Whether a terminal or a reader is misled by this character: control characters (a newline is
/// one), the marks that turn the direction of text, the separators that some programs take for a
/// new line, and characters without width (except the joiners that some scripts need).
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// A text as an argument of a command that is shown to be pasted: a shell takes it as it is.
pub fn argument(text: &str) -> Cow<'_, str> {
    let is_plain =
        |character: char| character.is_alphanumeric() || "-_.:,@/+=%".contains(character);
    match !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

/// A value, or a line that values are part of: a newline inside is one of theirs, so it is written as `\n`.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden, |safe, character| match character {
        '\n' => safe.push_str("\\n"),
        '\r' => safe.push_str("\\r"),
        '\t' => safe.push_str("\\t"),
        // Writing into a string cannot fail.
        '\0'..='\x7f' => _ = write!(safe, "\\x{:02x}", u32::from(character)),
        _ => _ = write!(safe, "\\u{{{:x}}}", u32::from(character)),
    })
}

/// A text of several lines, as SQL is: its newlines and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    match text.contains(|character| is_hidden(character) && !is_layout(character)) {
        false => Cow::Borrowed(text),
        true => {
            let parts =
                text.split_inclusive(is_layout).map(|part| match part.strip_suffix(is_layout) {
                    Some(inner) => line(inner) + &part[inner.len()..],
                    None => line(part),
                });
            Cow::Owned(parts.collect())
        }
    }
}

/// Text in which `\u009b` means the character, as JSON and the strings of a TOML file have it: it stays the same value.
/// Newlines and tabs stay, of Windows' newline the second half.
pub fn unicode(text: &str) -> Cow<'_, str> {
    let text = match text.contains("\r\n") {
        true => Cow::Owned(text.replace("\r\n", "\n")),
        false => Cow::Borrowed(text),
    };
    if !text.contains(|character| is_hidden(character) && !is_layout(character)) {
        return text;
    }
    let hidden = |character| is_hidden(character) && !is_layout(character);
    let safe = escaped(&text, hidden, |safe, character| {
        // None of them needs more than four digits.
        _ = write!(safe, "\\u{:04x}", u32::from(character));
    });
    Cow::Owned(safe.into_owned())
}

/// Metrics as Prometheus reads them: hidden characters are in the values of labels, where a backslash is written as two.
pub fn metrics(text: &str) -> Cow<'_, str> {
    let hidden = |character| is_hidden(character) && !is_layout(character);
    escaped(text, hidden, |safe, character| {
        safe.push('\\');
        safe.push_str(&line(&character.to_string()));
    })
}

/// An error of several lines, each of which may hold values.
#[derive(Debug)]
pub struct Lines(pub Vec<String>);

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Lines {}

fn is_layout(character: char) -> bool {
    matches!(character, '\n' | '\t')
}

fn escaped(
    text: &str,
    hidden: impl Fn(char) -> bool,
    escape: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match hidden(character) {
            true => escape(&mut safe, character),
            false => safe.push(character),
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every character that is hidden, and those around them.
    fn all() -> impl Iterator<Item = char> {
        ('\0'..='\u{2100}').chain(['\u{feff}', 'é', '漢', '🔔'])
    }

    #[test]
    fn no_hidden_character_is_left_and_every_other_one_is() {
        for character in all() {
            let text = format!("a{character}b");
            for safe in [line(&text), lines(&text), unicode(&text), metrics(&text)] {
                assert!(!safe.contains(|left| is_hidden(left) && !is_layout(left)), "{safe:?}");
                assert_eq!(
                    *safe == text,
                    !is_hidden(character) || is_layout(character) && safe == text
                );
            }
            assert!(!line(&text).contains(is_hidden), "{text:?}");
        }
    }

    #[test]
    fn the_number_of_a_character_is_shown() {
        let text = "\x1b]0;t\x07\u{9b}2J\r\n\t\x7f\u{202e}\u{85}";
        assert_eq!(line(text), r"\x1b]0;t\x07\u{9b}2J\r\n\t\x7f\u{202e}\u{85}");
        assert_eq!(lines(text), "\\x1b]0;t\\x07\\u{9b}2J\\r\n\t\\x7f\\u{202e}\\u{85}");
        assert_eq!(line(r"a\x1b"), r"a\x1b");
    }

    #[test]
    fn json_and_toml_stay_what_they_are() {
        let value: String = all().collect();
        let json = serde_json::to_string(&value).expect("text fits into JSON");
        assert!(!unicode(&json).contains(is_hidden));
        assert_eq!(serde_json::from_str::<String>(&unicode(&json)).expect("JSON"), value);
        let toml = unicode("# \u{202e}\r\nfile = \"a\u{9b}b\"\r\n").into_owned();
        assert_eq!(toml, "# \\u202e\nfile = \"a\\u009bb\"\n");
        let table: toml::Table = toml.parse().expect("TOML");
        assert_eq!(table["file"].as_str(), Some("a\u{9b}b"));
    }

    #[test]
    fn an_argument_is_quoted_where_a_shell_would_read_it_otherwise() {
        assert_eq!(argument("31c8-4001:a"), "31c8-4001:a");
        assert_eq!(argument("{\"id\": \"7\"}"), "'{\"id\": \"7\"}'");
        assert_eq!(argument("it's"), r"'it'\''s'");
        assert_eq!(argument(""), "''");
        assert_eq!(argument("-x"), "'-x'");
    }
}
