//! Answers for people: the state of the work, where a row is, what hinders the work.

pub mod doctor;
pub mod explain;
pub mod heroku_connect;
pub mod look;
pub mod status;
