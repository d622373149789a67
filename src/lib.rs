//! Schoolbell: committed writes to an application's tables reach Salesforce through Heroku Connect.
//!
//! The folders are the concepts, in the order in which data meets them:
//!
//! | folder | what it does |
//! | --- | --- |
//! | [`mapping`] | what a user writes, checked without a database; the difference between two of them |
//! | [`config`] | flags, variables and connection URLs |
//! | [`postgres`] | sessions, pools, TLS; what a failure means, and whose it is; catalogues; how SQL names and quotes things |
//! | [`plan`] | a mapping held against both catalogues: routes and captures; a first draft of a mapping |
//! | [`bell`] | the doorbell's lock and LISTEN; notices, decoded and checked |
//! | [`capture`] | the triggers and the schema they write to, installed by `migrate` |
//! | [`outbox`] | our tables, a module for each: changes, parked keys, replays, deletions, comparisons, pairing, shape |
//! | [`project`] | claimed keys become target rows, as the source has them now |
//! | [`apply`] | target rows are written: update what differs, insert what is missing; who may write |
//! | [`worker`] | the loop that joins the steps: claim, project, apply, acknowledge or park |
//! | [`verify`] | whether every row is right |
//! | [`service`] | connects, becomes the writer, plans anew, sweeps, stops |
//! | [`reports`] | how it goes, where a row is, what hinders the work, what Salesforce made of the rows |
//! | [`http`] | the status page, the metrics and readiness; it has no session, and shows what [`reports::look`] saw |
//! | [`demo`] | a throw-away Postgres with a stand-in for Heroku Connect |
//! | [`commands`] | one file per command; nothing imports it but `main` |
//!
//! Beside them: [`cli`] (what can be typed), [`logging`], [`metrics`] (what is counted), [`failpoint`] (where tests stop the
//! program) and [`visible`] (what a terminal would obey is escaped).
//!
//! What a module must *not* know: `mapping` knows no database; `project` and `apply` know no object by name; `worker` holds
//! no SQL; each table of ours is named by one module of `outbox` (`reports::status` reads several).

// What is printed goes through `commands::say` and its neighbours, which escape it.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod visible;

pub mod mapping;

pub mod config;

pub mod postgres;

pub mod plan;

pub mod bell;

pub mod capture;

pub mod outbox;

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
pub mod failpoint;
pub mod logging;
pub mod metrics;
