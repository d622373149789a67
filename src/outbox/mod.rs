//! The tables of schema `schoolbell`. Each is named by one module only.

pub mod brake;
pub mod change;
pub mod migrated;
pub mod outcome;
pub mod pairing;
pub mod parked;
pub mod resync;
pub mod shape;
pub mod verified;
