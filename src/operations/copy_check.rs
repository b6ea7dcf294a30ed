//! Whether a copy of a set may be trusted: its checksum file, the record, its size, its hash, its structure.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::blocks;
use super::intent::read_header;
use super::record_check;
use super::types::FileReport;
use crate::backup_set::checksum;
use crate::backup_set::metadata::{DatabaseRecord, Metadata};
use crate::backup_set::names;
use crate::backup_set::timestamp::Timestamp;
use crate::direct_io;
use crate::durable;
use crate::error::{Code, IoContext, Result};
use crate::progress::Monitor;
use crate::sqlite::header;
use crate::sqlite::health::{self, Checked, Verdict};
use crate::sqlite::raw_file;
use crate::store::catalog::{self, SetEntry};
use crate::store::record;

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
    /// Its hash, if it is known from the archive out of which it has just been written.
    pub unpacked: Option<String>,
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

/// What is wrong with a copy, without its name.
type Problem = (Code, String);

/// Judges one copy by everything that is known of it.
pub(super) fn inspect(copy: &Copy, monitor: &Monitor, warnings: &mut Vec<String>) -> Result<FileReport> {
    let found = match open(copy)? {
        Ok(file) => judge(copy, file, monitor, warnings)?,
        Err(obstacle) => vec![obstacle],
    };
    let problems: Vec<Problem> = found.into_iter().map(|(code, why)| (code, format!("{}: {why}", copy.file))).collect();
    Ok(FileReport { file: copy.file.clone(), source: copy.source.clone(), ok: problems.is_empty(), problems })
}

/// The copy, or why there is nothing to judge. Opened only if its name and kind are a copy's: to open and close a live database
/// that a record names would take the application's locks away.
fn open(copy: &Copy) -> Result<std::result::Result<File, Problem>> {
    let damaged = |why: &str| Ok(Err((Code::BackupDamaged, why.to_owned())));
    if !record_check::is_plausible(&copy.file, copy.timestamp) {
        return damaged("the metadata names a file that can't belong to a backup");
    }
    if let Some(why) = durable::irregularity(&copy.path) {
        return damaged(why);
    }
    match File::open(&copy.path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => damaged("is missing"),
        other => other.context("open", &copy.path).map(Ok),
    }
}

fn judge(copy: &Copy, file: File, monitor: &Monitor, warnings: &mut Vec<String>) -> Result<Vec<Problem>> {
    if copy.unpacked.is_none() {
        // What is judged is what the disk has; of a copy just unpacked that is done where it is put back.
        direct_io::forget_cached(&file, 0);
    }
    let mut problems = Vec::new();
    let expected = known_hashes(copy, &mut problems)?;
    let is_damaged = copy.record.as_ref().is_some_and(DatabaseRecord::is_damaged);
    let Found { hash, size, checked } = read(copy, file, !is_damaged, monitor)?;
    if let Some(wanted) = copy.record.as_ref().map(|r| r.size).filter(|s| *s != size) {
        problems.push((Code::BackupDamaged, format!("has {size} bytes instead of {wanted}")));
    }
    if expected.iter().any(|h| *h != hash) {
        problems
            .push((Code::ChecksumMismatch, "its bytes are not the ones that were backed up; use another backup, or its archive".into()));
    }
    if is_damaged {
        problems.push((Code::BackupDamaged, "the database was damaged when it was backed up".into()));
    } else if let Some(checked) = checked {
        weigh_structure(copy, size, &checked, &mut problems, warnings)?;
    }
    Ok(problems)
}

/// The hashes that a copy should have: the metadata's and the checksum file's. Neither, or a broken one, is a problem.
fn known_hashes(copy: &Copy, problems: &mut Vec<Problem>) -> Result<Vec<String>> {
    let mut hashes: Vec<String> = copy.record.iter().map(|r| r.sha256.to_ascii_lowercase()).collect();
    match read_sidecar(&copy.path, copy.strict)? {
        Some(Some(hash)) => hashes.push(hash),
        Some(None) => problems.push((Code::ChecksumMismatch, "its .sha256 file is not a checksum of it".into())),
        // Not damage, but nothing to trust either: that is what `force` is for.
        None => {
            problems.push((Code::NeedsForce, "has no checksum file (.sha256), so nothing says that its bytes are the right ones".into()));
        }
    }
    Ok(hashes)
}

/// What came out of reading a copy.
struct Found {
    hash: String,
    size: u64,
    /// `None`: no database, or its structure was not asked for.
    checked: Option<Checked>,
}

/// Hashes a copy and checks its structure, at the same time.
fn read(copy: &Copy, mut file: File, structure: bool, monitor: &Monitor) -> Result<Found> {
    let is_sqlite = copy.record.as_ref().map_or_else(|| begins_like_sqlite(&copy.path), |r| Ok(r.sqlite.is_some()))?;
    let label = copy.source.as_deref().unwrap_or(&copy.file);
    let hash = || match &copy.unpacked {
        // Whatever else the disk has made of it is found out before it is put back.
        Some(hash) => Ok((hash.clone(), file.metadata().context("look at", &copy.path)?.len())),
        None => blocks::hash(&mut file, &copy.path, monitor, |n| monitor.advance(label, n)),
    };
    let check = || {
        (is_sqlite && structure)
            .then(|| blocks::read_in_order(&copy.path, monitor).and_then(|()| health::check_copy(&copy.path)))
            .transpose()
    };
    let (hashed, checked) = blocks::both(hash, check)?;
    let (hash, size) = hashed?;
    Ok(Found { hash, size, checked: checked? })
}

/// What SQLite says of a copy; and, where nothing is wrong with it, whether the record says the same.
fn weigh_structure(copy: &Copy, size: u64, checked: &Checked, problems: &mut Vec<Problem>, warnings: &mut Vec<String>) -> Result<()> {
    match &checked.verdict {
        Verdict::Sound => {}
        Verdict::Damaged(why) => problems.push((Code::BackupDamaged, format!("its structure is damaged: {why}"))),
        Verdict::CannotCheck(why) => warnings.push(format!("{}: its structure can't be fully checked here: {why}", copy.file)),
    }
    let record = copy.record.as_ref().and_then(|r| r.sqlite.as_ref());
    if let Some(record) = record.filter(|_| problems.is_empty()) {
        let denied = record_check::denied(record, read_header(&copy.path)?.as_ref(), size, checked);
        problems.extend(denied.map(|why| (Code::BackupDamaged, why)));
    }
    Ok(())
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
