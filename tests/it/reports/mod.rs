//! What is reported to people: status, explain, doctor.

mod doctor;
mod explain;
mod heroku_connect;
mod watch;
