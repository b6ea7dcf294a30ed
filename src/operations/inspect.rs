//! verify and inspect: whether a set may be trusted: checksum files, metadata, sizes, hashes, structure, archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::blocks;
use super::types::{Context, FileReport, Inspection};
use crate::backup_set::archive;
use crate::backup_set::checksum;
use crate::backup_set::metadata::{DatabaseRecord, Metadata};
use crate::backup_set::names::{self, Artefact};
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::{Monitor, Phase};
use crate::sqlite::header;
use crate::sqlite::health::{self, Verdict};
use crate::sqlite::raw_file;
use crate::store::catalog::{self, SetEntry};

/// Whether the set is there, complete, undamaged, and has a checksum for every file. `BACKUP_NOT_FOUND` is false too;
/// failures of the surroundings are errors.
pub fn verify(ctx: &Context, timestamp: &str) -> Result<bool> {
    match inspect(ctx, timestamp) {
        Ok(inspection) => Ok(inspection.ok),
        Err(e) if e.code == Code::BackupNotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// The same with every reason. `BACKUP_NOT_FOUND` if there is no such set.
pub fn inspect(ctx: &Context, timestamp: &str) -> Result<Inspection> {
    let timestamp: Timestamp = timestamp.parse()?;
    let dir = ctx.project()?.backup_dir;
    let set = catalog::find(&dir, timestamp)?.ok_or_else(|| not_found(timestamp, &dir))?;
    ctx.monitor.start(Phase::Verify, set.files.values().sum());
    let inspection = inspect_set(&dir, &set, &ctx.monitor)?;
    ctx.monitor.finish();
    Ok(inspection)
}

/// No set of that name, and those of nearly that name.
pub(super) fn not_found(timestamp: Timestamp, dir: &Path) -> Error {
    // The error is that there is no such set; a folder that can't be listed just has no suggestions to give.
    let there = catalog::scan(dir).map(|sets| sets.iter().map(|s| s.timestamp).collect::<Vec<_>>()).unwrap_or_default();
    let hint = match nearest(timestamp, there).as_slice() {
        [] => "there are none at all; `aqe-backup create` makes one".to_owned(),
        near => {
            let near: Vec<String> = near.iter().map(Timestamp::to_string).collect();
            format!("the nearest: {}. listBackups() or `aqe-backup list` shows all", near.join(", "))
        }
    };
    Error::new(Code::BackupNotFound, format!("there is no backup {timestamp} in {}; {hint}", dir.display()))
}

/// Up to three of `there`, the nearest in time first.
fn nearest(timestamp: Timestamp, mut there: Vec<Timestamp>) -> Vec<Timestamp> {
    there.sort_by_key(|t| timestamp.seconds_until(*t).abs());
    there.truncate(3);
    there
}

/// Judges every file of a set. Bytes count in the phase that the caller began.
pub(super) fn inspect_set(dir: &Path, set: &SetEntry, monitor: &Monitor) -> Result<Inspection> {
    let mut warnings = Vec::new();
    let mut files = copies(dir, set).iter().map(|c| inspect_copy(c, monitor, &mut warnings)).collect::<Result<Vec<_>>>()?;
    files.extend(inspect_metadata(set, &mut warnings));
    let promised = set.metadata().is_some_and(|m| m.compressed);
    // What is there and is no regular file is damage; the catalog counts only regular ones.
    if set.archive.is_some() || (promised && durable::is_there(&dir.join(names::archive(set.timestamp)))?) {
        files.push(inspect_archive(dir, set, monitor)?);
    } else if promised {
        // People remove archives to get space back. The copies are the backup, and are judged by themselves.
        warnings.push(format!("{} is gone; the copies beside it are all there is of this backup", names::archive(set.timestamp)));
    }
    let ok = !files.is_empty() && files.iter().all(|f| f.ok);
    Ok(Inspection { timestamp: set.timestamp, ok, files, warnings })
}

/// A copy to be judged, and what is known of it.
pub(super) struct Copy {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name in the set.
    pub file: String,
    /// Where it goes back to.
    pub source: Option<String>,
    /// The metadata's word.
    pub record: Option<DatabaseRecord>,
}

/// The copies that a set has or should have.
pub(super) fn copies(dir: &Path, set: &SetEntry) -> Vec<Copy> {
    copies_of(dir, set.metadata(), set.files.keys().map(String::as_str))
}

/// The same for files that lie anywhere: `metadata` decides, else their names.
pub(super) fn copies_of<'a>(dir: &Path, metadata: Option<&Metadata>, files: impl Iterator<Item = &'a str>) -> Vec<Copy> {
    match metadata.filter(|m| m.databases.is_some()) {
        Some(m) => m
            .databases()
            .iter()
            .map(|d| Copy { path: dir.join(&d.file), file: d.file.clone(), source: Some(d.source.clone()), record: Some(d.clone()) })
            .collect(),
        None => files.map(|f| Copy { path: dir.join(f), file: f.to_owned(), source: catalog::legacy_source(f), record: None }).collect(),
    }
}

/// Whether a copy can be called so: the flat name of a copy, and not a path to somewhere else.
pub(super) fn is_plausible(file: &str) -> bool {
    matches!(names::parse(file), Some((_, Artefact::Database(_)))) && !file.contains(std::path::is_separator)
}

/// Judges one copy by everything that is known of it.
pub(super) fn inspect_copy(copy: &Copy, monitor: &Monitor, warnings: &mut Vec<String>) -> Result<FileReport> {
    let mut problems = Vec::new();
    let mut problem = |code, text: String| problems.push((code, format!("{}: {text}", copy.file)));
    let report = |problems: Vec<(Code, String)>| FileReport {
        file: copy.file.clone(),
        source: copy.source.clone(),
        ok: problems.is_empty(),
        problems,
    };

    if !is_plausible(&copy.file) {
        problem(Code::BackupDamaged, "the metadata names a file that can't belong to a backup".into());
        return Ok(report(problems));
    }
    if durable::is_irregular(&copy.path) {
        problem(Code::BackupDamaged, "is not a regular file".into());
        return Ok(report(problems));
    }
    let mut file = match File::open(&copy.path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            problem(Code::BackupDamaged, "is missing".into());
            return Ok(report(problems));
        }
        other => other.context("open", &copy.path)?,
    };
    let expected = known_hashes(copy, &mut problem)?;
    let (hash, size) = blocks::hash(&mut file, &copy.path, monitor, |n| monitor.advance(copy.source.as_deref().unwrap_or(&copy.file), n))?;
    if let Some(wanted) = copy.record.as_ref().map(|r| r.size).filter(|s| *s != size) {
        problem(Code::BackupDamaged, format!("has {size} bytes instead of {wanted}"));
    }
    if expected.iter().any(|h| *h != hash) {
        problem(Code::ChecksumMismatch, "its bytes are not the ones that were backed up; use another backup, or its archive".into());
    }
    drop(file);
    if copy.record.as_ref().is_some_and(DatabaseRecord::is_damaged) {
        problem(Code::BackupDamaged, "the database was damaged when it was backed up".into());
    } else if copy.record.as_ref().map_or_else(|| begins_like_sqlite(&copy.path), |r| Ok(r.sqlite.is_some()))? {
        match health::check_copy(&copy.path)?.verdict {
            Verdict::Sound => {}
            Verdict::Damaged(why) => problem(Code::BackupDamaged, format!("its structure is damaged: {why}")),
            Verdict::CannotCheck(why) => warnings.push(format!("{}: its structure can't be fully checked here: {why}", copy.file)),
        }
    }
    Ok(report(problems))
}

