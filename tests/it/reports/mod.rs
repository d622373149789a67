//! What people are reported: status, explain, doctor.

mod doctor;
mod explain;
mod heroku_connect;
mod watch;
