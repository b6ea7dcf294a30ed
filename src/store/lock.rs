//! One writer at a time in a backups folder. The lock is the kernel's and vanishes with a dead process.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::naming;
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
    let parent = durable::parent_of(dir);
    if !dir.is_dir() {
        durable::create_dir_all(parent)?;
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
        // Not only when this run made the folder: the one that did may have been killed before it came to this.
        durable::sync_dir(parent)?;
        match durable::write_new(&ignore, b"*\n") {
            // Another run was faster.
            Err(_) if ignore.exists() => {}
            other => other?,
        }
        durable::sync_dir(dir)?;
    }
    lock(dir, timeout, monitor)
}

/// Takes the lock of an existing folder; `LOCK_TIMEOUT` if another run holds it too long.
pub fn lock(dir: &Path, timeout: Duration, monitor: &Monitor) -> Result<StoreLock> {
    let path = dir.join(names::LOCK);
    let file = open(&path, File::options().read(true).write(true).create(true).truncate(false))?.context("open", &path)?;
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
    let file = match open(&path, File::options().read(true))? {
        Ok(file) => file,
        // Where there is no lock file, no run has ever been.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return look().map(Some),
        Err(e) => return Err(Error::io(e, "open", &path)),
    };
    match file.try_lock_shared() {
        Ok(()) => look().map(Some),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(Error::io(e, "lock", &path)),
    }
}

/// Opens the lock file, which will be written to: so nothing else may have its name. Looked at before it is opened, too: to
/// open and close another name of a database that the application has open would take its locks away.
fn open(path: &Path, options: &mut OpenOptions) -> Result<io::Result<File>> {
    if let Ok(found) = path.symlink_metadata() {
        require_own(path, &found)?;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }
    let file = match options.open(path) {
        Ok(file) => file,
        failed => return Ok(failed),
    };
    let found = file.metadata().context("look at", path)?;
    require_own(path, &found)?;
    if has_other_names(&found) && naming::noted_in(&file).context("read", path)?.is_none() {
        return Err(not_ours(path, LINKED));
    }
    Ok(Ok(file))
}

const LINKED: &str = "is another name (hard link) of a file that no lock file is";

/// Not ours, and not to be opened, is anything but a regular file; and what has other names too, but for one that is as long as
/// what is noted in a lock file: people copy folders by hard links (`cp -al`, `rsync --link-dest`).
fn require_own(path: &Path, found: &Metadata) -> Result<()> {
    let kind = found.file_type();
    let why = match () {
        () if kind.is_symlink() => "is a symbolic link",
        () if !kind.is_file() => "is not a regular file",
        () if has_other_names(found) && found.len() != naming::NOTE_LEN => LINKED,
        () => return Ok(()),
    };
    Err(not_ours(path, why))
}

fn not_ours(path: &Path, why: &str) -> Error {
    let message = format!("{} {why}, and the lock file of the backups folder is written to. Remove it, and run this again", path.display());
    Error::new(Code::IoError, message)
}

fn has_other_names(found: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(found) > 1;
    #[cfg(not(unix))]
    {
        let _ = found;
        false
    }
}