/// The hashes that a copy should have: the metadata's and the checksum file's. Neither, or a broken one, is a problem.
fn known_hashes(copy: &Copy, problem: &mut impl FnMut(Code, String)) -> Result<Vec<String>> {
    let mut hashes: Vec<String> = copy.record.iter().map(|r| r.sha256.to_ascii_lowercase()).collect();
    match read_sidecar(&copy.path)? {
        Some(Some(hash)) => hashes.push(hash),
        Some(None) => problem(Code::ChecksumMismatch, "its .sha256 file is not a checksum".into()),
        // Not damage, but nothing to trust either: that is what `force` is for.
        None => problem(Code::NeedsForce, "has no checksum file (.sha256), so nothing says that its bytes are the right ones".into()),
    }
    Ok(hashes)
}

/// The hash in the checksum file of `path`; `None`: no such file; `Some(None)`: not a checksum.
pub(super) fn read_sidecar(path: &Path) -> Result<Option<Option<String>>> {
    let mut name = path.as_os_str().to_owned();
    name.push(names::sidecar(""));
    let sidecar = PathBuf::from(name);
    if durable::is_irregular(&sidecar) {
        return Ok(Some(None));
    }
    match fs::read(&sidecar) {
        Ok(bytes) => Ok(Some(checksum::parse_sidecar(&String::from_utf8_lossy(&bytes)))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(e, "read", &sidecar)),
    }
}

/// Whether a copy without metadata is a database.
pub(super) fn begins_like_sqlite(path: &Path) -> Result<bool> {
    let mut start = [0u8; header::MAGIC.len()];
    let mut file = File::open(path).context("open", path)?;
    let size = file.metadata().context("look at", path)?.len();
    Ok(size == 0 || (raw_file::fills(&mut file, &mut start, path)? && start == *header::MAGIC))
}

