//! Schoolbell: committed writes to an application's tables reach Salesforce through Heroku Connect.
//!
//! The folders are the concepts, in the order in which data meets them. A module imports from those above it in this
//! list, never from one below (`tests/it/repository/order.rs`):
//!
//! | folder | what it does |
//! | --- | --- |
//! | [`postgres`] | connection URLs, sessions, pools, TLS; what a failure means, and which row caused it; the catalogue; how SQL names and quotes things |
//! | [`mapping`] | what a user writes, checked without a database; the difference between two of them |
//! | [`config`] | which databases, and how the service paces itself |
//! | [`plan`] | a mapping checked against both catalogues: routes and captures; a first draft of a mapping |
//! | [`bell`] | the doorbell's lock and LISTEN; notices, decoded and checked |
//! | [`outbox`] | our tables, a module for each: changes, parked keys, resyncs, deletions, comparisons, pairing, shape |
//! | [`capture`] | the triggers and the schema they write to, installed by `migrate` |
//! | [`project`] | claimed keys become target rows, as the source has them now |
//! | [`apply`] | target rows are written: update what differs, insert what is missing, let wait whose parent is missing; who may write |
//! | [`worker`] | the loop that joins the steps: claim, project, apply, acknowledge or park; the pages of a resync |
//! | [`verify`] | whether every row is right |
//! | [`service`] | connects, becomes the writer, plans again, sweeps, stops |
//! | [`reports`] | the state of the work, where a row is, what hinders the work, what Salesforce made of the rows |
//! | [`http`] | the status page, the metrics and readiness; it has no session, and shows what [`reports::look`] saw |
//! | [`demo`] | a throw-away Postgres with a stand-in for Heroku Connect |
//! | [`commands`] | one file per command; nothing imports it but `main` |
//!
//! Beside them: [`visible`] (what a terminal would obey is escaped), [`failpoint`] (where tests stop the program),
//! [`logging`], [`metrics`] (what is counted) and [`cli`] (what can be typed).
//!
//! What a module must *not* know: `mapping` knows no database; `project` and `apply` know no object by name; `worker` holds
//! no SQL but the pages of a resync; each table of ours is named by one module, of `outbox` or `capture` (`reports::status` reads several).
//!
//! Long SQL is beside the code: `sql/` (a file for each statement; `sql/rendered` shows those that a mapping makes) and
//! `triggers/` (the text of the triggers, which [`capture`] fills in).

// What is printed goes through `commands::say` and its neighbours, which escape it.
#![warn(clippy::print_stdout, clippy::print_stderr)]

// The order is the promise of this file. Blank lines keep rustfmt from sorting it.

pub mod visible;

pub mod failpoint;

pub mod logging;

pub mod postgres;

pub mod mapping;

pub mod config;

pub mod plan;

pub mod metrics;

pub mod bell;

pub mod outbox;

pub mod capture;

pub mod project;

pub mod apply;

pub mod worker;

pub mod verify;

pub mod service;

pub mod reports;

pub mod http;

pub mod demo;

pub mod cli;

pub mod commands;
