//! Makes our SQLite safe beside another SQLite in the same process: open-file-description locks, and no `close`.
//!
//! POSIX `fcntl` locks belong to (process, inode). A second SQLite in the process does not see the first one's locks,
//! and closing any descriptor of a file drops all of them (sqlite.org/howtocorrupt.html, 2.2 and 2.2.1). So three
//! system calls of our copy's `unix` VFS are replaced:
//!
//! - `fcntl` asks for open-file-description locks, which conflict with POSIX locks even inside one process;
//! - `close` unlocks and *parks* the descriptor instead of closing it;
//! - `open` takes a parked descriptor of the same inode and access mode, which bounds the parked ones.
//!
//! Windows needs none of it: there, locks belong to handles. Linux is tested; Darwin is built for and not tested.
#![allow(unsafe_code)]

#[cfg(unix)]
mod failures;
#[cfg(unix)]
mod platform;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::{Code, Error, Result};

/// A text in the bytes of every binary that has this guard, by which it is told from other builds of SQLite.
#[used]
pub static GUARD_MARK: &[u8; 45] = b"@agentic-qe/backup: SQLite with guarded locks";

static OWN_PROCESS: AtomicBool = AtomicBool::new(false);

/// Declares that this process is ours alone (the command line): no other SQLite lives in it, so ordinary POSIX locks
/// are enough where the better ones don't exist. Call before the first [`install`].
pub fn declare_own_process() {
    OWN_PROCESS.store(true, Ordering::SeqCst);
}

/// Whether [`declare_own_process`] was called.
pub fn is_own_process() -> bool {
    OWN_PROCESS.load(Ordering::SeqCst)
}

/// Installs the shim into our SQLite, once per process, after proving on a temporary file that open-file-description
/// locks are seen by POSIX locks. `UNSAFE_PLATFORM` if they are not; then no live database may be opened. Only success is
/// remembered: what stands in the way of the proof, a lack of descriptors for one, may be gone at the next call.
pub fn install() -> Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*installed {
        watch_failures()?;
        platform::install(is_own_process())?;
        prove_build()?;
        *installed = true;
    }
    Ok(())
}

fn unsafe_platform(reason: &str) -> Error {
    Error::new(
        Code::UnsafePlatform,
        format!(
            "live databases can't be opened safely inside this process: {reason}. Run the command `aqe-backup` instead: it is a process of its own"
        ),
    )
}

/// What `synchronous` has to be for a commit to outlive a power failure in rollback mode: `EXTRA`.
const EXTRA: i64 = 3;

/// The page stream needs `sqlite_dbpage`, and a restore commits that last; a build that lacks either must fail at load,
/// not in mid-backup or with the power.
fn prove_build() -> Result<()> {
    let proof = || {
        let c = rusqlite::Connection::open_in_memory()?;
        c.prepare("SELECT data FROM sqlite_dbpage").map(drop)?;
        c.query_row("PRAGMA synchronous", [], |r| r.get::<_, i64>(0))
    };
    let way_out = "build with the LIBSQLITE3_FLAGS of .cargo/config.toml";
    match proof() {
        Ok(EXTRA) => Ok(()),
        Ok(other) => {
            Err(unsafe_platform(&format!("this build of SQLite flushes too little (synchronous is {other}, not {EXTRA}); {way_out}")))
        }
        Err(e) => Err(unsafe_platform(&format!("this build of SQLite lacks sqlite_dbpage ({e}); {way_out}"))),
    }
}

/// Runs `f` with ordinary `open` and `close` for this thread's SQLite calls: for files that are ours alone (copies in
/// the backups folder and in staging). A connection opened inside must also be closed inside.
pub fn with_private_files<T>(f: impl FnOnce() -> T) -> T {
    platform::with_private_files(f)
}

/// Why the last `open` of this thread's SQLite failed, if it did.
pub(super) fn open_error() -> Option<std::io::Error> {
    platform::open_error()
}

/// The operating system's own reason for the last I/O error of `connection`, which SQLite's code does not tell.
pub(super) fn system_error(connection: &rusqlite::Connection) -> Option<std::io::Error> {
    // SAFETY: the handle belongs to a connection that is alive for the call.
    let errno = unsafe { rusqlite::ffi::sqlite3_system_errno(connection.handle()) };
    (errno != 0).then(|| std::io::Error::from_raw_os_error(errno))
}

#[cfg(unix)]
pub use platform::{open_parked, release};

/// Why a read or a look of this thread's SQLite calls failed, if one did since this was asked: SQLite calls an unreadable
/// page damage, and a journal that can't be looked at absent.
pub(super) fn failed_call() -> Option<std::io::Error> {
    #[cfg(unix)]
    return failures::take();
    #[cfg(not(unix))]
    None
}

/// Lets [`failed_call`] know, once per process. [`install`] does it too; this is for files that are ours alone.
pub(super) fn watch_failures() -> Result<()> {
    #[cfg(unix)]
    failures::watch().map_err(|reason| Error::new(Code::UnsafePlatform, format!("databases can't be read safely here: {reason}")))?;
    Ok(())
}

/// Gives the standard descriptors that this process has closed to `/dev/null`, as Node and SQLite do when they start or
/// open. Their numbers would go to what is opened next, and a stray print then lands in a database or a backup.
pub fn occupy_standard_descriptors() {
    platform::occupy_standard_descriptors();
}

/// Closes the parked descriptors whose file has lost its name: nobody can lock it or come back to it by name.
pub fn close_nameless() {
    platform::close_nameless();
}

#[cfg(not(unix))]
mod platform {
    pub fn install(_: bool) -> crate::error::Result<()> {
        Ok(())
    }

    pub fn open_error() -> Option<std::io::Error> {
        None
    }

    pub fn with_private_files<T>(f: impl FnOnce() -> T) -> T {
        f()
    }

    pub fn close_nameless() {}

    pub fn occupy_standard_descriptors() {}
}
