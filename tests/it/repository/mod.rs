//! The contents of this repository are compared with the code: documents, order of imports,
//! rendered SQL.

mod documents;
mod fuzz;
mod names;
mod order;
mod rendered;
mod supply_chain;
