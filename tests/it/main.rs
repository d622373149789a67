//! One test binary: support, then a module per promise. Read the names of the tests: they are the guarantees.
#![allow(clippy::unwrap_used)] // A test that cannot go on should say where.

mod support;

mod capture;
mod clients;
mod commands;
mod contact;
mod deaf;
mod documents;
mod doorbell;
mod faults;
mod mapping;
mod migrate;
mod parking;
mod random;
mod real_input;
mod resync;
mod values;
mod writing;
