//! One writer at a time in a backups folder. The lock is the kernel's and vanishes with a dead process.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::backup_set::names;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Monitor;

/// The right to change the folder, until dropped.
pub struct StoreLock {
    /// The backups folder.
    pub dir: PathBuf,
    /// The locked file; its content is the last name given ([`super::naming`]).
    pub(super) file: File,
}

/// How often a waiting run looks again. `flock` itself could wait, but neither time out nor be cancelled.
const POLL: Duration = Duration::from_millis(20);

/// Creates the folder `dir` if need be (0700, ignored by git) and takes its lock.
pub fn create_and_lock(dir: &Path, timeout: Duration, monitor: &Monitor) -> Result<StoreLock> {
    if !dir.is_dir() {
        let parent = dir.parent().unwrap_or(dir);
        fs::create_dir_all(parent).context("create the folder", parent)?;
        match durable::create_private_dir(dir) {
            // Another run was faster.
            Err(_) if dir.is_dir() => {}
            Err(e) if dir.symlink_metadata().is_ok() => {
                let message =
                    format!("{} is there and is no folder; move it away, or choose another backupDir (--backup-dir)", dir.display());
                return Err(Error::new(Code::IoError, message).caused_by(e));
            }
            other => other?,
        }
    }
    let ignore = dir.join(".gitignore");
    if !ignore.exists() {
        match durable::write_new(&ignore, b"*\n") {
            // Another run was faster.
            Err(_) if ignore.exists() => {}
            other => other?,
        }
    }
    lock(dir, timeout, monitor)
}

/// Takes the lock of an existing folder; `LOCK_TIMEOUT` if another run holds it too long.
pub fn lock(dir: &Path, timeout: Duration, monitor: &Monitor) -> Result<StoreLock> {
    let path = dir.join(names::LOCK);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).context("open", &path)?;
    let deadline = Instant::now() + timeout;
    loop {
        monitor.check()?;
        match file.try_lock() {
            Ok(()) => return Ok(StoreLock { dir: dir.to_path_buf(), file }),
            Err(TryLockError::Error(e)) => return Err(Error::io(e, "lock", &path)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let waited = timeout.as_millis();
                return Err(Error::new(
                    Code::LockTimeout,
                    format!(
                        "another backup, restore or clean-up is still at work in {} after {waited} ms of waiting; wait for it, or allow more time with lockTimeoutMs (--lock-timeout)",
                        dir.display()
                    ),
                ));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(POLL),
        }
    }
}

/// Runs `look` while nobody works in the folder; `None` if somebody does. For a moment no run can begin: only for a look
/// that needs it, and that is over at once.
pub fn while_idle<T>(dir: &Path, look: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    let path = dir.join(names::LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        // Where there is no lock file, no run has ever been.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return look().map(Some),
        Err(e) => return Err(Error::io(e, "open", &path)),
    };
    match file.try_lock_shared() {
        Ok(()) => look().map(Some),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(Error::io(e, "lock", &path)),
    }
}
