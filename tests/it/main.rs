//! One test binary. Its folders are those of `src`, with `hostile` for attacks and `repository` for what is no code. Read the names of the tests: they are the guarantees.
#![allow(clippy::unwrap_used)] // A test that cannot continue should show where.
#![allow(clippy::disallowed_methods)] // A server's error in a test may quote anything.

mod support;

mod apply;
mod bell;
mod capture;
mod commands;
mod demo;
mod hostile;
mod http;
mod mapping;
mod outbox;
mod postgres;
mod project;
mod reports;
mod repository;
mod service;
mod verify;
mod worker;
