//! The files of a set, found and checked, ready to be put back: from the folder, or from the archive if those are gone
//! or damaged.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::blocks;
use super::inspect::{self, Copy};
use super::sources::SIDE_FILE_OF;
use super::types::{Context, FileReport};
use crate::backup_set::archive;
use crate::backup_set::metadata::Metadata;
use crate::backup_set::names::{self, Artefact};
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Monitor;
use crate::project::{Project, Selection};
use crate::store::catalog::SetEntry;

/// One file to be put back.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Job {
    /// Relative to the root.
    pub source: String,
    /// The live file; may be missing.
    pub target: PathBuf,
    /// The copy.
    pub file: PathBuf,
    /// Its hash; `None`: unknown, or not to be checked.
    pub sha256: Option<String>,
    /// Whether it is put back through SQLite.
    pub sqlite: bool,
    /// Permission bits for a file that has to be made anew.
    pub mode: Option<u32>,
}

/// Where a set goes, and what of it.
pub(super) struct Place<'p> {
    pub project: &'p Project,
    pub wanted: Selection,
}

impl<'p> Place<'p> {
    /// All of what is in a set.
    pub fn whole(project: &'p Project) -> Result<Self> {
        Ok(Place { project, wanted: project.select(None)? })
    }

    /// What `ctx` asks for.
    pub fn asked(ctx: &Context, project: &'p Project) -> Result<Self> {
        Ok(Place { project, wanted: project.select(ctx.databases.as_deref())? })
    }
}

/// A set ready to be put back.
pub(super) struct SetFiles {
    pub timestamp: Timestamp,
    /// Sorted by source.
    pub jobs: Vec<Job>,
    /// Why only `force` should go on.
    pub suspicions: Vec<String>,
    pub warnings: Vec<String>,
}

/// Finds and, with `verify`, checks the files of `set`. Whatever is wrong with them, a good archive serves instead.
pub(super) fn resolve(place: &Place<'_>, set: &SetEntry, work: &Path, verify: bool, monitor: &Monitor) -> Result<SetFiles> {
    let dir = &place.project.backup_dir;
    let failure = match from_folder(place, set, verify, monitor) {
        Ok(files) if set.archive.is_none() || (files.suspicions.is_empty() && set.metadata.is_some()) => return Ok(files),
        // The archive may do without anybody's force, and its metadata knows where files go.
        Ok(files) => match from_archive(place, &dir.join(names::archive(set.timestamp)), work, verify, monitor) {
            Ok(mut archived) => {
                let why = files.suspicions.first().map_or("the backup has no metadata outside it", String::as_str);
                archived.warnings.push(format!("taken from the archive, because: {why}"));
                return Ok(archived);
            }
            Err(_) => return Ok(files),
        },
        Err(e) if set.archive.is_some() && matches!(e.code, Code::ChecksumMismatch | Code::BackupDamaged | Code::BackupNotFound) => e,
        Err(e) => return Err(e),
    };
    let mut files = from_archive(place, &dir.join(names::archive(set.timestamp)), work, verify, monitor).map_err(|e| {
        let message = format!("{}; its archive can't help: {}", failure.message, e.message);
        Error::new(e.code, message).caused_by(e)
    })?;
    if !set.archive_only() {
        files.warnings.push(format!("taken from the archive, because: {}", failure.message));
    }
    Ok(files)
}

fn require_regular(path: &Path) -> Result<()> {
    if durable::is_irregular(path) {
        return Err(Error::new(Code::BackupDamaged, format!("{} is not a regular file; use another backup", path.display())));
    }
    Ok(())
}

fn from_folder(place: &Place<'_>, set: &SetEntry, verify: bool, monitor: &Monitor) -> Result<SetFiles> {
    let metadata = match &set.metadata {
        Some(Err(e)) => return Err(Error::new(e.code, e.message.clone())),
        Some(Ok(m)) => Some(m),
        None => None,
    };
    if set.files.is_empty() {
        return Err(Error::new(Code::BackupDamaged, format!("the database copies of backup {} are gone", set.timestamp)));
    }
    let copies = inspect::copies(&place.project.backup_dir, set);
    prepare(place, set.timestamp, metadata, &copies, verify, monitor)
}

