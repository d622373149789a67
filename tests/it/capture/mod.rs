//! What the triggers record, and how they are installed.

mod clients;
mod evolution;
mod migrate;
mod publications;
pub mod recorded;
mod unseen;
