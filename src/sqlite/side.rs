//! One side of a comparison of rows: the backup, or the live database in its pinned snapshot.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::cells::Encoding;
use super::connection::Live;
use super::failure::translate;
use super::private_copy::PrivateCopy;
use super::shapes::{self, Shape, quoted};
use crate::error::{Code, Error, Result};
use crate::progress::Monitor;

/// Memory for pages: the rows of a table are read in the order of its key, which may be all over the file.
const CACHE_KIB: i32 = 24 << 10;
/// How often somebody looks whether a statement is to be stopped.
const LOOK: Duration = Duration::from_millis(50);

/// What is read, and how its failures are told.
pub struct Side<'a> {
    connection: &'a Connection,
    /// The file that messages name.
    path: &'a Path,
    live: Option<&'a Live>,
    damage: Code,
    monitor: Monitor,
    /// How it stores text.
    pub encoding: Encoding,
    /// `user_version` and `application_id`.
    pub versions: [i64; 2],
    /// Its tables.
    pub tables: BTreeMap<String, Shape>,
    /// `(type, name)` → SQL of its schema objects.
    pub schema: BTreeMap<(String, String), String>,
    _watch: Watch,
}

impl<'a> Side<'a> {
    /// A copy of a set.
    pub fn backup(copy: &'a PrivateCopy, monitor: &Monitor) -> Result<Self> {
        Self::new(copy.connection(), copy.path(), None, Code::BackupDamaged, monitor)
    }

    /// The pinned snapshot of a live database.
    pub fn live(live: &'a Live, monitor: &Monitor) -> Result<Self> {
        Self::new(live.connection(), live.path(), Some(live), Code::SourceDamaged, monitor)
    }

    /// The same, written to a file of our own before the pin was given up.
    pub fn snapshot(copy: &'a PrivateCopy, live: &'a Path, monitor: &Monitor) -> Result<Self> {
        Self::new(copy.connection(), live, None, Code::SourceDamaged, monitor)
    }

    fn new(connection: &'a Connection, path: &'a Path, live: Option<&'a Live>, damage: Code, monitor: &Monitor) -> Result<Self> {
        let mut side = Side {
            connection,
            path,
            live,
            damage,
            monitor: monitor.clone(),
            encoding: Encoding::Utf8,
            versions: [0; 2],
            tables: BTreeMap::new(),
            schema: BTreeMap::new(),
            _watch: Watch::start(connection, monitor.clone())?,
        };
        side.describe().map_err(|e| side.failure(e, "read the schema of"))?;
        Ok(side)
    }

    fn describe(&mut self) -> rusqlite::Result<()> {
        let c = self.connection;
        c.pragma_update(None, "cache_size", -CACHE_KIB)?;
        let number = |pragma: &str| c.query_row(&format!("PRAGMA {pragma}"), [], |r| r.get(0));
        self.encoding = Encoding::parse(&c.query_row("PRAGMA encoding", [], |r| r.get::<_, String>(0))?);
        self.versions = [number("user_version")?, number("application_id")?];
        self.tables = shapes::read(c)?;
        let sql = "SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        self.schema = c.prepare(sql)?.query_map([], |r| Ok(((r.get(0)?, r.get(1)?), r.get(2)?)))?.collect::<Result<_, _>>()?;
        Ok(())
    }

    pub(super) fn connection(&self) -> &'a Connection {
        self.connection
    }

    /// A failure of SQLite while trying to `what` (a verb) this side.
    pub(super) fn failure(&self, e: rusqlite::Error, what: &str) -> Error {
        match e.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => self.monitor.check().err().unwrap_or_else(|| translate(e, what, self.path)),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => self.damaged(&e.to_string()).caused_by(e),
            _ => match self.live {
                Some(live) => live.translate(e, what),
                None => translate(e, what, self.path),
            },
        }
    }

    /// The error that says that this side is damaged, and how.
    pub(super) fn damaged(&self, why: &str) -> Error {
        let way_out = if self.damage == Code::BackupDamaged { "use another backup" } else { "restore it from a backup" };
        Error::new(self.damage, format!("{} is damaged: {why}; {way_out}", self.path.display()))
    }

    /// Rows of a table; the inner error says why they can't be counted here, which is nobody's damage.
    pub fn count(&self, table: &Shape) -> Result<Result<u64, String>> {
        // Without an index: that is what the rows found through one are checked against.
        let sql = format!("SELECT count(*) FROM main.{} NOT INDEXED", quoted(&table.name));
        let count = self.connection.query_row(&sql, [], |r| r.get::<_, i64>(0));
        match count {
            Ok(n) => Ok(Ok(u64::try_from(n).unwrap_or(0))),
            Err(e) => self.unreadable(e).map(Err),
        }
    }

    /// Why a table can't be read here, if what it needs is an extension; else the error.
    pub(super) fn unreadable(&self, e: rusqlite::Error) -> Result<String> {
        match &e {
            // SQLITE_ERROR: the statement can't be prepared, for want of a collation for instance.
            rusqlite::Error::SqliteFailure(cause, Some(why)) if cause.code == ErrorCode::Unknown && cause.extended_code & 0xff == 1 => {
                Ok(why.clone())
            }
            rusqlite::Error::SqlInputError { msg, .. } => Ok(msg.clone()),
            _ => Err(self.failure(e, "read")),
        }
    }
}

/// Stops the statements of a connection once the operation is cancelled: counting and sorting never come back in between.
struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(connection: &Connection, monitor: Monitor) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let (handle, is_over) = (connection.get_interrupt_handle(), Arc::clone(&over));
        let look = move || {
            while !is_over.load(Ordering::SeqCst) {
                if monitor.is_cancelled() {
                    handle.interrupt();
                }
                std::thread::park_timeout(LOOK);
            }
        };
        let thread = std::thread::Builder::new().name("backup-watch".into()).spawn(look).map_err(Error::no_thread)?;
        Ok(Watch { over, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic in it would be one of ours to see in a test; there is nothing to undo.
            let _ = thread.join();
        }
    }
}
