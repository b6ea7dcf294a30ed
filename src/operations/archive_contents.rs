//! What an archive holds and whether it hangs together: one reading and one judgement, for verify and for restore.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use super::archive_copy;
use super::copy_check;
use super::record_check;
use crate::backup_set::archive::{self, Named};
use crate::backup_set::metadata::{DatabaseRecord, Metadata};
use crate::backup_set::names::{self, Artefact};
use crate::backup_set::seal::Seal;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Monitor;
use crate::project::Project;
use crate::store::{catalog, space};

/// No deflate stream grows by more than 1032 times; a member that claims more is not there.
const MOST_GROWTH: u64 = 1100;

/// All of an archive, read once.
pub(super) struct Contents {
    pub timestamp: Timestamp,
    /// Its own record.
    pub metadata: Option<Metadata>,
    /// Whether that is what was written.
    pub seal: Seal,
    /// Copies: name → bytes and hash.
    pub copies: BTreeMap<String, (u64, String)>,
    /// Checksum files: name of the copy → text.
    sidecars: BTreeMap<String, Vec<u8>>,
    /// Of the archive itself, every byte of it.
    pub sha256: String,
}

/// Reads every member, writing nothing. `known`: the record beside it, whose sizes no member may exceed.
pub(super) fn read(path: &Path, known: Option<&Metadata>, monitor: &Monitor) -> Result<Contents> {
    let packed = path.metadata().context("look at", path)?.len();
    let most = |name: &str| known.and_then(|m| m.databases().iter().find(|d| d.file == name)).map(|d| d.size);
    go_through(path, None, monitor, &|member| require_at_most(most(member.name).unwrap_or(u64::MAX).min(most_of(packed)), path, member))
}

/// What an archive of `packed` bytes can hold at most.
fn most_of(packed: u64) -> u64 {
    packed.saturating_mul(MOST_GROWTH)
}

fn require_at_most(most: u64, path: &Path, member: &Named<'_>) -> Result<()> {
    if member.size <= most || !matches!(member.artefact, Artefact::Database(_)) {
        return Ok(());
    }
    let (name, size) = (member.name, member.size);
    let message = format!("archive {} is damaged: {name:?} in it claims to have {size} bytes; use another backup", path.display());
    Err(Error::new(Code::BackupDamaged, message))
}

/// The members that are read as a whole: all but the copies.
#[derive(Default)]
struct Small {
    record: Option<Vec<u8>>,
    seal: Option<Vec<u8>>,
    sidecars: BTreeMap<String, Vec<u8>>,
}

impl Small {
    /// The bytes of a member, which are kept; `None` if it is a copy, which stays unread.
    fn take(&mut self, path: &Path, member: &Named<'_>, body: &mut dyn Read) -> Result<Option<&[u8]>> {
        Ok(match &member.artefact {
            Artefact::Metadata => Some(self.record.insert(Metadata::read_bytes(body, member.name)?)),
            Artefact::Seal => Some(self.seal.insert(whole(path, body)?)),
            Artefact::Sidecar(base) => {
                let file = names::database(base, member.timestamp);
                let text = whole(path, body)?;
                self.sidecars.insert(file.clone(), text);
                self.sidecars.get(&file).map(Vec::as_slice)
            }
            Artefact::Database(_) | Artefact::Archive | Artefact::ArchiveSidecar => None,
        })
    }

    fn metadata(&self, path: &Path, timestamp: Timestamp) -> Result<Option<Metadata>> {
        let metadata = self.record.as_deref().map(|bytes| Metadata::parse(bytes, &names::metadata(timestamp))).transpose();
        metadata.map_err(|e| {
            let code = e.code;
            e.wrap(code, format!("archive {}", path.display()))
        })
    }
}

/// Where an archive is unpacked to, and what it said of itself before.
struct Destination<'a> {
    dir: &'a Path,
    outline: &'a Outline,
}

