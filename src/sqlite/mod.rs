//! The only room that opens a live database, its WAL, its shared memory or its journal.

pub mod connection;
pub mod header;
pub mod health;
pub mod page_compare;
pub mod page_stream;
pub mod page_writer;
pub mod posix_locks;
pub mod raw_file;

/// Version of the SQLite inside this library.
pub fn version() -> &'static str {
    rusqlite::version()
}
