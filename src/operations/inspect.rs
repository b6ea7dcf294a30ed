//! verify and inspect: whether a set may be trusted: checksum files, metadata, sizes, hashes, structure, archive.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::archive_contents::{self, Contents};
use super::blocks;
use super::intent::read_header;
use super::record_check;
use super::types::{Context, FileReport, Inspection};
use crate::backup_set::checksum;
use crate::backup_set::metadata::{DatabaseRecord, Metadata};
use crate::backup_set::names;
use crate::backup_set::seal::Seal;
use crate::backup_set::timestamp::Timestamp;
use crate::direct_io;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::{Monitor, Phase};
use crate::project::Project;
use crate::sqlite::header;
use crate::sqlite::health::{self, Verdict};
use crate::sqlite::raw_file;
use crate::store::catalog::{self, SetEntry};
use crate::store::record;

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
    let project = ctx.project()?;
    let dir = &project.backup_dir;
    let set = catalog::find(dir, timestamp)?.ok_or_else(|| not_found(timestamp, dir))?;
    ctx.monitor.start(Phase::Verify, set.files.values().sum());
    let inspection = inspect_set(&project, &set, &ctx.monitor)?;
    ctx.monitor.finish();
    Ok(inspection)
}

/// The same of every set there is, newest first. One that is removed meanwhile is left out.
pub fn inspect_all(ctx: &Context) -> Result<Vec<Inspection>> {
    let project = ctx.project()?;
    let mut sets = catalog::scan(&project.backup_dir)?;
    sets.reverse();
    ctx.monitor.start(Phase::Verify, sets.iter().flat_map(|s| s.files.values()).sum());
    let mut all = sets.iter().map(|set| inspect_set(&project, set, &ctx.monitor)).collect::<Result<Vec<_>>>()?;
    if all.iter().any(|i| !i.ok) {
        // They were listed long ago. What a clean-up has removed since, or cut down to its archive, is not damaged: all are
        // listed once more, not each by itself.
        let now: HashMap<Timestamp, SetEntry> = catalog::scan(&project.backup_dir)?.into_iter().map(|s| (s.timestamp, s)).collect();
        all = all
            .into_iter()
            .zip(&sets)
            .filter_map(|(i, then)| again(&project, i, then, &now, &ctx.monitor).transpose())
            .collect::<Result<_>>()?;
    }
    ctx.monitor.finish();
    Ok(all)
}

