//! How sets come and go: staged in a hidden folder, published with their metadata last, removed with it first; and the
//! sweep that finishes what a dead run began.

use std::fs;
use std::path::{Path, PathBuf};

use super::lock::StoreLock;
use super::{catalog, naming, pin};
use crate::backup_set::names::{self, Artefact, Marker};
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{IoContext, Result};

/// A set in the making. Dropped unpublished, it leaves nothing.
pub struct Staging {
    store: PathBuf,
    /// Where its files are written, under the names they will have.
    pub dir: PathBuf,
    /// Its name, reserved by the marker folder.
    pub timestamp: Timestamp,
    published: bool,
}

impl Staging {
    /// Reserves the next timestamp.
    pub fn begin(lock: &StoreLock) -> Result<Self> {
        let timestamp = naming::give(lock)?;
        let dir = lock.dir.join(names::marker(Marker::Staging, timestamp));
        durable::create_private_dir(&dir)?;
        durable::sync_dir(&lock.dir)?;
        Ok(Staging { store: lock.dir.clone(), dir, timestamp, published: false })
    }

    /// Moves every staged file into the store, the metadata last. When it returns, the set exists and is durable; when
    /// it fails, there is nothing of it (or the next sweep removes it).
    pub fn publish(mut self) -> Result<()> {
        let metadata = names::metadata(self.timestamp);
        let mut staged = Vec::new();
        for entry in fs::read_dir(&self.dir).context("list", &self.dir)? {
            staged.push(entry.context("list", &self.dir)?.file_name());
        }
        durable::sync_dir(&self.dir)?;
        for name in staged.iter().filter(|n| **n != *metadata) {
            durable::rename_new(&self.dir.join(name), &self.store.join(name))?;
        }
        durable::sync_dir(&self.store)?;
        durable::rename_new(&self.dir.join(&metadata), &self.store.join(&metadata))?;
        durable::sync_dir(&self.store)?;
        self.published = true;
        // The set is made. A marker that stays behind is removed by the next run.
        let _ = durable::remove_dir_all(&self.dir);
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // What can't be removed now is removed by the next run's sweep: the marker goes last.
            let _ = discard(&self.store, self.timestamp, &self.dir, |_| true);
        }
    }
}

/// Removes the files of `timestamp` for which `which` holds, then the marker.
fn discard(store: &Path, timestamp: Timestamp, marker: &Path, which: impl Fn(&Artefact) -> bool) -> Result<()> {
    for (t, artefact, name, _) in catalog::artefacts(store)? {
        if t == timestamp && which(&artefact) {
            durable::remove_file(&store.join(name))?;
        }
    }
    durable::sync_dir(store)?;
    durable::remove_dir_all(marker)?;
    durable::sync_dir(store)
}

fn is_archive(artefact: &Artefact) -> bool {
    matches!(artefact, Artefact::Archive | Artefact::ArchiveSidecar)
}

/// Removes a set; with `keep_archive`, all of it but the archive. From the first step on the set is gone for every
/// reader; when it returns that is durable.
pub fn remove(lock: &StoreLock, timestamp: Timestamp, keep_archive: bool) -> Result<()> {
    let kind = if keep_archive { Marker::Trimming } else { Marker::Removing };
    let marker = lock.dir.join(names::marker(kind, timestamp));
    durable::create_private_dir(&marker)?;
    durable::sync_dir(&lock.dir)?;
    discard_metadata_first(lock, timestamp, &marker, keep_archive)
}

fn discard_metadata_first(lock: &StoreLock, timestamp: Timestamp, marker: &Path, keep_archive: bool) -> Result<()> {
    durable::remove_file(&lock.dir.join(names::metadata(timestamp)))?;
    durable::sync_dir(&lock.dir)?;
    discard(&lock.dir, timestamp, marker, |a| !(keep_archive && is_archive(a)))
}

/// Finishes or undoes what dead runs left. Returns how many there were.
pub fn sweep(lock: &StoreLock) -> Result<u32> {
    let found = catalog::markers(&lock.dir)?;
    for (timestamp, kind, marker) in &found {
        match kind {
            Marker::Staging if lock.dir.join(names::metadata(*timestamp)).exists() => durable::remove_dir_all(marker)?,
            Marker::Staging => discard(&lock.dir, *timestamp, marker, |_| true)?,
            Marker::Removing => discard_metadata_first(lock, *timestamp, marker, false)?,
            Marker::Trimming => discard_metadata_first(lock, *timestamp, marker, true)?,
        }
    }
    pin::sweep(lock)?;
    Ok(u32::try_from(found.len()).unwrap_or(u32::MAX))
}
