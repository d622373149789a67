//! Schoolbell: committed writes to an application's tables reach Salesforce through Heroku Connect.
//!
//! The modules in the order in which data flows through them:
//!
//! | step | module | what it does |
//! | --- | --- | --- |
//! | settings | [`config`], [`mapping`], [`name`], [`qualified`], [`visible`] | flags and the mapping file, checked; how SQL names and quotes things, and escaping for terminals; no database |
//! | ground | [`db`], [`tls`], [`deadline`], [`failure`], [`apart`], [`failpoint`], [`backoff`], [`reporting`], [`supported`], [`stranger`], [`pairing`], [`catalogue`], [`plan`] | connections; what a failure means, and whose it is; which servers will do; who holds our locks and should not; which databases belong together; the mapping against both catalogues |
//! | capture | [`capture`], [`schema`], [`migrated`], [`publication`] | the triggers and the schema they write to, installed by `migrate`; the mapping they were installed for; who else would get our tables |
//! | notice | [`bell`], [`notice`] | the doorbell lock and LISTEN; the payload, decoded and checked |
//! | claim | [`change`], [`parked`], [`resync`] | which keys have work: from the outbox, parked and due again, replayed |
//! | project | [`project`] | claimed keys become target rows, as the source has them now |
//! | apply | [`apply`], [`brake`], [`outcome`], [`writer`] | update what differs, insert what is missing; how many rows may be deleted; who may write |
//! | acknowledge or park | [`change`], [`parked`] | what was claimed is deleted or kept for later, in one transaction |
//! | the loop | [`worker`], [`service`], [`metrics`] | joins the steps; starts, stops, reconnects; what is counted meanwhile |
//! | reports | [`status`], [`heroku_connect`], [`explain`], [`verify`], [`verified`], [`doctor`] | what is pending, waiting, dead; what Salesforce made of it; where one row is; whether every row is right, and when that was looked at; what hinders the work |
//! | pages | [`look`], [`http`] | looks at both databases now and then; shows it, and reads nothing itself |
//! | a start | [`draft`] | a first mapping from both catalogues |
//! | trying it | [`demo`] | a throw-away Postgres with a stand-in for Heroku Connect |
//!
//! What a module must *not* know: `mapping` knows no database; `project` and `apply` know no object by
//! name; `worker` holds no SQL; only `change` names the outbox, only `parked` the parked keys, only
//! `resync` the replays, only `verified` the comparisons (`status` reads all four), only `brake` the deletions, only
//! `migrated` the mapping that was installed; `http` has no session: it shows what `look` saw; nothing here imports
//! [`commands`].

// What is printed goes through `commands::say` and its neighbours, which escape it.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod config;
pub mod mapping;
pub mod name;
pub mod qualified;
pub mod visible;

pub mod apart;
pub mod backoff;
pub mod catalogue;
pub mod db;
pub mod deadline;
pub mod failpoint;
pub mod failure;
pub mod plan;
pub mod reporting;
pub mod stranger;
pub mod supported;
pub mod tls;

pub mod capture;
pub mod migrated;
pub mod publication;
pub mod schema;

pub mod bell;
pub mod notice;

pub mod change;
pub mod pairing;
pub mod parked;
pub mod resync;

pub mod project;

pub mod apply;
pub mod brake;
pub mod outcome;
pub mod writer;

pub mod metrics;
pub mod service;
pub mod shape;
pub mod worker;

pub mod doctor;
pub mod explain;
pub mod heroku_connect;
pub mod look;
pub mod status;
pub mod verified;
pub mod verify;

pub mod http;

pub mod draft;

pub mod demo;

pub mod cli;
pub mod commands;
pub mod logging;
