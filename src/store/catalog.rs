//! What is in a backups folder. Takes no lock and opens no database; a set that is being made or removed is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::backup_set::checksum;
use crate::backup_set::metadata::{self, DatabaseRecord, Kind, Metadata};
use crate::backup_set::names::{self, Artefact, Marker};
use crate::backup_set::seal::Seal;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::project::Project;

/// One set, or what is left of it.
#[derive(Debug)]
pub struct SetEntry {
    /// Its name.
    pub timestamp: Timestamp,
    /// Copies of databases: file name → bytes.
    pub files: BTreeMap<String, u64>,
    /// Names of the copies that have a checksum file.
    pub sidecars: BTreeSet<String>,
    /// `None`: there is none (legacy, or archive only). `Some(Err)`: there is one and it can't be read.
    pub metadata: Option<Result<Metadata>>,
    /// Whether the metadata is what was written.
    pub seal: Seal,
    /// Bytes of the archive.
    pub archive: Option<u64>,
}

impl SetEntry {
    fn new(timestamp: Timestamp) -> Self {
        SetEntry { timestamp, files: BTreeMap::new(), sidecars: BTreeSet::new(), metadata: None, seal: Seal::None, archive: None }
    }

    /// The metadata, if it can be read.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()?.as_ref().ok()
    }

    /// Nothing but the archive is left.
    pub fn archive_only(&self) -> bool {
        self.files.is_empty() && self.metadata.is_none() && self.archive.is_some()
    }

    /// Whether it is a set of `project`, as far as it says.
    pub fn is_of(&self, project: &Project) -> bool {
        project.stranger(self.metadata().and_then(|m| m.project.as_deref())).is_none()
    }

    /// Kind, `automated` when the set does not say.
    pub fn kind(&self) -> Kind {
        self.metadata().map(Metadata::kind).unwrap_or_default()
    }

    /// Everything that the set should have is there with the right size.
    pub fn complete(&self) -> bool {
        let intact = |d: &DatabaseRecord| self.files.get(&d.file) == Some(&d.size) && self.sidecars.contains(&d.file);
        match &self.metadata {
            _ if !self.seal.is_good() => false,
            Some(Ok(m)) if m.databases.is_some() => m.databases().iter().all(intact),
            Some(Err(_)) => false,
            _ => !self.files.is_empty() || self.archive.is_some(),
        }
    }

    /// The sources that the set holds: as the metadata says, else by custom.
    pub fn sources(&self) -> Vec<String> {
        match self.metadata() {
            Some(m) if m.databases.is_some() => m.databases().iter().map(|d| d.source.clone()).collect(),
            _ => self.files.keys().filter_map(|f| legacy_source(f)).collect(),
        }
    }
}

/// Where the copy called `file` goes back to, in a set whose metadata does not say.
pub fn legacy_source(file: &str) -> Option<String> {
    match names::parse(file)? {
        (_, Artefact::Database(name)) => Some(names::usual_home(&name)),
        _ => None,
    }
}

/// All sets in `dir`, oldest first; none if there is no such folder.
pub fn scan(dir: &Path) -> Result<Vec<SetEntry>> {
    let settled = listed(dir)?.into_values().map(|set| settle(dir, set)).collect::<Result<Vec<_>>>()?;
    Ok(settled.into_iter().flatten().collect())
}

/// The same without those of other projects.
pub fn scan_own(dir: &Path, project: &Project) -> Result<Vec<SetEntry>> {
    Ok(scan(dir)?.into_iter().filter(|set| set.is_of(project)).collect())
}

/// Names and sizes as one look at the folder finds them.
fn listed(dir: &Path) -> Result<BTreeMap<Timestamp, SetEntry>> {
    let mut sets: BTreeMap<Timestamp, SetEntry> = BTreeMap::new();
    for (timestamp, artefact, name, size) in artefacts(dir)? {
        let set = sets.entry(timestamp).or_insert_with(|| SetEntry::new(timestamp));
        match artefact {
            Artefact::Database(_) => drop(set.files.insert(name, size)),
            Artefact::Sidecar(base) => drop(set.sidecars.insert(names::database(&base, timestamp))),
            Artefact::Archive => set.archive = Some(size),
            Artefact::Metadata | Artefact::Seal | Artefact::ArchiveSidecar => {}
        }
    }
    Ok(sets)
}

/// The set called `timestamp`, if there is one.
pub fn find(dir: &Path, timestamp: Timestamp) -> Result<Option<SetEntry>> {
    Ok(scan(dir)?.into_iter().find(|s| s.timestamp == timestamp))
}

/// Decides what a set is. A set being published gets its metadata before its marker goes, so its marker is looked at
/// first; of one being removed the metadata itself becomes the marker, so that is looked at again last.
fn settle(dir: &Path, mut set: SetEntry) -> Result<Option<SetEntry>> {
    let t = set.timestamp;
    if let Some(marker) = going(dir, t)? {
        return Ok(left_of(set, marker));
    }
    let being_made = durable::is_there(&dir.join(names::marker(Marker::Staging, t)))?;
    (set.metadata, set.seal) = read_metadata(dir, t)?;
    if is_moving(dir, &set)? && !being_made {
        return settle(dir, set);
    }
    if set.metadata.is_some() {
        return settle_files(dir, set);
    }
    if being_made {
        return Ok(None);
    }
    // Without metadata it is a legacy set, or one that was swept while we looked.
    let mut gone = Vec::new();
    for name in set.files.keys() {
        if !durable::is_there(&dir.join(name))? {
            gone.push(name.clone());
        }
    }
    set.files.retain(|name, _| !gone.contains(name));
    if !durable::is_there(&dir.join(names::archive(t)))? {
        set.archive = None;
    }
    if let Some(marker) = going(dir, t)? {
        return Ok(left_of(set, marker));
    }
    if set.files.is_empty() {
        // An archive has a record, and its seal, of its own.
        set.seal = Seal::None;
    }
    Ok((!set.files.is_empty() || set.archive.is_some()).then_some(set))
}

