//! Target rows are written.

mod locked;
mod refused;
mod writing;