/// Reads every member of which `allow` allows the size, and writes it if there is a place for it.
fn go_through(path: &Path, into: Option<&Destination>, monitor: &Monitor, allow: &dyn Fn(&Named<'_>) -> Result<()>) -> Result<Contents> {
    let (mut small, mut copies) = (Small::default(), BTreeMap::new());
    let read = archive::read_hashed_while(path, &go_on(monitor), |member, body| {
        monitor.check()?;
        allow(member)?;
        let to = into.map(|into| into.dir.join(member.name));
        if let Some(bytes) = small.take(path, member, body)? {
            return to.map_or(Ok(()), |to| durable::write_new(&to, bytes));
        }
        let label = into.map(|into| into.outline.source_of(member.name));
        let saw = |bytes| label.iter().for_each(|label| monitor.advance(label, bytes));
        let copy = archive_copy::take(body, to.as_deref(), monitor, &|e| broken(path, e), &saw)?;
        copies.insert(member.name.to_owned(), copy);
        Ok(())
    });
    let (timestamp, sha256) = read.map_err(|e| monitor.check().err().unwrap_or(e))?;
    let metadata = small.metadata(path, timestamp)?;
    let seal = match (&small.record, &metadata) {
        (Some(bytes), Some(m)) => Seal::judge(bytes, m.is_sealed(), small.seal.as_deref(), timestamp),
        _ if small.seal.is_some() => Seal::Alone,
        _ => Seal::None,
    };
    Ok(Contents { timestamp, metadata, seal, copies, sidecars: small.sidecars, sha256 })
}

fn go_on(monitor: &Monitor) -> impl Fn() -> io::Result<()> {
    || monitor.check().map_err(io::Error::other)
}

fn whole(path: &Path, body: &mut dyn Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes).map_err(|e| broken(path, e))?;
    Ok(bytes)
}

fn broken(path: &Path, e: io::Error) -> Error {
    Error::new(Code::BackupDamaged, format!("archive {} is damaged: {e}; use another backup", path.display())).caused_by(e)
}

/// What an archive says of itself, known before anything is written: names, sizes, its record. None of it is proven.
#[derive(Default)]
struct Outline {
    sizes: BTreeMap<String, u64>,
    small: Small,
    metadata: Option<Metadata>,
}

impl Outline {
    /// Of an archive of ours in a moment; one that other tools have packed has to be unpacked for it.
    fn of(path: &Path, monitor: &Monitor) -> Result<Self> {
        let most = most_of(path.metadata().context("look at", path)?.len());
        let mut outline = Outline::default();
        let surveyed = archive::survey(path, &go_on(monitor), |member, body| outline.note(path, most, member, body));
        let timestamp = match surveyed {
            Ok(None) => {
                outline = Outline::default();
                archive::read_hashed_while(path, &go_on(monitor), |member, body| outline.note(path, most, member, body)).map(|(t, _)| t)
            }
            Ok(Some(timestamp)) => Ok(timestamp),
            Err(e) => Err(e),
        };
        let timestamp = timestamp.map_err(|e| monitor.check().err().unwrap_or(e))?;
        outline.metadata = outline.small.metadata(path, timestamp)?;
        Ok(outline)
    }

    fn note(&mut self, path: &Path, most: u64, member: &Named<'_>, body: &mut dyn Read) -> Result<()> {
        require_at_most(most, path, member)?;
        self.sizes.insert(member.name.to_owned(), member.size);
        self.small.take(path, member, body).map(drop)
    }

    /// Where the copy called `file` goes back to.
    fn source_of(&self, file: &str) -> String {
        let recorded = self.metadata.iter().flat_map(Metadata::databases).find(|d| d.file == file).map(|d| d.source.clone());
        recorded.or_else(|| catalog::legacy_source(file)).unwrap_or_else(|| file.to_owned())
    }

    /// No copy is longer than its record says, whether or not anything is verified, and all of it fits.
    fn require_room(&self, path: &Path, dir: &Path) -> Result<()> {
        let is_longer = |d: &&DatabaseRecord| self.sizes.get(&d.file).is_some_and(|size| *size > d.size);
        if let Some(d) = self.metadata.iter().flat_map(Metadata::databases).find(is_longer) {
            let message =
                format!("archive {} is damaged: {} in it is longer than its record says; use another backup", path.display(), d.file);
            return Err(Error::new(Code::BackupDamaged, message));
        }
        let all = self.sizes.values().try_fold(0u64, |sum, size| sum.checked_add(*size)).unwrap_or(u64::MAX);
        let (needed, free) = (space::with_margin(all), space::free(dir)?);
        if free >= needed {
            return Ok(());
        }
        let message = format!(
            "what is in {} needs up to {needed} bytes to be unpacked, and only {free} are free in {}; free some space",
            path.display(),
            dir.display()
        );
        Err(Error::new(Code::NoSpace, message))
    }
}