/// What is to be said of a set that was seen as `then` and is seen `now`.
fn again(
    project: &Project,
    inspection: Inspection,
    then: &SetEntry,
    now: &HashMap<Timestamp, SetEntry>,
    monitor: &Monitor,
) -> Result<Option<Inspection>> {
    let Some(set) = now.get(&then.timestamp) else { return Ok(inspection.ok.then_some(inspection)) };
    let same =
        (&set.files, &set.sidecars, set.archive, set.archive_only()) == (&then.files, &then.sidecars, then.archive, then.archive_only());
    if inspection.ok || same { Ok(Some(inspection)) } else { inspect_set(project, set, monitor).map(Some) }
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
pub(super) fn inspect_set(project: &Project, set: &SetEntry, monitor: &Monitor) -> Result<Inspection> {
    let dir = &project.backup_dir;
    let mut warnings = Vec::new();
    let mut files = copies(dir, set).iter().map(|c| inspect_copy(c, monitor, &mut warnings)).collect::<Result<Vec<_>>>()?;
    files.extend(inspect_metadata(set, project, &mut warnings));
    let promised = set.metadata().is_some_and(|m| m.compressed);
    // What is there and is no regular file is damage; the catalog counts only regular ones.
    if set.archive.is_some() || (promised && durable::is_there(&dir.join(names::archive(set.timestamp)))?) {
        files.push(inspect_archive(project, set, &mut warnings, monitor)?);
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
    /// The set it is of.
    pub timestamp: Timestamp,
    /// Whether its set was made by a version that writes checksum files to the letter.
    pub strict: bool,
    /// Bytes and hash, if they are known from the archive out of which it has just been written.
    pub unpacked: Option<(u64, String)>,
}

/// The copies that a set has or should have.
pub(super) fn copies(dir: &Path, set: &SetEntry) -> Vec<Copy> {
    copies_of(dir, set.timestamp, set.metadata(), set.files.keys().map(String::as_str))
}

/// The same for files that lie anywhere: `metadata` decides, else their names.
pub(super) fn copies_of<'a>(
    dir: &Path,
    timestamp: Timestamp,
    metadata: Option<&Metadata>,
    files: impl Iterator<Item = &'a str>,
) -> Vec<Copy> {
    let strict = metadata.is_some_and(Metadata::is_sealed);
    let copy = |file: &str, source, record| Copy {
        path: dir.join(file),
        file: file.to_owned(),
        source,
        record,
        timestamp,
        strict,
        unpacked: None,
    };
    match metadata.filter(|m| m.databases.is_some()) {
        Some(m) => m.databases().iter().map(|d| copy(&d.file, Some(d.source.clone()), Some(d.clone()))).collect(),
        None => files.map(|f| copy(f, catalog::legacy_source(f), None)).collect(),
    }
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

    if !record_check::is_plausible(&copy.file, copy.timestamp) {
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
    // What is judged is what the disk has. Not before it is clear that this is a copy: opening and closing a live database that
    // a record names would take the application's locks away.
    direct_io::forget_cached(&file, 0);
    let expected = known_hashes(copy, &mut problem)?;
    let is_damaged = copy.record.as_ref().is_some_and(DatabaseRecord::is_damaged);
    let is_sqlite = copy.record.as_ref().map_or_else(|| begins_like_sqlite(&copy.path), |r| Ok(r.sqlite.is_some()))?;
    let label = copy.source.as_deref().unwrap_or(&copy.file);
    let hash = || match &copy.unpacked {
        // Whatever else the disk has made of it is found out before it is put back.
        Some((_, hash)) => Ok((hash.clone(), file.metadata().context("look at", &copy.path)?.len())),
        None => blocks::hash(&mut file, &copy.path, monitor, |n| monitor.advance(label, n)),
    };
    let check = || {
        (is_sqlite && !is_damaged)
            .then(|| blocks::read_in_order(&copy.path, monitor).and_then(|()| health::check_copy(&copy.path)))
            .transpose()
    };
    let (hashed, checked) = blocks::both(hash, check)?;
    let (hash, size) = hashed?;
    if let Some(wanted) = copy.record.as_ref().map(|r| r.size).filter(|s| *s != size) {
        problem(Code::BackupDamaged, format!("has {size} bytes instead of {wanted}"));
    }
    if expected.iter().any(|h| *h != hash) {
        problem(Code::ChecksumMismatch, "its bytes are not the ones that were backed up; use another backup, or its archive".into());
    }
    if is_damaged {
        problem(Code::BackupDamaged, "the database was damaged when it was backed up".into());
    } else if let Some(checked) = checked? {
        match &checked.verdict {
            Verdict::Sound => {}
            Verdict::Damaged(why) => problem(Code::BackupDamaged, format!("its structure is damaged: {why}")),
            Verdict::CannotCheck(why) => warnings.push(format!("{}: its structure can't be fully checked here: {why}", copy.file)),
        }
        let record = copy.record.as_ref().and_then(|r| r.sqlite.as_ref());
        if let Some(record) = record.filter(|_| problems.is_empty()) {
            let denied = record_check::denied(record, read_header(&copy.path)?.as_ref(), size, &checked);
            problems.extend(denied.map(|why| (Code::BackupDamaged, format!("{}: {why}", copy.file))));
        }
    }
    Ok(report(problems))
}

/// The hashes that a copy should have: the metadata's and the checksum file's. Neither, or a broken one, is a problem.
fn known_hashes(copy: &Copy, problem: &mut impl FnMut(Code, String)) -> Result<Vec<String>> {
    let mut hashes: Vec<String> = copy.record.iter().map(|r| r.sha256.to_ascii_lowercase()).collect();
    match read_sidecar(&copy.path, copy.strict)? {
        Some(Some(hash)) => hashes.push(hash),
        Some(None) => problem(Code::ChecksumMismatch, "its .sha256 file is not a checksum of it".into()),
        // Not damage, but nothing to trust either: that is what `force` is for.
        None => problem(Code::NeedsForce, "has no checksum file (.sha256), so nothing says that its bytes are the right ones".into()),
    }
    Ok(hashes)
}

/// The hash in the checksum file of `path`; `None`: no such file; `Some(None)`: not a checksum, or with `strict` not one
/// of that file.
pub(super) fn read_sidecar(path: &Path, strict: bool) -> Result<Option<Option<String>>> {
    let mut name = path.as_os_str().to_owned();
    name.push(names::sidecar(""));
    let sidecar = PathBuf::from(name);
    if durable::is_irregular(&sidecar) {
        return Ok(Some(None));
    }
    let file = match File::open(&sidecar) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.context("read", &sidecar)?,
    };
    let bytes = record::limited(file, checksum::SIDECAR_LIMIT).context("read", &sidecar)?;
    let of = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Some(bytes.and_then(|bytes| parse_sidecar(&bytes, &of, strict))))
}

