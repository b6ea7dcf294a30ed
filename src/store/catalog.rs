//! What is in a backups folder. Takes no lock and opens no database; a set that is being made or removed is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{folder, lanes, record};
use crate::backup_set::metadata::{DatabaseRecord, Kind, Metadata};
use crate::backup_set::names::{self, Artefact, Marker};
use crate::backup_set::seal::Seal;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::Result;
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

    /// It is complete, and has the archive that it says it has.
    fn seems_whole(&self) -> bool {
        self.complete() && (self.archive.is_some() || !self.metadata().is_some_and(|m| m.compressed))
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
    scan_as(dir, Some)
}

/// What `each` makes of the sets, in the same order; it is called on several threads. A set is gone when it was made
/// something else of, so that many take no more room than what is wanted of them.
pub fn scan_as<T: Send>(dir: &Path, each: impl Fn(SetEntry) -> Option<T> + Sync) -> Result<Vec<T>> {
    settle_all(dir, None, each)
}

/// The same without those of other projects.
pub fn scan_own(dir: &Path, project: &Project) -> Result<Vec<SetEntry>> {
    scan_as(dir, |set| set.is_of(project).then_some(set))
}

/// The set called `timestamp`, if there is one. Of the others nothing but their names is looked at.
pub fn find(dir: &Path, timestamp: Timestamp) -> Result<Option<SetEntry>> {
    Ok(settle_all(dir, Some(timestamp), Some)?.pop())
}

/// A set as one look at the folder finds it: names and sizes.
struct Seen {
    set: SetEntry,
    /// It has a marker.
    marked: bool,
    /// It has a record.
    recorded: bool,
    /// Its record has a seal.
    sealed: bool,
}

/// All that one look at the folder finds, or only the set called so.
fn listed(dir: &Path, only: Option<Timestamp>) -> Result<BTreeMap<Timestamp, Seen>> {
    let mut sets: BTreeMap<Timestamp, Seen> = BTreeMap::new();
    let mut marked = BTreeSet::new();
    folder::each_entry(dir, |name, entry| {
        let Some((timestamp, artefact)) = names::parse(&name) else {
            marked.extend(names::parse_marker(&name).map(|(t, _)| t));
            return Ok(());
        };
        if only.is_some_and(|only| only != timestamp) {
            return Ok(());
        }
        let has_bytes = matches!(artefact, Artefact::Database(_) | Artefact::Archive);
        let Some(size) = (if has_bytes { folder::file_size(entry)? } else { folder::is_file(entry)?.then_some(0) }) else {
            return Ok(());
        };
        let seen =
            sets.entry(timestamp).or_insert_with(|| Seen { set: SetEntry::new(timestamp), marked: false, recorded: false, sealed: false });
        match artefact {
            Artefact::Database(_) => drop(seen.set.files.insert(name, size)),
            Artefact::Sidecar(base) => drop(seen.set.sidecars.insert(names::database(&base, timestamp))),
            Artefact::Archive => seen.set.archive = Some(size),
            Artefact::Seal => seen.sealed = true,
            Artefact::Metadata => seen.recorded = true,
            Artefact::ArchiveSidecar => {}
        }
        Ok(())
    })?;
    for timestamp in marked {
        sets.entry(timestamp).and_modify(|seen| seen.marked = true);
    }
    Ok(sets)
}

/// What became clear of a set.
enum Step<T> {
    /// All: what is made of it, or that it is none (or none that is wanted).
    Settled(Option<(Timestamp, T)>),
    /// It has a record, and seems to lack files.
    Doubtful(Box<SetEntry>),
}

