//! The status page and the other answers over HTTP.

mod browser;
mod pages;
mod slow_clients;