/// The hash in a checksum file with these bytes.
pub(super) fn parse_sidecar(bytes: &[u8], of: &str, strict: bool) -> Option<String> {
    if strict {
        return checksum::parse_sidecar_of(std::str::from_utf8(bytes).ok()?, of);
    }
    checksum::parse_sidecar(&String::from_utf8_lossy(bytes))
}

/// Whether a copy without metadata is a database.
pub(super) fn begins_like_sqlite(path: &Path) -> Result<bool> {
    let mut start = [0u8; header::MAGIC.len()];
    let mut file = File::open(path).context("open", path)?;
    let size = file.metadata().context("look at", path)?.len();
    Ok(size == 0 || (raw_file::fills(&mut file, &mut start, path)? && start == *header::MAGIC))
}

fn inspect_metadata(set: &SetEntry, project: &Project, warnings: &mut Vec<String>) -> Option<FileReport> {
    let file = names::metadata(set.timestamp);
    let mut problems = match &set.metadata {
        None if set.seal == Seal::None => {
            if !set.archive_only() {
                warnings.push("the backup has no metadata (made by an older tool); each file goes back to its usual place".into());
            }
            return None;
        }
        None => Vec::new(),
        Some(Err(e)) => vec![(e.code, e.message.clone())],
        Some(Ok(m)) => record_check::problem(m, set.timestamp, set.files.keys().map(String::as_str), project).into_iter().collect(),
    };
    problems.extend(set.seal.problem(set.timestamp));
    Some(FileReport { file, source: None, ok: problems.is_empty(), problems })
}

fn inspect_archive(project: &Project, set: &SetEntry, warnings: &mut Vec<String>, monitor: &Monitor) -> Result<FileReport> {
    let file = names::archive(set.timestamp);
    let problems = match check_archive(project, set, warnings, monitor) {
        Ok(problems) => problems,
        Err(e) if matches!(e.code, Code::BackupDamaged | Code::ChecksumMismatch | Code::UnsupportedFormat) => vec![(e.code, e.message)],
        Err(e) => return Err(e),
    };
    Ok(FileReport { file, source: None, ok: problems.is_empty(), problems })
}

/// The archive's own checksum, then every member: against the archive's own record, and the one beside it.
fn check_archive(project: &Project, set: &SetEntry, warnings: &mut Vec<String>, monitor: &Monitor) -> Result<Vec<(Code, String)>> {
    let path = &project.backup_dir.join(names::archive(set.timestamp));
    if durable::is_irregular(path) {
        return Err(wrong(path, Code::BackupDamaged, "is not a regular file"));
    }
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(wrong(path, Code::BackupDamaged, "is missing")),
        other => drop(other.context("open", path)?),
    }
    if set.archive_only() {
        return check_only_archive(path, project, set, warnings, monitor);
    }
    match archive_contents::read(path, set.metadata().filter(|_| set.seal.is_good()), monitor) {
        Ok(contents) => judge_contents(path, project, set, &contents),
        Err(e) if e.code == Code::Abort => Err(e),
        // Another archive than its checksum file speaks of may be damaged in any way.
        Err(e) => Err(check_own_hash(path, set, &hash_of(path, monitor)?).err().unwrap_or(e)),
    }
}

fn hash_of(path: &Path, monitor: &Monitor) -> Result<String> {
    let mut file = File::open(path).context("open", path)?;
    blocks::hash(&mut file, path, monitor, |_| ()).map(|(hash, _)| hash)
}

