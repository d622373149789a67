//! Both sides are compared.

mod comparison;
