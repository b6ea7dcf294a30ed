//! The only room that opens a live database, its WAL, its shared memory or its journal.

pub mod cells;
pub mod connection;
pub mod excerpts;
mod failure;
pub mod header;
pub mod health;
mod moved_rows;
pub mod page_compare;
pub mod page_stream;
pub mod page_writer;
pub mod posix_locks;
pub mod private_copy;
pub mod raw_file;
pub mod row_compare;
mod row_key;
pub mod row_pair;
pub mod shapes;
pub mod side;

/// Version of the SQLite inside this library.
pub fn version() -> &'static str {
    rusqlite::version()
}
