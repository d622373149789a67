//! All steps together: resyncs, random changes, what the work costs.

mod counts;
mod memory;
mod model;
mod plans;
mod random;
mod real_input;
mod resync;
