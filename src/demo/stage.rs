//! What the demo shows: numbered steps, short lines, figures in one column. Results, so to stdout.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::visible;

/// Where figures end.
const WIDTH: usize = 78;
const INDENT: &str = "    ";

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

/// The terminal, or whatever stdout is.
#[derive(Debug)]
pub struct Stage {
    colour: bool,
    steps: u32,
}

impl Stage {
    /// Colours only for people who have not declined them.
    pub fn new() -> Self {
        let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        Self { colour: io::stdout().is_terminal() && !declined, steps: 0 }
    }

    /// The first lines.
    pub fn title(&self, title: &str, subtitle: &str) {
        put(&self.paint(BOLD, title));
        put(&visible::line(subtitle));
    }

    /// The next step.
    pub fn step(&mut self, title: &str) {
        self.steps += 1;
        put("");
        put(&self.paint(BOLD, &format!("{:>2}  {title}", self.steps)));
    }

    /// What is done, as one would type it after `prompt`.
    pub fn typed(&self, prompt: &str, text: &str) {
        put(&format!("{INDENT}{} {}", self.paint(DIM, prompt), visible::line(text)));
    }

    /// What another program said.
    pub fn said(&self, text: &str) {
        for line in text.lines().map(str::trim_end) {
            put(&format!("{INDENT}{} {}", self.paint(DIM, "|"), visible::line(line)));
        }
    }

    /// A remark.
    pub fn note(&self, text: &str) {
        put(&format!("{INDENT}{}", visible::line(text)));
    }

    /// A line with a figure at its end.
    pub fn figure(&self, what: &str, figure: impl Display) {
        put(&format!("{INDENT}{}", visible::line(&line(what, &figure.to_string()))));
    }

    /// The last word.
    pub fn verdict(&self, right: bool, text: &str) {
        let colour = if right { GREEN } else { RED };
        put(&format!("{INDENT}{}", self.paint(colour, text)));
    }

    /// Escapes the text, then colours it.
    fn paint(&self, colour: &str, text: &str) -> String {
        let text = visible::line(text);
        match self.colour {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text.to_string(),
        }
    }
}

/// A line whose values are escaped already. A closed reader (`| head`) must not keep the demo from
/// cleaning up.
fn put(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

fn line(what: &str, figure: &str) -> String {
    let room = (WIDTH - INDENT.len()).saturating_sub(what.chars().count() + 1);
    format!("{what} {figure:>room$}")
}

/// A long line, broken between words.
pub fn wrapped(text: &str) -> String {
    let room = WIDTH - INDENT.len() - "| ".len();
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_string());
        }
    }
    lines.join("\n")
}

/// `12345` as people write it.
pub fn count(number: impl TryInto<i128>) -> String {
    let digits = number.try_into().unwrap_or_default().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`.
pub fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number))
}

/// A time in milliseconds, with as many digits as mean something.
pub fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    match ms < 10.0 {
        true => format!("{ms:.1} ms"),
        false => format!("{} ms", count(ms.round() as i64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_end_in_one_column() {
        assert_eq!(line("rows", "3,000").len(), line("milliseconds", "1.5 ms").len());
        assert!(line(&"x".repeat(100), "3").ends_with("x 3"));
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        let text = wrapped(&"word ".repeat(20));
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.len() <= WIDTH - 6));
        assert_eq!(wrapped(""), "");
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(1_000, "row"), "1,000 rows");
        assert_eq!(milliseconds(Duration::from_micros(3_241)), "3.2 ms");
        assert_eq!(milliseconds(Duration::from_micros(2_412_900)), "2,413 ms");
    }
}
