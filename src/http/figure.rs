//! Figures for people: thousands separators, units, and nothing that HTML would read as its own.

use std::fmt::{self, Display, Write};

use jiff::{SignedDuration, Timestamp};

use crate::visible;

/// Text from somewhere else, as HTML shows it.
pub(super) struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in visible::line(self.0).chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// A sentence of ours as HTML: what is between backticks is something to type.
pub(super) fn sentence(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let marked = parts.map(|(place, part)| match place % 2 {
        0 => Escaped(part).to_string(),
        _ => format!("<code>{}</code>", Escaped(part)),
    });
    marked.collect()
}

/// `1234567` as `1,234,567`.
pub(super) fn count(number: impl TryInto<i128>) -> String {
    let digits = number.try_into().unwrap_or_default().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`.
pub(super) fn counted(number: i64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number))
}

/// A number with as many digits as mean something: `0.04`, `3.2`, `5`, `12,000`.
pub(super) fn amount(number: f64) -> String {
    let said = match number.abs() {
        small if small < 0.095 => format!("{number:.2}"),
        small if small < 9.95 => format!("{number:.1}"),
        _ => return count(number.round() as i64),
    };
    said.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// A time with the unit in which people say it: `0.2 s`, `45 s`, `12 min`, `3 h 5 min`, `4 d 2 h`.
pub(super) fn time(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let two = |large: u64, unit: &str, small: u64, sub: &str| match small {
        0 => format!("{} {unit}", count(large)),
        _ => format!("{} {unit} {small} {sub}", count(large)),
    };
    match whole {
        0..10 if seconds < 9.95 => format!("{} s", amount(seconds.max(0.0))),
        0..100 => format!("{whole} s"),
        100..6_000 => format!("{} min", (whole + 30) / 60),
        6_000..172_800 => two(whole / 3_600, "h", whole % 3_600 / 60, "min"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
    }
}

/// For how long, at a moment, in whole seconds.
pub(super) fn since(now: Timestamp, then: Timestamp) -> String {
    time(now.duration_since(then).max(SignedDuration::ZERO).as_secs() as f64)
}

/// The time of day, for today's times.
pub(super) fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_is_not_markup() {
        let hostile = "<script>alert(\"1\" & '2')</script>\u{0}\u{202e}";
        assert_eq!(
            Escaped(hostile).to_string(),
            "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;\\x00\\u{202e}"
        );
    }

    #[test]
    fn what_is_to_be_typed_is_marked() {
        assert_eq!(sentence("a < b: see `run <x>`."), "a &lt; b: see <code>run &lt;x&gt;</code>.");
    }

    #[test]
    fn numbers_have_separators_and_as_many_digits_as_mean_something() {
        assert_eq!([0, 999, 1_000, -1_234_567].map(count), ["0", "999", "1,000", "-1,234,567"]);
        assert_eq!(
            [0.0, 0.042, 3.21, 5.0, 9.96, 12_345.6].map(amount),
            ["0", "0.04", "3.2", "5", "10", "12,346"]
        );
        assert_eq!(counted(1, "row") + &counted(1_000, "key"), "1 row1,000 keys");
    }

    #[test]
    fn times_have_the_unit_in_which_people_say_them() {
        let said = [-1.0, 0.2, 9.96, 45.4, 150.0, 7_500.0, 7_200.0, 352_800.0].map(time);
        assert_eq!(said, ["0 s", "0.2 s", "10 s", "45 s", "3 min", "2 h 5 min", "2 h", "4 d 2 h"]);
    }
}