fn wrong(path: &Path, code: Code, text: &str) -> Error {
    Error::new(code, format!("{}: {text}", path.display()))
}

/// Against the archive's checksum file.
fn check_own_hash(path: &Path, set: &SetEntry, hash: &str) -> Result<()> {
    match read_sidecar(path, set.metadata().is_some_and(Metadata::is_sealed))? {
        Some(Some(wanted)) if wanted == hash => Ok(()),
        Some(_) => Err(wrong(path, Code::ChecksumMismatch, "its bytes are not the ones that were written")),
        // The replaced tools wrote none.
        None if set.metadata().is_none_or(|m| m.format.is_none()) && !set.files.is_empty() => Ok(()),
        None => Err(wrong(path, Code::BackupDamaged, "has no .sha256 file")),
    }
}

fn judge_contents(path: &Path, project: &Project, set: &SetEntry, contents: &Contents) -> Result<Vec<(Code, String)>> {
    check_own_hash(path, set, &contents.sha256)?;
    if contents.timestamp != set.timestamp {
        return Err(wrong(path, Code::ChecksumMismatch, &format!("holds backup {} instead", contents.timestamp)));
    }
    if contents.is_sealed() && read_sidecar(path, true)?.is_none_or(|hash| hash.is_none()) {
        return Err(wrong(path, Code::ChecksumMismatch, "its .sha256 file is not a checksum of it"));
    }
    let mut problems = contents.problems(path, project);
    problems.extend(contents.unproven(path));
    problems.extend(compare_records(path, set, contents));
    Ok(problems)
}

/// Where the archive has the only copies, their structure too: unpacked outside the backups folder, which is not ours to change
/// without its lock.
fn check_only_archive(
    path: &Path,
    project: &Project,
    set: &SetEntry,
    warnings: &mut Vec<String>,
    monitor: &Monitor,
) -> Result<Vec<(Code, String)>> {
    let work = tempfile::tempdir().context("create a folder in", &std::env::temp_dir())?;
    let dir = work.path().join("unpacked");
    let contents = match archive_contents::unpack(path, &dir, monitor) {
        Ok(contents) => contents,
        Err(e) if e.code == Code::Abort => return Err(e),
        // Whatever it was, a full disk for instance: what can be seen without unpacking comes first.
        Err(e) => {
            let hash = hash_of(path, monitor)?;
            check_own_hash(path, set, &hash)?;
            let problems = judge_contents(path, project, set, &archive_contents::read(path, None, monitor)?)?;
            return if problems.is_empty() { Err(e) } else { Ok(problems) };
        }
    };
    let mut problems = judge_contents(path, project, set, &contents)?;
    if problems.is_empty() {
        for mut copy in copies_of(&dir, contents.timestamp, contents.metadata.as_ref(), contents.copies.keys().map(String::as_str)) {
            // The hash is that of what came out of the archive, which is what is judged here, not the disk that it was put on.
            copy.unpacked = contents.copies.get(&copy.file).cloned();
            problems.extend(inspect_copy(&copy, monitor, warnings)?.problems);
        }
    }
    Ok(problems)
}

/// The folder's record, and what it says of the copies, against those in the archive.
fn compare_records(path: &Path, set: &SetEntry, contents: &Contents) -> Option<(Code, String)> {
    let timestamp = set.timestamp;
    let why = match (set.metadata(), &contents.metadata) {
        (None, Some(m)) if m.format.is_some() && !set.archive_only() => {
            format!("has a metadata file for backup {timestamp}, and the folder has not")
        }
        (Some(ours), Some(theirs)) if ours != theirs => format!(
            "has another metadata file than the folder; if that of the folder was changed on purpose, remove the archive and its .sha256 file, else take everything from the archive: aqe-backup restore --archive {}",
            path.display()
        ),
        _ => {
            let records = set.metadata().map(Metadata::databases).unwrap_or_default();
            let other = |d: &&DatabaseRecord| contents.copies.get(&d.file).is_none_or(|c| c.1 != d.sha256.to_ascii_lowercase());
            format!("{} in it is not the one that was backed up", records.iter().find(other)?.file)
        }
    };
    Some((Code::ChecksumMismatch, format!("{}: {why}", path.display())))
}
