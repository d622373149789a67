//! The tables of ours: parked keys, the brake, who may read the outbox.

mod brake;
mod pairing;
mod parked;
mod parking;