/// The files of a set were listed before its record was read: of one that was being published then, some were not there
/// yet. So what seems to lack some is listed again, until two looks agree.
fn settle_files(dir: &Path, set: SetEntry) -> Result<Option<SetEntry>> {
    if set.complete() {
        return Ok(Some(set));
    }
    match listed(dir)?.remove(&set.timestamp) {
        None => Ok(None),
        // The record goes first when a set is removed: as long as it is there, what the last look missed is missing.
        Some(now)
            if (&now.files, &now.sidecars, now.archive) == (&set.files, &set.sidecars, set.archive)
                && durable::is_there(&dir.join(names::metadata(set.timestamp)))? =>
        {
            Ok(Some(set))
        }
        Some(now) => settle(dir, now),
    }
}

/// Whether a set came or went while its record and seal were read, so that one was there and the other not: record and
/// seal go in this order, and the marker is there meanwhile.
fn is_moving(dir: &Path, set: &SetEntry) -> Result<bool> {
    let is_there = |name: String| durable::is_there(&dir.join(name));
    let (record, seal) = (names::metadata(set.timestamp), names::seal(set.timestamp));
    Ok(match set.seal {
        Seal::None | Seal::Sound => false,
        Seal::Alone => going(dir, set.timestamp)?.is_some() || is_there(record)? || !is_there(seal)?,
        Seal::Missing | Seal::Unreadable | Seal::Changed => !is_there(record)?,
    })
}

/// The marker of a set that is being removed, or trimmed to its archive.
fn going(dir: &Path, timestamp: Timestamp) -> Result<Option<Marker>> {
    for marker in [Marker::Removing, Marker::Trimming] {
        if durable::is_there(&dir.join(names::marker(marker, timestamp)))? {
            return Ok(Some(marker));
        }
    }
    Ok(None)
}

fn left_of(mut set: SetEntry, marker: Marker) -> Option<SetEntry> {
    set.files.clear();
    set.sidecars.clear();
    (marker == Marker::Trimming && set.archive.is_some()).then_some(set)
}

/// The record, no more of it than a record may have, and what its seal says.
fn read_metadata(dir: &Path, timestamp: Timestamp) -> Result<(Option<Result<Metadata>>, Seal)> {
    let name = names::metadata(timestamp);
    let path = dir.join(&name);
    let refused = |why: String| Some(Err(Error::new(Code::BackupDamaged, format!("{name} {why}"))));
    if durable::is_irregular(&path) {
        return Ok((refused("is not a regular file".into()), Seal::None));
    }
    let bytes = match fs::File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(Error::io(e, "read", &path)),
        Ok(file) => Some(limited(file, metadata::LIMIT).context("read", &path)?),
    };
    let seal = read_seal(&dir.join(names::seal(timestamp)))?;
    match bytes {
        None => Ok((None, if seal.is_some() { Seal::Alone } else { Seal::None })),
        Some(None) => Ok((Some(Err(metadata::too_big(&name))), Seal::None)),
        Some(Some(bytes)) => {
            let parsed = Metadata::parse(&bytes, &name);
            let says = parsed.as_ref().is_ok_and(Metadata::is_sealed);
            let seal = Seal::judge(&bytes, says, seal.as_deref(), timestamp);
            Ok((Some(parsed), seal))
        }
    }
}

/// `None`: there is none. What is no regular file, or too long, is no checksum.
fn read_seal(path: &Path) -> Result<Option<Vec<u8>>> {
    if durable::is_irregular(path) {
        return Ok(Some(Vec::new()));
    }
    match fs::File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(e, "read", path)),
        Ok(file) => Ok(Some(limited(file, checksum::SIDECAR_LIMIT).context("read", path)?.unwrap_or_default())),
    }
}

/// All of a file; `None` if it has more than `limit` bytes.
pub fn limited(file: fs::File, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, limit + 1), &mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// A file of a set: the set, what it is, its name, its bytes.
pub type Listed = (Timestamp, Artefact, String, u64);

/// Every file of every set in `dir`.
pub fn artefacts(dir: &Path) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    for (name, entry) in entries(dir)? {
        let Some((timestamp, artefact)) = names::parse(&name) else { continue };
        match entry.metadata() {
            Ok(m) if m.is_file() => found.push((timestamp, artefact, name, m.len())),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(e, "look at", &entry.path())),
        }
    }
    Ok(found)
}

/// Markers in `dir`.
pub fn markers(dir: &Path) -> Result<Vec<(Timestamp, Marker, PathBuf)>> {
    let all = entries(dir)?.into_iter();
    Ok(all.filter_map(|(name, entry)| names::parse_marker(&name).map(|(t, m)| (t, m, entry.path()))).collect())
}

/// Entries of `dir` whose names are UTF-8 (all of ours are); none if there is no such folder.
fn entries(dir: &Path) -> Result<Vec<(String, fs::DirEntry)>> {
    let list = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context("list", dir)?,
    };
    let mut found = Vec::new();
    for entry in list {
        let entry = entry.context("list", dir)?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry));
        }
    }
    Ok(found)
}

/// Bytes of all files in `dir` and below, whatever they are.
pub fn total_size(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for (_, entry) in entries(dir)? {
        match entry.path().symlink_metadata() {
            Ok(m) if m.is_dir() => total += total_size(&entry.path())?,
            Ok(m) => total += m.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(e, "look at", &entry.path())),
        }
    }
    Ok(total)
}
