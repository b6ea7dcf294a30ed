//! How sets come and go: staged in a hidden folder, published with their metadata last, removed with it first; and the
//! sweep that finishes what a dead run began.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::folder::{self, Listing};
use super::lock::StoreLock;
use super::{naming, pin};
use crate::backup_set::names::{self, Artefact, Marker};
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Error, IoContext, Result};

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
            let _ = discard_record_first(&self.store, self.timestamp, &self.dir, false);
        }
    }
}

/// Removes the files of `timestamp` for which `which` holds, then the marker.
fn discard(store: &Path, timestamp: Timestamp, marker: &Path, which: impl Fn(&Artefact) -> bool) -> Result<()> {
    for (artefact, name) in folder::artefacts(store)?.remove(&timestamp).unwrap_or_default() {
        if which(&artefact) {
            durable::remove_file(&store.join(name))?;
        }
    }
    durable::sync_dir(store)?;
    remove_marker(marker)?;
    durable::sync_dir(store)
}

/// A set in the making has a folder; of one that goes, it is one of its own files.
fn remove_marker(marker: &Path) -> Result<()> {
    let is_folder = match marker.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.context("look at", marker)?.is_dir(),
    };
    if is_folder { durable::remove_dir_all(marker) } else { durable::remove_file(marker) }
}

fn is_archive(artefact: &Artefact) -> bool {
    matches!(artefact, Artefact::Archive | Artefact::ArchiveSidecar)
}

/// Why a set was not removed, or not all of it.
#[derive(Debug)]
pub struct NotRemoved {
    /// Why.
    pub error: Error,
    /// The set is gone for every reader, and the next run removes what is left of its files. Otherwise it is whole.
    pub is_gone: bool,
}

impl NotRemoved {
    /// Nothing was changed, because of `error`.
    pub fn whole(error: Error) -> Self {
        NotRemoved { error, is_gone: false }
    }

    fn gone(timestamp: Timestamp, error: Error) -> Self {
        let code = error.code;
        let message =
            format!("backup {timestamp} is removed, but not all of its files are; `aqe-backup recover`, or the next run, removes the rest");
        NotRemoved { error: error.wrap(code, message), is_gone: true }
    }
}

impl From<NotRemoved> for Error {
    fn from(e: NotRemoved) -> Self {
        e.error
    }
}

/// Removes a set; with `keep_archive`, all of it but the archive. From the first step on the set is gone for every
/// reader; when it returns that is durable. The first step gives one of the set's own files, the metadata if there is
/// one, the marker's name: that needs no room on a full disk, and can be taken back as long as nothing else is done.
pub fn remove(lock: &StoreLock, timestamp: Timestamp, keep_archive: bool) -> Result<(), NotRemoved> {
    let listed = folder::artefacts(&lock.dir).map_err(NotRemoved::whole)?;
    remove_listed(lock, timestamp, keep_archive, &listed)
}

/// The same, where many sets go and the folder was listed under this lock already: one listing for each of them would
/// take time by the square of their number.
pub fn remove_listed(lock: &StoreLock, timestamp: Timestamp, keep_archive: bool, listed: &Listing) -> Result<(), NotRemoved> {
    let kind = if keep_archive { Marker::Trimming } else { Marker::Removing };
    let marker = lock.dir.join(names::marker(kind, timestamp));
    let mut files = files_going(&lock.dir, timestamp, keep_archive, listed).into_iter();
    let Some(first) = files.next() else { return Ok(()) };
    durable::rename_over(&first, &marker).map_err(NotRemoved::whole)?;
    let mut removed = 0;
    let begun = durable::sync_dir(&lock.dir).and_then(|()| files.try_for_each(|file| durable::remove_file(&file).map(|()| removed += 1)));
    match begun {
        Err(e) if removed == 0 => Err(put_back(lock, timestamp, &marker, &first, e)),
        Err(e) => Err(NotRemoved::gone(timestamp, e)),
        Ok(()) => durable::sync_dir(&lock.dir)
            .and_then(|()| durable::remove_file(&marker))
            .and_then(|()| durable::sync_dir(&lock.dir))
            .map_err(|e| NotRemoved::gone(timestamp, e)),
    }
}

fn put_back(lock: &StoreLock, timestamp: Timestamp, marker: &Path, first: &Path, cause: Error) -> NotRemoved {
    match durable::rename_new(marker, first) {
        // Whether that is on disk already makes no difference to a set that is as whole as it was.
        Ok(()) => NotRemoved::whole(durable::sync_dir(&lock.dir).err().unwrap_or(cause)),
        Err(_) => NotRemoved::gone(timestamp, cause),
    }
}

/// What has to go, the metadata first, then copies.
fn files_going(store: &Path, timestamp: Timestamp, keep_archive: bool, listed: &Listing) -> Vec<PathBuf> {
    let files = listed.get(&timestamp).map(Vec::as_slice).unwrap_or_default();
    let mut going: Vec<&(Artefact, String)> = files.iter().filter(|(a, _)| !(keep_archive && is_archive(a))).collect();
    going.sort_by_key(|(artefact, name)| {
        let rank = match artefact {
            Artefact::Metadata => 0,
            Artefact::Database(_) => 1,
            _ => 2,
        };
        (rank, name)
    });
    going.into_iter().map(|(_, name)| store.join(name)).collect()
}

fn discard_record_first(store: &Path, timestamp: Timestamp, marker: &Path, keep_archive: bool) -> Result<()> {
    durable::remove_file(&store.join(names::metadata(timestamp)))?;
    durable::sync_dir(store)?;
    discard(store, timestamp, marker, |a| !(keep_archive && is_archive(a)))
}

/// Finishes or undoes what dead runs left. Returns how many there were.
pub fn sweep(lock: &StoreLock) -> Result<u32> {
    let found = folder::markers(&lock.dir)?;
    if !found.is_empty() {
        // What the dead run did last is seen here and need not last: a marker must not go before what it stands for.
        durable::sync_dir(&lock.dir)?;
    }
    for (timestamp, kind, marker) in &found {
        match kind {
            Marker::Staging if durable::is_there(&lock.dir.join(names::metadata(*timestamp)))? => durable::remove_dir_all(marker)?,
            Marker::Staging => discard(&lock.dir, *timestamp, marker, |_| true)?,
            Marker::Removing => discard_record_first(&lock.dir, *timestamp, marker, false)?,
            Marker::Trimming => discard_record_first(&lock.dir, *timestamp, marker, true)?,
        }
    }
    pin::sweep(lock)?;
    Ok(u32::try_from(found.len()).unwrap_or(u32::MAX))
}
