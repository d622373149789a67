//! Logs: to stderr, as text or JSON, filtered by `RUST_LOG`.

use std::fmt::{self, Debug};
use std::io::{self, IsTerminal, Stderr, Write};

use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{self, Writer};

use crate::visible;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged when `RUST_LOG` says nothing.
const DEFAULT_FILTER: &str = "schoolbell=info";

/// Starts logging. Results go to stdout, so logs go to stderr.
///
/// Only our own lines and those of other users of `tracing`: what the driver tells the `log` crate (each
/// statement with its parameters, each WARNING of a trigger) holds row contents, so it is not taken over.
pub fn init(format: LogFormat) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    // https://no-color.org: set to anything but nothing.
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let colours = wanted && io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_target(false);
    // The library would print its own error on stderr, where nothing can be written either, and
    // panic.
    let builder = builder.log_internal_errors(false);
    // Not `init`, which would take over the `log` crate's lines, too.
    let started = match format {
        LogFormat::Text => {
            let fields = format::debug_fn(text_field).delimited(" ");
            let builder = builder.with_writer(io::stderr).fmt_fields(fields);
            tracing::subscriber::set_global_default(builder.finish())
        }
        LogFormat::Json => {
            let builder = builder.with_writer(|| EscapedJson(io::stderr())).json();
            tracing::subscriber::set_global_default(builder.finish())
        }
    };
    started.expect("logging is started once");
}

/// The message, or `name=value`. The library's own way lets newlines and marks for the direction of text through.
fn text_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = visible::line(&value);
    match (field.name(), writer.has_ansi_escapes()) {
        ("message", _) => writer.write_str(&value),
        // Slanted and dim.
        (name, true) => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
        (name, false) => write!(writer, "{name}={value}"),
    }
}

/// JSON, in which what JSON itself lets through is escaped, too. Each log line is written at once.
struct EscapedJson(Stderr);

impl Write for EscapedJson {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(visible::unicode(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