/// Decides what each set is. The files of a set were listed before its record was read: of one that was being published
/// then, some were not there yet. So those that seem to lack some are listed again, all with one look, until two looks
/// agree.
fn settle_all<T: Send>(dir: &Path, only: Option<Timestamp>, each: impl Fn(SetEntry) -> Option<T> + Sync) -> Result<Vec<T>> {
    let made = |set: SetEntry| {
        let timestamp = set.timestamp;
        each(set).map(|made| (timestamp, made))
    };
    let mut open: Vec<Seen> = listed(dir, only)?.into_values().collect();
    let mut found = Vec::new();
    while !open.is_empty() {
        let steps = lanes::each(open, |seen| {
            Ok(match settle(dir, seen)? {
                Step::Settled(set) => Step::Settled(set.and_then(|(_, set)| made(set))),
                Step::Doubtful(set) => Step::Doubtful(set),
            })
        })?;
        let mut doubtful = Vec::new();
        for step in steps {
            match step {
                Step::Settled(set) => found.extend(set),
                Step::Doubtful(set) => doubtful.push(*set),
            }
        }
        let mut now = if doubtful.is_empty() { BTreeMap::new() } else { listed(dir, only)? };
        open = Vec::new();
        for set in doubtful {
            match now.remove(&set.timestamp) {
                None => {}
                Some(again) if agree(dir, &set, &again.set)? => found.extend(made(set)),
                Some(again) => open.push(again),
            }
        }
    }
    found.sort_by_key(|(timestamp, _)| *timestamp);
    Ok(found.into_iter().map(|(_, made)| made).collect())
}

/// Whether a second look finds what the first did. The record goes first when a set is removed: as long as it is there,
/// what both looks missed is missing.
fn agree(dir: &Path, then: &SetEntry, now: &SetEntry) -> Result<bool> {
    let same = (&now.files, &now.sidecars, now.archive) == (&then.files, &then.sidecars, then.archive);
    Ok(same && durable::is_there(&dir.join(names::metadata(then.timestamp)))?)
}

fn settled(set: Option<SetEntry>) -> Step<SetEntry> {
    Step::Settled(set.map(|set| (set.timestamp, set)))
}

/// Decides what a set is. The record is the last thing to come and the first to go: where it is there after all files
/// were, the set was whole, and that is the rule.
fn settle(dir: &Path, seen: Seen) -> Result<Step<SetEntry>> {
    let mut set = seen.set;
    if seen.recorded && !seen.marked {
        (set.metadata, set.seal) = record::read(dir, set.timestamp, seen.sealed)?;
        if set.metadata.is_some() && set.seems_whole() {
            return Ok(settled(Some(set)));
        }
    }
    settle_slowly(dir, set)
}

/// Decides what a set is that lacks something, or is on the move. One being published gets its record before its marker
/// goes, so its marker is looked at first; of one being removed the record itself becomes the marker, so that is looked
/// at again last.
fn settle_slowly(dir: &Path, mut set: SetEntry) -> Result<Step<SetEntry>> {
    let t = set.timestamp;
    let being_made = loop {
        if let Some(marker) = going(dir, t)? {
            return Ok(settled(left_of(set, marker)));
        }
        let being_made = durable::is_there(&dir.join(names::marker(Marker::Staging, t)))?;
        (set.metadata, set.seal) = record::read(dir, t, true)?;
        if being_made || !is_moving(dir, &set)? {
            break being_made;
        }
    };
    if set.metadata.is_some() {
        return Ok(if set.seems_whole() { settled(Some(set)) } else { Step::Doubtful(Box::new(set)) });
    }
    if being_made {
        return Ok(settled(None));
    }
    // Without a record it is a legacy set, or one that was swept while we looked.
    for (name, size) in std::mem::take(&mut set.files) {
        if durable::is_there(&dir.join(&name))? {
            set.files.insert(name, size);
        }
    }
    if !durable::is_there(&dir.join(names::archive(t)))? {
        set.archive = None;
    }
    if let Some(marker) = going(dir, t)? {
        return Ok(settled(left_of(set, marker)));
    }
    if set.files.is_empty() {
        // An archive has a record, and its seal, of its own.
        set.seal = Seal::None;
    }
    Ok(settled((!set.files.is_empty() || set.archive.is_some()).then_some(set)))
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
    // What was read of it before it went.
    (set.metadata, set.seal) = (None, Seal::None);
    (marker == Marker::Trimming && set.archive.is_some()).then_some(set)
}
