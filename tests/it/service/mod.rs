//! The service lives on: faults, take-overs, changes under way.

mod faults;
mod live;
mod torture;
