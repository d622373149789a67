//! The demo.

mod stage;
