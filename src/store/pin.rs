//! A set that a running command or function may need to be put back is in use, and nothing removes it. The sign is a lock
//! of the kernel's on a small file, which vanishes with a dead process.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::folder;
use super::lock::StoreLock;
use crate::backup_set::names;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Error, IoContext, Result};

/// Keeps a set from being removed, until dropped.
#[derive(Debug)]
pub struct Pin {
    path: PathBuf,
    _file: File,
}

impl Pin {
    /// Pins the set called `timestamp`.
    pub fn take(lock: &StoreLock, timestamp: Timestamp) -> Result<Self> {
        let path = lock.dir.join(names::in_use(timestamp));
        durable::remove_dir_all(&path)?;
        let file = durable::create_exclusive(&path)?;
        file.lock().context("lock", &path)?;
        Ok(Pin { path, _file: file })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // What stays behind is not locked any more, means nothing, and is swept by the next run.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether somebody living has pinned the set.
pub fn is_held(dir: &Path, timestamp: Timestamp) -> Result<bool> {
    is_locked(&dir.join(names::in_use(timestamp)))
}

fn is_locked(path: &Path) -> Result<bool> {
    // No pin of ours: a link, a fifo, another name of a database that the application has open.
    if durable::is_irregular(path) {
        return Ok(false);
    }
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.context("open", path)?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(Error::io(e, "lock", path)),
    }
}

/// The sets that somebody living has pinned: one look at the folder, where there are many sets to be asked about.
pub fn held(dir: &Path) -> Result<BTreeSet<Timestamp>> {
    let mut found = BTreeSet::new();
    folder::each_entry(dir, |name, entry| {
        if let Some(timestamp) = names::parse_in_use(&name)
            && is_locked(&entry.path())?
        {
            found.insert(timestamp);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Removes what dead processes left.
pub fn sweep(lock: &StoreLock) -> Result<()> {
    folder::each_entry(&lock.dir, |name, entry| {
        if names::parse_in_use(&name).is_some() && !is_locked(&entry.path())? {
            // Whatever it is.
            durable::remove_dir_all(&entry.path())?;
        }
        Ok(())
    })
}
