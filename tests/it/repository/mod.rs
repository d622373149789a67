//! What is in this repository is held against the code: documents, order of imports, rendered SQL.

mod documents;
mod fuzz;
mod names;
mod order;
mod rendered;
mod supply_chain;
