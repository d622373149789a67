//! The bell: rings, sleep, and listeners that cannot hear it.

pub mod deaf;
mod doorbell;
