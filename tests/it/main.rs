//! One test binary: support, then a module per promise. Read the names of the tests: they are the guarantees.
#![allow(clippy::unwrap_used)] // A test that cannot go on should say where.

mod support;

mod brake;
mod capture;
mod clients;
mod commands;
mod contact;
mod counts;
mod deaf;
mod doctor;
mod documents;
mod doorbell;
mod evolution;
mod explain;
mod faults;
mod fuzz;
mod guide;
mod help;
mod heroku_connect;
mod http;
mod live;
mod mapping;
mod mapping_check;
mod mapping_init;
mod migrate;
mod model;
mod page;
mod parked;
mod parking;
mod places;
mod pooler;
mod privileges;
mod production;
mod random;
mod real_input;
mod refused;
mod resync;
mod slow_clients;
mod tls;
mod torture;
mod values;
mod verify;
mod watch;
mod writing;
