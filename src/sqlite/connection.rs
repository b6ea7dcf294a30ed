//! One careful connection to a live database: nothing about the file changed by looking at it, patience within a time-out.

mod slot;
mod writing;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use self::slot::Slot;
use super::failure::{is_busy, translate};
use super::header::{self, Header};
use super::posix_locks;
use super::raw_file::{self, FileState, RawFile};
use crate::durable;
use crate::error::{Code, Error, Result};
use crate::progress::Monitor;

/// How long to wait for others, and who may call it off.
#[derive(Clone)]
pub struct Patience {
    /// For one database.
    pub timeout: Duration,
    /// Checked while waiting.
    pub monitor: Monitor,
}

/// How long SQLite itself waits before control comes back to look for cancellation.
const BUSY_SLICE: Duration = Duration::from_millis(50);

/// Between two attempts, in which others get their turn.
const RETRY: Duration = Duration::from_millis(2);

/// An open live database. Dropping it rolls back what was not committed, leaves `-wal` and `-shm` as they were found,
/// and takes nobody's locks away.
pub struct Live {
    // Dropped before the slot: fields drop in order.
    connection: Connection,
    path: PathBuf,
    wal_was_there: bool,
    leave_wal: bool,
    patience: Patience,
    _slot: Slot,
}

/// What a pinned database says of itself.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Bytes of a page.
    pub page_size: u32,
    /// Pages in the pinned snapshot; 0 for a database that was never written.
    pub page_count: u64,
    /// `wal`, `delete`, …
    pub journal_mode: String,
    /// `UTF-8`, `UTF-16le`, `UTF-16be`.
    pub encoding: String,
    /// `PRAGMA user_version`.
    pub user_version: i64,
    /// `PRAGMA application_id`.
    pub application_id: i64,
    /// Of page 1; `None` without pages.
    pub header: Option<Header>,
    /// The file as it was when these facts were read.
    pub file: Option<FileState>,
}

impl Facts {
    /// Whether the database is in write-ahead mode.
    pub fn is_wal(&self) -> bool {
        self.journal_mode == "wal"
    }

    /// Bytes of the snapshot.
    pub fn size(&self) -> u64 {
        self.page_count * u64::from(self.page_size)
    }
}

/// A path as SQLite takes it.
fn utf8(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| Error::new(Code::InvalidArgValue, format!("{} is not valid UTF-8; rename it to back it up", path.display())))
}