/// Reads every member and writes it into the new folder `dir`, at once. Nothing is written before it is known that no member
/// is longer than the archive's record says and that all of them fit, and no member is then longer than it said. The hashes
/// are those of what was unpacked: they judge the archive, and not what the disk has made of the files in `dir`. On an error
/// there is no `dir`.
pub(super) fn unpack(path: &Path, dir: &Path, monitor: &Monitor) -> Result<Contents> {
    let outline = Outline::of(path, monitor)?;
    durable::remove_dir_all(dir)?;
    durable::create_private_dir(dir)?;
    let unpacked = outline.require_room(path, dir).and_then(|()| {
        let into = Destination { dir, outline: &outline };
        let contents = go_through(path, Some(&into), monitor, &|member| match outline.sizes.get(member.name) {
            Some(size) if *size == member.size => Ok(()),
            _ => Err(changed(path, member.name)),
        })?;
        if contents.metadata != outline.metadata {
            return Err(changed(path, &names::metadata(contents.timestamp)));
        }
        durable::sync_dir(dir).map(|()| contents)
    });
    if unpacked.is_err() {
        // The room may be needed. The failure that matters is the first; the whole working folder goes in the end.
        let _ = durable::remove_dir_all(dir);
    }
    unpacked
}

fn changed(path: &Path, name: &str) -> Error {
    broken(path, io::Error::other(format!("{name:?} in it changed while it was read")))
}

impl Contents {
    /// The hash of the copy called `name`, as it came out of the archive.
    pub fn hash_of(&self, name: &str) -> Option<String> {
        self.copies.get(name).map(|(_, hash)| hash.clone())
    }

    /// What is wrong in it, but for what is only unproven.
    pub fn problems(&self, path: &Path, project: &Project) -> Vec<(Code, String)> {
        let shown = path.display();
        let mut found = Vec::new();
        if let Some(m) = &self.metadata {
            let judged = record_check::problem(m, self.timestamp, self.copies.keys().map(String::as_str), project);
            found.extend(judged.map(|(code, why)| (code, format!("{shown}: {why}"))));
        }
        found.extend(
            self.seal.problem(self.timestamp).filter(|(code, _)| *code != Code::NeedsForce).map(|(c, why)| (c, format!("{shown}: {why}"))),
        );
        for d in self.metadata.iter().flat_map(Metadata::databases) {
            let wanted = (d.size, d.sha256.to_ascii_lowercase());
            match self.copies.get(&d.file) {
                Some(copy) if *copy == wanted => {}
                Some(_) => found.push((Code::ChecksumMismatch, format!("{shown}: {} in it is not the one that was backed up", d.file))),
                None => found.push((Code::BackupDamaged, format!("{shown}: {} is not in it", d.file))),
            }
        }
        let strict = self.is_sealed();
        for (file, text) in self.sidecars.iter().filter(|(file, _)| self.copies.contains_key(*file)) {
            let hash = copy_check::parse_sidecar(text, file, strict);
            if hash.as_ref() != self.copies.get(file).map(|c| &c.1) {
                found.push((Code::ChecksumMismatch, format!("{shown}: the checksum file of {file} in it is not one of {file}")));
            }
        }
        if self.copies.is_empty() {
            found.push((Code::BackupDamaged, format!("{shown} holds no database; use another backup")));
        }
        found
    }

    /// The copies without a checksum file in it.
    pub fn bare(&self) -> impl Iterator<Item = &String> {
        self.copies.keys().filter(|file| !self.sidecars.contains_key(*file))
    }

    /// What nothing in it speaks for: `NEEDS_FORCE`.
    pub fn unproven(&self, path: &Path) -> Vec<(Code, String)> {
        let bare = self.bare().map(|file| (Code::NeedsForce, format!("{}: {file} in it has no checksum file (.sha256)", path.display())));
        bare.chain(self.unsealed(path)).collect()
    }

    /// That its record lacks the seal that it says it has.
    pub fn unsealed(&self, path: &Path) -> Option<(Code, String)> {
        let missing = self.seal.problem(self.timestamp).filter(|(code, _)| *code == Code::NeedsForce);
        missing.map(|(code, why)| (code, format!("{}: {why}", path.display())))
    }

    pub fn is_sealed(&self) -> bool {
        self.metadata.as_ref().is_some_and(Metadata::is_sealed)
    }
}
