//! A copy that is ours alone, open beside a live database: nobody locks it, so its descriptor is really closed.

use std::io::Write;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::connection::{Facts, Live, immutable_uri, translate};
use super::page_stream;
use super::posix_locks::{self, with_private_files};
use crate::durable;
use crate::error::{IoContext, Result};

/// A read-only connection to a copy that stands still. Only opening and closing happen as for private files: what else
/// this thread does meanwhile, with a live database for instance, keeps its protection.
pub struct PrivateCopy {
    connection: Option<Connection>,
    path: PathBuf,
}

impl PrivateCopy {
    /// Opens the copy at `path`. Opening reads nothing, so damage shows later.
    pub fn open(path: &Path) -> Result<Self> {
        posix_locks::watch_failures()?;
        drop(posix_locks::failed_call());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let uri = immutable_uri(path)?;
        let connection = with_private_files(|| Connection::open_with_flags(uri, flags)).map_err(|e| translate(e, "open", path))?;
        let copy = PrivateCopy { connection: Some(connection), path: path.to_path_buf() };
        copy.connection().pragma_update(None, "trusted_schema", false).map_err(|e| translate(e, "open", path))?;
        Ok(copy)
    }

    /// Writes the pinned snapshot of `live` into the new file `to` and opens that, so that the pin can be given up.
    pub fn of_snapshot(live: &Live, facts: &Facts, to: &Path) -> Result<Self> {
        let mut file = durable::create_exclusive(to)?;
        page_stream::stream(live, facts, &mut |block| file.write_all(&block).context("write", to))?;
        drop(file);
        Self::open(to)
    }

    pub(super) fn connection(&self) -> &Connection {
        // Only `drop` takes it out.
        #[allow(clippy::expect_used)]
        self.connection.as_ref().expect("open until dropped")
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        with_private_files(|| drop(self.connection.take()));
    }
}
