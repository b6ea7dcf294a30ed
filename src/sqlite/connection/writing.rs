//! Keeping others out of a live database while it is written to, and letting them in again.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;

use super::{BUSY_SLICE, Facts, Live, Patience};
use crate::error::{Code, Result};
use crate::progress::Monitor;

/// How long one try to have a database alone lasts. While it does, a program in a read transaction that wants to write is
/// refused at once, as SQLite refuses what might wait for ever: so most are short. A longer one each time around gets
/// through where short readers overlap, as it keeps new ones out until the last has ended.
const TRIES: [Duration; 4] = [SHORT_TRY, SHORT_TRY, SHORT_TRY, BUSY_SLICE];
const SHORT_TRY: Duration = Duration::from_millis(10);

/// Between two of them, in which such a program gets its turn.
const ALONE_PAUSE: Duration = Duration::from_millis(40);

impl Live {
    /// Opens and takes the write lock: no other connection commits until this one does or is dropped.
    pub fn open_locked(path: &Path, patience: &Patience) -> Result<(Self, Facts)> {
        let live = Live::open_writable(path, patience)?;
        live.begin("BEGIN IMMEDIATE")?;
        let facts = live.facts()?;
        Ok((live, facts))
    }

    /// Opens and keeps every other connection out, across transactions, until dropped. With `damaged`, whatever the
    /// file holds is taken as an empty database, so that it can be locked and written over at all.
    pub fn open_exclusive(path: &Path, patience: &Patience, damaged: bool) -> Result<Self> {
        let deadline = Instant::now() + patience.timeout;
        let once = Patience { timeout: Duration::ZERO, ..patience.clone() };
        let mut tries = TRIES.iter().cycle();
        loop {
            let mut live = Live::open_writable(path, patience)?;
            live.patience = once.clone();
            live.wait_at_most(*tries.next().unwrap_or(&BUSY_SLICE))?;
            match live.lock_out_others(damaged) {
                // In this locking mode SQLite keeps whatever lock it has got so far. A program in the middle of a transaction
                // could not commit as long as we held that, and we would wait for it: so it is let go, with the connection.
                Err(e) if e.code == Code::DatabaseBusy && Instant::now() < deadline => {
                    live.leave_wal = true;
                    drop(live);
                    patience.monitor.check()?;
                    std::thread::sleep(ALONE_PAUSE.min(deadline.saturating_duration_since(Instant::now())));
                }
                other => {
                    live.patience = patience.clone();
                    live.wait_at_most(BUSY_SLICE)?;
                    return other.map(|()| live);
                }
            }
        }
    }

    fn wait_at_most(&self, slice: Duration) -> Result<()> {
        self.connection.busy_timeout(slice).map_err(|e| self.translate(e, "prepare"))
    }

    fn lock_out_others(&self, damaged: bool) -> Result<()> {
        let configure = || -> rusqlite::Result<()> {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, damaged)?;
            self.connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))
        };
        configure().map_err(|e| self.translate(e, "lock"))?;
        self.begin("BEGIN EXCLUSIVE")
    }

    /// Opens for writing, without a lock yet.
    pub(in crate::sqlite) fn open_writable(path: &Path, patience: &Patience) -> Result<Self> {
        let mut live = Live::open(path, patience)?;
        live.leave_wal = false;
        live.connection.pragma_update(None, "query_only", false).map_err(|e| live.translate(e, "prepare"))?;
        Ok(live)
    }

    /// Brings everything written so far to disk and, in rollback mode, gets the exclusive lock, so that nothing but the
    /// commit itself is left to do. Busy readers are waited for.
    pub fn flush(&self) -> Result<()> {
        self.patiently("write", || self.connection.cache_flush())
    }

    /// Commits; durable when it returns. The connection is of no use afterwards: it still knows the old first page.
    pub fn commit(self) -> Result<()> {
        self.patiently("commit", || self.connection.execute_batch("COMMIT"))
    }

    /// Closes it and leaves the WAL at its path alone, which belongs to another file by now.
    pub fn forsake(mut self) {
        (self.leave_wal, self.wal_was_there) = (true, true);
    }

    /// From here on, what is being done to this database is carried through: cancellation comes too late.
    pub fn ignore_cancellation(&mut self) {
        self.patience.monitor = Monitor::default();
    }

    /// Ends the transaction of an exclusive connection and keeps its lock.
    pub(in crate::sqlite) fn end_transaction(&self) -> Result<()> {
        self.patiently("unlock", || self.connection.execute_batch("COMMIT"))
    }
}
