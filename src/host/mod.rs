//! The machine around us: which other processes have a database open, and which SQLite they carry. Looks, changes nothing.

pub mod processes;
pub mod sqlite_build;
