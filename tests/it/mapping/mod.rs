//! The mapping file: what it can say, what is wrong with it, how it is drafted.

mod check;
mod draft;
mod guide;
mod objects;
mod production;
mod random;
