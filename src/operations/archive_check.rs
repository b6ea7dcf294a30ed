//! Whether the archive of a set may be trusted: its own checksum, what is in it, and what the record beside it says.

use std::fs::File;
use std::io;
use std::path::Path;

use super::archive_contents::{self, Contents};
use super::blocks;
use super::copy_check;
use super::types::FileReport;
use crate::backup_set::metadata::{DatabaseRecord, Metadata};
use crate::backup_set::names;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Monitor;
use crate::project::Project;
use crate::store::catalog::SetEntry;

/// Judges the archive of a set, which is there or should be.
pub(super) fn inspect(project: &Project, set: &SetEntry, warnings: &mut Vec<String>, monitor: &Monitor) -> Result<FileReport> {
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
    if let Some(why) = durable::irregularity(path) {
        return Err(wrong(path, Code::BackupDamaged, why));
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
        Err(e) => Err(check_own_hash(path, set, &blocks::hash_on_disk(path, monitor)?).err().unwrap_or(e)),
    }
}

fn wrong(path: &Path, code: Code, text: &str) -> Error {
    Error::new(code, format!("{}: {text}", path.display()))
}

/// Against the archive's checksum file.
fn check_own_hash(path: &Path, set: &SetEntry, hash: &str) -> Result<()> {
    match copy_check::read_sidecar(path, set.metadata().is_some_and(Metadata::is_sealed))? {
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
    if contents.is_sealed() && copy_check::read_sidecar(path, true)?.is_none_or(|hash| hash.is_none()) {
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
            let hash = blocks::hash_on_disk(path, monitor)?;
            check_own_hash(path, set, &hash)?;
            let problems = judge_contents(path, project, set, &archive_contents::read(path, None, monitor)?)?;
            return if problems.is_empty() { Err(e) } else { Ok(problems) };
        }
    };
    let mut problems = judge_contents(path, project, set, &contents)?;
    if problems.is_empty() {
        for mut copy in
            copy_check::copies_of(&dir, contents.timestamp, contents.metadata.as_ref(), contents.copies.keys().map(String::as_str))
        {
            // The hash is that of what came out of the archive, which is what is judged here, not the disk that it was put on.
            copy.unpacked = contents.hash_of(&copy.file);
            problems.extend(copy_check::inspect(&copy, monitor, warnings)?.problems);
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
