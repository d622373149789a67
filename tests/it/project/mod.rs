//! Source rows become target rows.

mod contact;
mod slow;
mod values;
mod winners;
