//! What every conversation with a Postgres needs: where it is, sessions, what a failure means, names and types, the catalogue.

pub mod apart;
pub mod backoff;
pub mod catalogue;
pub mod db;
pub mod deadline;
pub mod failure;
pub mod name;
pub mod qualified;
pub mod stranger;
pub mod supported;
pub mod template;
pub mod tls;
pub mod url;
