//! The bell: who rings, who sleeps, who cannot hear it.

pub mod deaf;
mod doorbell;
