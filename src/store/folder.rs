//! The names in a backups folder: files of sets, markers, sizes. Takes no lock and opens no file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use crate::backup_set::names::{self, Artefact, Marker};
use crate::backup_set::timestamp::Timestamp;
use crate::error::{Error, IoContext, Result};

/// The files of every set: what each is, and its name.
pub type Listing = BTreeMap<Timestamp, Vec<(Artefact, String)>>;

/// Every file of every set in `dir`; none if there is no such folder.
pub fn artefacts(dir: &Path) -> Result<Listing> {
    let mut found = Listing::new();
    each_entry(dir, |name, entry| {
        if let Some((timestamp, artefact)) = names::parse(&name)
            && is_file(entry)?
        {
            found.entry(timestamp).or_default().push((artefact, name));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Every file of every set with its bytes.
pub fn sizes(dir: &Path) -> Result<Vec<(Artefact, u64)>> {
    let mut found = Vec::new();
    each_entry(dir, |name, entry| {
        if let Some((_, artefact)) = names::parse(&name) {
            found.extend(file_size(entry)?.map(|size| (artefact, size)));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Markers in `dir`.
pub fn markers(dir: &Path) -> Result<Vec<(Timestamp, Marker, PathBuf)>> {
    let mut found = Vec::new();
    each_entry(dir, |name, entry| {
        found.extend(names::parse_marker(&name).map(|(t, marker)| (t, marker, entry.path())));
        Ok(())
    })?;
    Ok(found)
}

/// The names of all sets of which anything is in `dir`, were it a marker.
pub fn timestamps(dir: &Path) -> Result<BTreeSet<Timestamp>> {
    let mut found = BTreeSet::new();
    each_entry(dir, |name, _| {
        found.extend(names::parse(&name).map(|(t, _)| t).or_else(|| names::parse_marker(&name).map(|(t, _)| t)));
        Ok(())
    })?;
    Ok(found)
}

/// Bytes of all files in `dir` and below, whatever they are.
pub fn total_size(dir: &Path) -> Result<u64> {
    let mut total = 0;
    each_entry(dir, |_, entry| {
        match entry.path().symlink_metadata() {
            Ok(m) if m.is_dir() => total += total_size(&entry.path())?,
            Ok(m) => total += m.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(e, "look at", &entry.path())),
        }
        Ok(())
    })?;
    Ok(total)
}

/// Calls `each` for every entry of `dir` whose name is UTF-8 (all of ours are); for none if there is no such folder.
pub(super) fn each_entry(dir: &Path, mut each: impl FnMut(String, &DirEntry) -> Result<()>) -> Result<()> {
    let list = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.context("list", dir)?,
    };
    for entry in list {
        let entry = entry.context("list", dir)?;
        if let Ok(name) = entry.file_name().into_string() {
            each(name, &entry)?;
        }
    }
    Ok(())
}

/// Whether it is a regular file: most file systems say so in the listing itself.
pub(super) fn is_file(entry: &DirEntry) -> Result<bool> {
    match entry.file_type() {
        Ok(kind) => Ok(kind.is_file()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io(e, "look at", &entry.path())),
    }
}

/// Bytes of a regular file; `None` for anything else, and for what has gone meanwhile.
pub(super) fn file_size(entry: &DirEntry) -> Result<Option<u64>> {
    match entry.metadata() {
        Ok(m) => Ok(m.is_file().then_some(m.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(e, "look at", &entry.path())),
    }
}
