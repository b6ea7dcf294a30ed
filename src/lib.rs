//! The map of the crate. Faces (`napi`, `cli`) stand on `operations`; every floor uses only floors below it.

pub mod backup_set;
pub mod durable;
pub mod error;
pub mod operations;
pub mod progress;
pub mod project;
pub mod sqlite;
pub mod store;
