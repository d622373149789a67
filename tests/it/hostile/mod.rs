//! Attacks: what roles with few rights or none try, and what they get from it.
//!
//! The roles are those of *Roles and grants*: an owner who migrates, `bell` who reads the source, `bridge` who writes the
//! target, an auditor who compares, an application that writes schools, and `nobody`, who may only connect.

mod locks;
mod planted;
pub mod privileges;
mod reasons;
mod schema;
mod triggers;
mod unbalanced;
