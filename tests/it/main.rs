//! One test binary: support, then a module per promise. Read the names of the tests: they are the guarantees.
#![allow(clippy::unwrap_used)] // A test that cannot go on should say where.
#![allow(clippy::disallowed_methods)] // What a server says to a test is the test's own.

mod support;

mod brake;
mod capture;
mod clients;
mod commands;
mod contact;
mod counts;
mod deaf;
mod demo;
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
mod hostile;
mod http;
mod keys;
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
mod publications;
mod random;
mod real_input;
mod reasons;
mod refused;
mod resync;
mod secrets;
mod settings;
mod slow_clients;
mod supply_chain;
mod terminal;
mod tls;
mod torture;
mod values;
mod verify;
mod watch;
mod winners;
mod writing;
