//! One file per verb: options → plan → execute → outcome.

pub mod types;

pub use types::*;
