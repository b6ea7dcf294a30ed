//! The map of the crate. Two faces stand on `operations` and know nothing of each other; every floor uses only the
//! floors below it: `operations` → `host`, `store` → `sqlite`, `project` → `backup_set`, `direct_io`, `durable` → `priority`, `progress`, `human`, `error`.

pub mod backup_set;
pub mod cli;
pub mod direct_io;
pub mod durable;
pub mod error;
pub mod host;
pub mod human;
#[cfg(feature = "node")]
mod napi;
pub mod open_here;
pub mod operations;
pub mod priority;
pub mod progress;
pub mod project;
pub mod sqlite;
pub mod store;
