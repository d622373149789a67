//! What the program logs while it runs inside a test.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// Keeps the lines of this thread, on which a test's tasks run, until it is dropped.
pub struct Log {
    text: Text,
    _here: DefaultGuard,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn listen() -> Self {
        Self::listen_to("schoolbell=info")
    }

    /// The same with a filter as `RUST_LOG` has it.
    pub fn listen_to(filter: &str) -> Self {
        let text = Text::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(text.clone())
            .finish();
        Self { text, _here: tracing::subscriber::set_default(subscriber) }
    }

    /// The lines that contain this.
    pub fn lines(&self, part: &str) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.text.0.lock().unwrap()).into_owned();
        text.lines().filter(|line| line.contains(part)).map(str::to_string).collect()
    }
}

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Text {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
