//! At most one connection of this process per inode.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::{BUSY_SLICE, Patience};
use crate::error::Result;
use crate::sqlite::failure::busy;

/// The right to hold the one connection that this process may have to an inode. Open-file-description locks belong to
/// a descriptor and SQLite shares lock counts between connections of one library, so two would break each other's.
pub(super) struct Slot(PathBuf);

static HELD: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
static FREED: Condvar = Condvar::new();

/// The path of an inode's slot. The canonical path stands for the inode; hard links get one through their identity.
fn slot_key(path: &Path) -> Result<PathBuf> {
    #[cfg(unix)]
    {
        use crate::error::IoContext;
        use std::io::ErrorKind;
        use std::os::unix::fs::MetadataExt;

        match std::fs::metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            found => {
                let m = found.context("look at", path)?;
                return Ok(PathBuf::from(format!("{}:{}", m.dev(), m.ino())));
            }
        }
    }
    Ok(path.to_path_buf())
}

impl Slot {
    /// Waits for it as long as `patience` has it.
    pub(super) fn take(path: &Path, patience: &Patience) -> Result<Self> {
        let key = slot_key(path)?;
        let deadline = Instant::now() + patience.timeout;
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        while !held.get_or_insert_default().insert(key.clone()) {
            patience.monitor.check()?;
            if Instant::now() >= deadline {
                return Err(busy(path, "another operation of this process is working on it"));
            }
            held = FREED.wait_timeout(held, BUSY_SLICE).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(Slot(key))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().remove(&self.0);
        FREED.notify_all();
    }
}
