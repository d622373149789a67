//! Servers, sessions, connections and types.

pub mod keys;
mod places;
pub mod pooler;
pub mod secrets;
pub mod settings;
pub mod tls;