/// Unpacks the archive at `path` into `work` and takes the files from there. Its checksum file, if there is one beside
/// it, is checked.
pub(super) fn from_archive(place: &Place<'_>, path: &Path, work: &Path, verify: bool, monitor: &Monitor) -> Result<SetFiles> {
    // A person may point at an archive through a symlink; a fifo in its place would never end.
    require_regular(&path.canonicalize().unwrap_or_else(|_| path.to_path_buf()))?;
    if verify {
        check_whole_archive(path, monitor)?;
    }
    let dir = work.join("unpacked");
    durable::remove_dir_all(&dir)?;
    durable::create_private_dir(&dir)?;
    let mut databases = BTreeSet::new();
    let mut metadata = None;
    let timestamp = archive::read(path, |_, artefact, name, body| {
        let to = dir.join(name);
        unpack(body, &to, path, monitor)?;
        match artefact {
            Artefact::Metadata => metadata = Some(Metadata::parse(&std::fs::read(&to).context("read", &to)?, name)?),
            Artefact::Database(_) => drop(databases.insert(name.to_owned())),
            _ => {}
        }
        Ok(())
    })?;
    durable::sync_dir(&dir)?;
    let copies = inspect::copies_of(&dir, metadata.as_ref(), databases.iter().map(String::as_str));
    prepare(place, timestamp, metadata.as_ref(), &copies, verify, monitor)
}

fn check_whole_archive(path: &Path, monitor: &Monitor) -> Result<()> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(Code::BackupNotFound, format!("there is no archive {}; check the path", path.display())));
        }
        other => other.context("open", path)?,
    };
    let Some(wanted) = inspect::read_sidecar(path)? else { return Ok(()) };
    let (hash, _) = blocks::hash(&mut file, path, monitor, |_| ())?;
    if wanted == Some(hash) {
        return Ok(());
    }
    Err(Error::new(
        Code::ChecksumMismatch,
        format!("{} is not the archive that its .sha256 file speaks of; use another backup", path.display()),
    ))
}

fn unpack(body: &mut dyn io::Read, to: &Path, archive: &Path, monitor: &Monitor) -> Result<()> {
    let mut file = durable::create_exclusive(to)?;
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        monitor.check()?;
        let n = body.read(&mut buffer).map_err(|e| {
            Error::new(Code::BackupDamaged, format!("archive {} is damaged: {e}; use another backup", archive.display())).caused_by(e)
        })?;
        if n == 0 {
            return file.sync_all().context("flush", to);
        }
        file.write_all(&buffer[..n]).context("write", to)?;
    }
}

/// Turns copies into jobs; the first problem of any of them is the error.
fn prepare(
    place: &Place<'_>,
    timestamp: Timestamp,
    metadata: Option<&Metadata>,
    copies: &[Copy],
    verify: bool,
    monitor: &Monitor,
) -> Result<SetFiles> {
    if let Some(m) = metadata {
        m.require_known_format()?;
    }
    let mut files = SetFiles { timestamp, jobs: Vec::new(), suspicions: Vec::new(), warnings: Vec::new() };
    let mut targets = BTreeSet::new();
    let wanted = |c: &&Copy| c.source.as_deref().is_none_or(|s| place.wanted.has(s));
    for copy in copies.iter().filter(wanted).filter(|c| c.record.as_ref().is_none_or(|r| !r.extra.contains_key(SIDE_FILE_OF))) {
        if verify {
            let report = inspect::inspect_copy(copy, monitor, &mut files.warnings)?;
            judge(report, &mut files.suspicions)?;
        } else {
            if !inspect::is_plausible(&copy.file) {
                let message = format!("the metadata names a file that can't belong to a backup: {:?}; it is not to be trusted", copy.file);
                return Err(Error::new(Code::BackupDamaged, message));
            }
            require_regular(&copy.path)?;
            if !durable::is_there(&copy.path)? {
                return Err(Error::new(Code::BackupDamaged, format!("{} is missing; use another backup", copy.path.display())));
            }
        }
        let job = job(place.project, copy, verify)?;
        files.suspicions.extend(suspicious_name(copy));
        files.suspicions.extend(suspicious_home(place.project, copy, &job)?);
        if !targets.insert(job.target.clone()) {
            return Err(Error::new(
                Code::BackupDamaged,
                format!("backup {timestamp} has two files for {}; its metadata is not to be trusted", job.source),
            ));
        }
        files.jobs.push(job);
    }
    if files.jobs.is_empty() {
        return Err(nothing_wanted(timestamp, copies));
    }
    files.jobs.sort_by(|a, b| a.source.cmp(&b.source));
    Ok(files)
}