/// `path` as a `file:` URI that names exactly this file, whatever is in its name, opened as unchanging.
pub fn immutable_uri(path: &Path) -> Result<String> {
    let mut uri = String::from("file:");
    if cfg!(windows) {
        uri.push('/');
    }
    for b in utf8(path)?.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => uri.push(char::from(b)),
            b'\\' if cfg!(windows) => uri.push('/'),
            b':' if cfg!(windows) => uri.push(':'),
            _ => uri.push_str(&format!("%{b:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Ok(uri)
}

impl Live {
    /// Opens `path` (a regular file, not through a symlink) without reading it yet. Read-only where writing is not permitted.
    pub fn open(path: &Path, patience: &Patience) -> Result<Self> {
        posix_locks::install()?;
        let slot = Slot::take(path, patience)?;
        let wal_was_there = FileState::of(&side_file(path, "-wal"))?.is_some();
        let read_write = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match Connection::open_with_flags(utf8(path)?, read_write) {
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::CannotOpen) => Connection::open_with_flags(utf8(path)?, read_only),
            other => other,
        }
        .map_err(|e| translate(e, "open", path))?;
        let live = Live { connection, path: path.to_path_buf(), wal_was_there, leave_wal: true, patience: patience.clone(), _slot: slot };
        live.harden()?;
        Ok(live)
    }

    /// Opens a database in write-ahead mode whose folder can't be written and which has no WAL: SQLite can't make the
    /// shared memory there, so the file is read as unchanging. The caller must check that it did stand still, and that there
    /// is no journal: read without it, a transaction that died would be half there.
    fn open_unchanging(path: &Path, patience: &Patience) -> Result<Self> {
        let slot = Slot::take(path, patience)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(immutable_uri(path)?, flags).map_err(|e| translate(e, "open", path))?;
        let live =
            Live { connection, path: path.to_path_buf(), wal_was_there: true, leave_wal: true, patience: patience.clone(), _slot: slot };
        live.harden()?;
        Ok(live)
    }

    /// Opens and pins a snapshot for reading: writers in WAL mode go on, in rollback mode they wait.
    pub fn open_pinned(path: &Path, patience: &Patience) -> Result<(Self, Facts)> {
        let live = Live::open(path, patience)?;
        match live.begin("BEGIN").and_then(|()| live.facts()) {
            Ok(facts) => Ok((live, facts)),
            Err(e) if e.code == Code::PermissionDenied && wal_is_empty(path)? && !durable::is_there(&side_file(path, "-journal"))? => {
                drop(live);
                let live = Live::open_unchanging(path, patience)?;
                live.begin("BEGIN")?;
                let facts = live.facts()?;
                Ok((live, facts))
            }
            Err(e) => Err(e),
        }
    }

    /// Gives the pinned snapshot up and pins a newer one, through a new connection: for a file that was rewritten behind
    /// SQLite's back, of which this connection may remember pages.
    pub fn pin_again(&mut self) -> Result<Facts> {
        // The old connection must be gone before the new one comes: one per inode.
        self.connection = Connection::open_in_memory().map_err(|e| self.translate(e, "reopen"))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        self.connection = Connection::open_with_flags(utf8(&self.path)?, flags).map_err(|e| self.translate(e, "reopen"))?;
        self.harden()?;
        self.begin("BEGIN")?;
        self.facts()
    }

    /// Gives the pinned snapshot up: writers of a database without WAL wait no longer. Nothing more can be read from it.
    pub fn release(&self) -> Result<()> {
        self.connection.execute_batch("ROLLBACK").map_err(|e| self.translate(e, "let go of"))
    }

    fn harden(&self) -> Result<()> {
        let c = &self.connection;
        let set = || -> rusqlite::Result<()> {
            c.busy_timeout(BUSY_SLICE)?;
            c.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            c.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
            c.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
            c.pragma_update(None, "query_only", true)
        };
        set().map_err(|e| self.translate(e, "open"))
    }

    /// Starts a transaction and reads, so that the snapshot stands from here on.
    fn begin(&self, sql: &str) -> Result<()> {
        drop(posix_locks::failed_call());
        self.patiently("lock", || {
            self.connection.execute_batch(sql)?;
            self.connection.query_row("PRAGMA schema_version", [], |_| Ok(())).inspect_err(|_| {
                // The error that matters is the read's; without this the next try would find a transaction open.
                let _ = self.connection.execute_batch("ROLLBACK");
            })
        })?;
        // A journal that could not be looked at was taken for absent: what would be read then is half a transaction.
        posix_locks::failed_call().map_or(Ok(()), |e| Err(Error::io(e, "look at the files of", &self.path)))
    }

    /// Runs `f` again while SQLite says busy, until the time-out or cancellation. `what` is a verb.
    pub(super) fn patiently<T>(&self, what: &str, mut f: impl FnMut() -> rusqlite::Result<T>) -> Result<T> {
        let deadline = Instant::now() + self.patience.timeout;
        loop {
            self.patience.monitor.check()?;
            match f() {
                Err(e) if is_busy(&e) && Instant::now() < deadline => std::thread::sleep(RETRY),
                other => return other.map_err(|e| self.translate(e, what)),
            }
        }
    }

    /// What the pinned snapshot says of itself.
    pub fn facts(&self) -> Result<Facts> {
        let file = FileState::of(&self.path)?;
        let read = || -> rusqlite::Result<Facts> {
            let number = |pragma: &str| self.connection.query_row(&format!("PRAGMA {pragma}"), [], |r| r.get::<_, i64>(0));
            let text = |pragma: &str| self.connection.query_row(&format!("PRAGMA {pragma}"), [], |r| r.get::<_, String>(0));
            let page_count = u64::try_from(number("page_count")?).unwrap_or(0);
            let page1 = if page_count == 0 { None } else { Some(self.page(1)?) };
            Ok(Facts {
                page_size: u32::try_from(number("page_size")?).unwrap_or(0),
                page_count,
                journal_mode: text("journal_mode")?,
                encoding: text("encoding")?,
                user_version: number("user_version")?,
                application_id: number("application_id")?,
                header: page1.as_deref().and_then(header::parse),
                file,
            })
        };
        read().map_err(|e| self.translate(e, "read"))
    }

    /// One page of the pinned snapshot.
    pub(super) fn page(&self, number: u64) -> rusqlite::Result<Vec<u8>> {
        self.connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?.query_row([number as i64], |r| r.get(0))
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn monitor(&self) -> &Monitor {
        &self.patience.monitor
    }

    /// A failure of SQLite while trying to `what` (a verb) this database.
    pub(super) fn translate(&self, e: rusqlite::Error, what: &str) -> Error {
        // SQLite knows a full disk, but calls a full quota and a file-size limit plain I/O errors. Its own record of the
        // system's error is missing after a failed flush; then the thread's last one tells.
        if e.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
            let last = std::io::Error::last_os_error();
            let mut reasons = posix_locks::system_error(&self.connection).into_iter().chain([last]);
            let no_space =
                |r: &std::io::Error| matches!(r.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
            if let Some(reason) = reasons.find(no_space) {
                return Error::io(reason, what, &self.path);
            }
        }
        translate(e, what, &self.path)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // A WAL that our own opening made, and that is still empty, goes again; so does one that a restore filled, once
        // its pages are in the database. SQLite does both at close if it finds itself alone. Otherwise we were a guest.
        let path = &self.path;
        if !self.leave_wal || (!self.wal_was_there && wal_is_empty(path).is_ok_and(|empty| empty)) {
            // Failing to set it leaves the WAL where it is, which loses nothing.
            let _ = self.connection.execute_batch("ROLLBACK");
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
            let _ = self.connection.pragma_update(None, "query_only", false);
        }
    }
}

/// `path` with a suffix to its name: `-wal`, `-shm`, `-journal`.
pub fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether the live file at `path` is to be read through SQLite: it begins like a database, or is empty, or has a WAL,
/// which may hold its first page.
pub fn looks_like_sqlite(path: &Path) -> Result<bool> {
    let mut start = [0u8; header::MAGIC.len()];
    let filled = raw_file::fills(&mut RawFile::open(path)?, &mut start, path)?;
    let size = FileState::of(path)?.map_or(0, |s| s.size);
    Ok(size == 0 || (filled && start == *header::MAGIC) || !wal_is_empty(path)?)
}

fn wal_is_empty(path: &Path) -> Result<bool> {
    Ok(FileState::of(&side_file(path, "-wal"))?.is_none_or(|s| s.size == 0))
}
