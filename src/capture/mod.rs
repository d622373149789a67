//! What is installed on captured tables: the triggers are rendered, compared with what is there, and installed where they
//! differ.

pub mod deviation;
pub mod install;
pub mod installation;
pub mod publication;
pub mod schema;
pub mod trigger;

use std::fmt;

/// When the triggers notify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NotifyMode {
    /// In every transaction.
    Always,
    /// Only when the service is asleep.
    Doorbell,
    /// Never: the service polls. For writers that use two-phase commit.
    Never,
}

impl fmt::Display for NotifyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Doorbell => "doorbell",
            Self::Never => "never",
        })
    }
}

impl NotifyMode {
    /// Reads the word that is stored in `schoolbell.installation`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Always, Self::Doorbell, Self::Never]
            .into_iter()
            .find(|mode| mode.to_string() == text)
    }
}