fn nothing_wanted(timestamp: Timestamp, copies: &[Copy]) -> Error {
    let there: Vec<&str> = copies.iter().filter_map(|c| c.source.as_deref()).collect();
    if there.is_empty() {
        return Error::new(Code::BackupDamaged, format!("backup {timestamp} holds no database"));
    }
    Error::new(Code::NoDatabases, format!("backup {timestamp} has none of the databases that were asked for; it has {}", there.join(", ")))
}

/// A missing checksum makes a set suspect; any other problem makes it useless.
fn judge(report: FileReport, suspicions: &mut Vec<String>) -> Result<()> {
    for (code, message) in report.problems {
        if code != Code::NeedsForce {
            return Err(Error::new(code, message));
        }
        suspicions.push(message);
    }
    Ok(())
}

fn job(project: &Project, copy: &Copy, verify: bool) -> Result<Job> {
    let source =
        copy.source.clone().ok_or_else(|| Error::new(Code::BackupDamaged, format!("{} is not the name of a database copy", copy.file)))?;
    let sha256 = match &copy.record {
        Some(r) => Some(r.sha256.to_ascii_lowercase()),
        None => inspect::read_sidecar(&copy.path)?.flatten(),
    };
    Ok(Job {
        target: project.locate(&source)?,
        source,
        file: copy.path.clone(),
        sha256: sha256.filter(|_| verify),
        sqlite: copy.record.as_ref().map_or_else(|| inspect::begins_like_sqlite(&copy.path), |r| Ok(r.sqlite.is_some()))?,
        mode: copy.record.as_ref().and_then(|r| r.extra.get("mode")).and_then(|m| u32::from_str_radix(m.as_str()?, 8).ok()),
    })
}

/// Without metadata a database goes to its usual home. If it is not there but in the root, that is hardly meant.
fn suspicious_home(project: &Project, copy: &Copy, job: &Job) -> Result<Option<String>> {
    let base = job.source.rsplit('/').next().unwrap_or(&job.source);
    let elsewhere = project.root.join(base);
    let astray = copy.record.is_none() && elsewhere != job.target && !durable::is_there(&job.target)? && durable::is_there(&elsewhere)?;
    Ok(astray.then(|| {
        format!("without metadata {} would go to {}, which does not exist, and there is a {base} in the root", copy.file, job.source)
    }))
}

/// A copy whose name has nothing to do with the place it is said to go to.
fn suspicious_name(copy: &Copy) -> Option<String> {
    let (Some((_, Artefact::Database(name))), Some(source)) = (names::parse(&copy.file), copy.source.as_deref()) else { return None };
    let base = source.rsplit('/').next().unwrap_or(source);
    let fits = [base.to_owned(), source.replace('/', "__")].iter().any(|n| name == *n || name.starts_with(&format!("{n}~")));
    (!fits).then(|| format!("{} is said to be a copy of {source}, but its name says otherwise", copy.file))
}