fn inspect_metadata(set: &SetEntry, warnings: &mut Vec<String>) -> Option<FileReport> {
    let file = names::metadata(set.timestamp);
    let problems = match &set.metadata {
        None => {
            if !set.archive_only() {
                warnings.push("the backup has no metadata (made by an older tool); each file goes back to its usual place".into());
            }
            return None;
        }
        Some(Err(e)) => vec![(e.code, e.message.clone())],
        Some(Ok(m)) if m.timestamp != set.timestamp.to_string() => {
            vec![(Code::BackupDamaged, format!("{file} says that it belongs to backup {}", m.timestamp))]
        }
        Some(Ok(m)) => m.require_known_format().err().map(|e| (e.code, e.message)).into_iter().chain(contradictions(m, set)).collect(),
    };
    Some(FileReport { file, source: None, ok: problems.is_empty(), problems })
}

/// What the metadata says of the set's databases that can't be.
fn contradictions(metadata: &Metadata, set: &SetEntry) -> Option<(Code, String)> {
    let databases = metadata.databases.as_ref()?;
    let sources: BTreeSet<&str> = databases.iter().map(|d| d.source.as_str()).collect();
    let files: BTreeSet<&str> = databases.iter().map(|d| d.file.as_str()).collect();
    let why = if databases.is_empty() {
        "names no database".to_owned()
    } else if sources.len() < databases.len() || files.len() < databases.len() {
        "names a database twice".to_owned()
    } else {
        let unknown = set.files.keys().find(|f| !files.contains(f.as_str()))?;
        format!("does not name {unknown}, which is there")
    };
    Some((Code::BackupDamaged, format!("{} {why}", names::metadata(set.timestamp))))
}

fn inspect_archive(dir: &Path, set: &SetEntry, monitor: &Monitor) -> Result<FileReport> {
    let file = names::archive(set.timestamp);
    let path = dir.join(&file);
    let problems = match check_archive(&path, set, monitor) {
        Ok(()) => Vec::new(),
        Err(e) if matches!(e.code, Code::BackupDamaged | Code::ChecksumMismatch | Code::UnsupportedFormat) => vec![(e.code, e.message)],
        Err(e) => return Err(e),
    };
    Ok(FileReport { file, source: None, ok: problems.is_empty(), problems })
}

/// The archive's own checksum, then every member: against the set's metadata, or against the archive's own.
fn check_archive(path: &Path, set: &SetEntry, monitor: &Monitor) -> Result<()> {
    let wrong = |code, text: &str| Error::new(code, format!("{}: {text}", path.display()));
    if durable::is_irregular(path) {
        return Err(wrong(Code::BackupDamaged, "is not a regular file"));
    }
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(wrong(Code::BackupDamaged, "is missing")),
        Err(e) => return Err(Error::io(e, "open", path)),
        Ok(mut file) => {
            let (hash, _) = blocks::hash(&mut file, path, monitor, |_| ())?;
            match read_sidecar(path)? {
                Some(Some(wanted)) if wanted == hash => {}
                Some(_) => return Err(wrong(Code::ChecksumMismatch, "its bytes are not the ones that were written")),
                // The replaced tools wrote none.
                None if set.metadata().is_none_or(|m| m.format.is_none()) && !set.files.is_empty() => {}
                None => return Err(wrong(Code::BackupDamaged, "has no .sha256 file")),
            }
        }
    }
    check_members(path, set, monitor)
}

fn check_members(path: &Path, set: &SetEntry, monitor: &Monitor) -> Result<()> {
    let wrong = |text: String| Error::new(Code::ChecksumMismatch, format!("{}: {text}", path.display()));
    let mut hashes = BTreeMap::new();
    let mut inner = None;
    let timestamp = archive::read(path, |_, artefact, name, body| {
        if *artefact == Artefact::Metadata {
            inner = Some(Metadata::read(body, name)?);
            return Ok(());
        }
        let (hash, _) = checksum::hash_reader(body, |_| monitor.check().map_err(io::Error::other))
            .map_err(|e| monitor.check().err().unwrap_or_else(|| wrong(format!("{name} can't be read ({e})"))))?;
        hashes.insert(name.to_owned(), hash);
        Ok(())
    })?;
    if timestamp != set.timestamp {
        return Err(wrong(format!("holds backup {timestamp} instead")));
    }
    match (set.metadata(), &inner) {
        (None, Some(m)) if m.format.is_some() && !set.archive_only() => {
            return Err(wrong(format!("has a metadata file for backup {timestamp}, and the folder has not")));
        }
        (Some(ours), Some(theirs)) if ours != theirs => return Err(wrong("has another metadata file than the folder".into())),
        _ => {}
    }
    let metadata = set.metadata().filter(|m| m.databases.is_some()).or(inner.as_ref());
    for record in metadata.map(Metadata::databases).unwrap_or_default() {
        if hashes.get(&record.file) != Some(&record.sha256) {
            return Err(wrong(format!("{} in it is not the one that was backed up", record.file)));
        }
    }
    Ok(())
}
