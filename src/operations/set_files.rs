//! The files of a set, found and checked, ready to be put back: from the folder, or from the archive if those are gone
//! or damaged.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::archive_contents::{self, Contents};
use super::blocks;
use super::copy_check::{self, Copy};
use super::record_check;
use super::sources::{LINKED_TO, is_side_file};
use super::types::{Context, FileReport};
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
    /// The live file; may be missing. Never believed of a file: worked out from the source.
    #[serde(skip)]
    pub target: PathBuf,
    /// The copy.
    pub file: PathBuf,
    /// Its hash; `None`: unknown, or not to be checked.
    pub sha256: Option<String>,
    /// Whether it is put back through SQLite.
    pub sqlite: bool,
    /// Permission bits for a file that has to be made anew.
    pub mode: Option<u32>,
    /// If a symlink leads to the live file: where it is, as [`Project::note_of_link`] has it.
    pub linked_to: Option<String>,
}

/// Folder, in the working folder, for what an archive holds.
pub(super) const UNPACKED: &str = "unpacked";

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

impl SetFiles {
    fn and_also(mut self, suspicions: Vec<String>, warnings: Vec<String>) -> Self {
        self.suspicions.splice(0..0, suspicions);
        self.warnings.splice(0..0, warnings);
        self
    }
}

/// Finds and, with `verify`, checks the files of `set`. Whatever is wrong with them, a good archive serves instead.
pub(super) fn resolve(place: &Place<'_>, set: &SetEntry, work: &Path, verify: bool, monitor: &Monitor) -> Result<SetFiles> {
    let archived = || {
        let path = place.project.backup_dir.join(names::archive(set.timestamp));
        let files = from_archive(place, &path, work, verify, monitor)?;
        if files.timestamp == set.timestamp {
            return Ok(files);
        }
        Err(Error::new(Code::ChecksumMismatch, format!("{} holds backup {} instead", path.display(), files.timestamp)))
    };
    let failure = match from_folder(place, set, verify, monitor) {
        Ok(files) if set.archive.is_none() || (files.suspicions.is_empty() && set.metadata.is_some()) => return Ok(files),
        // The archive may do without anybody's force, and its metadata knows where files go.
        Ok(files) => match archived() {
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
    let mut files = archived().map_err(|e| {
        let message = format!("{}; its archive can't help: {}", failure.message, e.message);
        Error::new(e.code, message).caused_by(e)
    })?;
    if !set.archive_only() {
        files.warnings.push(format!("taken from the archive, because: {}", failure.message));
    }
    Ok(files)
}

fn require_regular(path: &Path) -> Result<()> {
    if let Some(why) = durable::irregularity(path) {
        return Err(Error::new(Code::BackupDamaged, format!("{} {why}; use another backup", path.display())));
    }
    Ok(())
}

fn from_folder(place: &Place<'_>, set: &SetEntry, verify: bool, monitor: &Monitor) -> Result<SetFiles> {
    let metadata = match &set.metadata {
        Some(Err(e)) => return Err(Error::new(e.code, e.message.clone())),
        Some(Ok(m)) => Some(m),
        None => None,
    };
    let (mut suspicions, mut warnings) = (Vec::new(), Vec::new());
    weigh(set.seal.problem(set.timestamp), verify, &mut suspicions, &mut warnings)?;
    if let (Some(m), true) = (metadata, verify) {
        let problem = record_check::problem(m, set.timestamp, set.files.keys().map(String::as_str), place.project);
        weigh(problem, verify, &mut suspicions, &mut warnings)?;
    }
    if set.files.is_empty() {
        return Err(Error::new(Code::BackupDamaged, format!("the database copies of backup {} are gone", set.timestamp)));
    }
    let copies = copy_check::copies(&place.project.backup_dir, set);
    let files = prepare(place, set.timestamp, metadata, &copies, verify, monitor)?;
    Ok(files.and_also(suspicions, warnings))
}

/// What is wrong with a set as a whole: nothing to go on with, unless nobody asked.
fn weigh(problem: Option<(Code, String)>, verify: bool, suspicions: &mut Vec<String>, warnings: &mut Vec<String>) -> Result<()> {
    match problem {
        None => {}
        Some((_, message)) if !verify => warnings.push(format!("not verified, and gone on with all the same: {message}")),
        Some((Code::NeedsForce, message)) => suspicions.push(message),
        Some((code, message)) => return Err(Error::new(code, message)),
    }
    Ok(())
}

/// Unpacks the archive at `path` into `work` and takes the files from there. Its checksum file, if there is one beside
/// it, is checked.
pub(super) fn from_archive(place: &Place<'_>, path: &Path, work: &Path, verify: bool, monitor: &Monitor) -> Result<SetFiles> {
    // A person may point at an archive through a symlink; a fifo in its place would never end.
    require_regular(&path.canonicalize().unwrap_or_else(|_| path.to_path_buf()))?;
    let dir = work.join(UNPACKED);
    let (contents, suspicions, warnings) = unpacked(place, path, &dir, verify, monitor).map_err(|e| match e.code {
        Code::Abort => e,
        // It may have stumbled over what is not the worst. Unpacking found something first; a judgement goes by the whole.
        _ => judge_archive(place, path, verify, monitor).err().unwrap_or(e),
    })?;
    let files = contents.copies.keys().map(String::as_str);
    let mut copies = copy_check::copies_of(&dir, contents.timestamp, contents.metadata.as_ref(), files);
    // These hashes prove what is in the archive. What the disk has made of it is proven where a copy is put back: nothing is
    // committed before all of its bytes, as they were read for that, have this hash (`require_hash`).
    copies.iter_mut().for_each(|c| c.unpacked = contents.hash_of(&c.file));
    let files = prepare(place, contents.timestamp, contents.metadata.as_ref(), &copies, verify, monitor)?;
    Ok(files.and_also(suspicions, warnings))
}

/// Unpacks the archive at `path` into the new folder `dir` and judges it: its own hash first, then what is in it.
fn unpacked(place: &Place<'_>, path: &Path, dir: &Path, verify: bool, monitor: &Monitor) -> Result<(Contents, Vec<String>, Vec<String>)> {
    let wanted = if verify { copy_check::read_sidecar(path, false)? } else { None };
    let contents = archive_contents::unpack(path, dir, monitor)?;
    let has_sidecar = wanted.is_some();
    require_own_hash(path, wanted, &contents.sha256)?;
    let (mut suspicions, mut warnings) = (Vec::new(), Vec::new());
    weigh_contents(place, path, &contents, verify, &mut suspicions, &mut warnings)?;
    // Only now: what is said to agree has been compared.
    warnings.extend((verify && !has_sidecar).then(|| without_sidecar(path, &contents)));
    Ok((contents, suspicions, warnings))
}

/// What to say of an archive that nothing beside it vouches for. The copies in it are what counts, so it serves all the same.
fn without_sidecar(path: &Path, contents: &Contents) -> String {
    let proven = match contents.bare().next() {
        None => ": its copies agree with the checksums inside it, and nothing outside it says",
        Some(_) => ", and not every copy in it has one: nothing says",
    };
    format!("{} has no checksum file (.sha256){proven} that it is the archive that was made", path.display())
}

/// What is wrong with an archive that could not be unpacked, the worst first: it is another one than its checksum file speaks
/// of, it is damaged, what is in it is not what was backed up. Writes nothing.
fn judge_archive(place: &Place<'_>, path: &Path, verify: bool, monitor: &Monitor) -> Result<()> {
    if verify {
        check_whole_archive(path, monitor)?;
    }
    let contents = archive_contents::read(path, None, monitor)?;
    weigh_contents(place, path, &contents, verify, &mut Vec::new(), &mut Vec::new())
}

fn weigh_contents(
    place: &Place<'_>,
    path: &Path,
    contents: &Contents,
    verify: bool,
    suspicions: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let mut problems = contents.problems(path, place.project).into_iter().chain(contents.unsealed(path));
    problems.try_for_each(|problem| weigh(Some(problem), verify, suspicions, warnings))
}

fn check_whole_archive(path: &Path, monitor: &Monitor) -> Result<()> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(Code::BackupNotFound, format!("there is no archive {}; check the path", path.display())));
        }
        other => other.context("open", path)?,
    };
    let wanted = copy_check::read_sidecar(path, false)?;
    if wanted.is_none() {
        return Ok(());
    }
    let (hash, _) = blocks::hash(&mut file, path, monitor, |_| ())?;
    require_own_hash(path, wanted, &hash)
}

/// `wanted`: what the archive's checksum file says, if there is one.
fn require_own_hash(path: &Path, wanted: Option<Option<String>>, hash: &str) -> Result<()> {
    if wanted.is_none_or(|wanted| wanted.as_deref() == Some(hash)) {
        return Ok(());
    }
    Err(Error::new(
        Code::ChecksumMismatch,
        format!("{} is not the archive that its .sha256 file speaks of; use another backup", path.display()),
    ))
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
    files.suspicions.extend(metadata.and_then(|m| suspicious_project(place.project, m)));
    let mut targets = BTreeSet::new();
    let wanted = |c: &&Copy| c.source.as_deref().is_none_or(|s| place.wanted.has(s));
    for copy in copies.iter().filter(wanted).filter(|c| c.record.as_ref().is_none_or(|r| !is_side_file(r))) {
        if verify {
            let report = copy_check::inspect(copy, monitor, &mut files.warnings)?;
            judge(report, &mut files.suspicions)?;
        } else {
            if !record_check::is_plausible(&copy.file, timestamp) {
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
        files.suspicions.extend(suspicious_link(place.project, copy, &job));
        files.suspicions.extend(suspicious_place(place, &job));
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
        None => copy_check::read_sidecar(&copy.path, copy.strict)?.flatten(),
    };
    let target = project.locate(&source)?;
    Ok(Job {
        linked_to: project.note_of_link(&source, &target),
        target,
        source,
        file: copy.path.clone(),
        sha256: sha256.filter(|_| verify),
        sqlite: copy.record.as_ref().map_or_else(|| copy_check::begins_like_sqlite(&copy.path), |r| Ok(r.sqlite.is_some()))?,
        mode: copy
            .record
            .as_ref()
            .and_then(|r| r.extra.get("mode"))
            .and_then(|m| u32::from_str_radix(m.as_str()?, 8).ok())
            .map(|m| m & 0o777),
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

/// A symlink leads to another place than when the backup was made, or leads somewhere at all now.
fn suspicious_link(project: &Project, copy: &Copy, job: &Job) -> Option<String> {
    let now = job.linked_to.as_ref()?;
    let noted = copy.record.as_ref().and_then(|r| r.extra.get(LINKED_TO)).and_then(|place| place.as_str());
    // Sets from before this was noted say nothing of links within the project.
    let is_silent = !copy.strict && noted.is_none() && project.root.join(now).starts_with(&project.root);
    if noted == Some(now.as_str()) || is_silent {
        return None;
    }
    let then = noted.map_or_else(|| "was none when it was backed up".to_owned(), |n| format!("led to {n:?} when it was backed up"));
    Some(format!("{} is reached through a symbolic link, which leads to {now:?} and {then}", job.source))
}

/// The backup of another project that shares the backups folder.
fn suspicious_project(project: &Project, metadata: &Metadata) -> Option<String> {
    let other = project.stranger(metadata.project.as_deref())?;
    Some(format!("backup {} is of the project {other:?}, and this one is {}", metadata.timestamp, project.root.display()))
}

/// Whether a job puts what is no database into a hidden place where none would be looked for.
pub(super) fn is_surprising(project: &Project, job: &Job) -> bool {
    let is_hidden = job.source.split('/').any(|part| part.starts_with('.'));
    // What the record says of the copy is not enough here; one that can't be read now is looked at again before it is put back.
    let is_database = || job.sqlite && copy_check::begins_like_sqlite(&job.file).unwrap_or(false);
    is_hidden && !project.is_found_by_itself(&job.source) && !is_database()
}

/// A file that is no database, on its way to where programs look for what to do: `.git/hooks`, `.envrc`.
fn suspicious_place(place: &Place<'_>, job: &Job) -> Option<String> {
    (is_surprising(place.project, job) && !place.wanted.names(&job.source)).then(|| {
        format!(
            "{:?} is a hidden place, and what goes there is no database; name it with databases (--database) if it is meant",
            job.source
        )
    })
}

/// A copy whose name has nothing to do with the place it is said to go to.
fn suspicious_name(copy: &Copy) -> Option<String> {
    let (Some((_, Artefact::Database(name))), Some(source)) = (names::parse(&copy.file), copy.source.as_deref()) else { return None };
    let base = source.rsplit('/').next().unwrap_or(source);
    let fits = [base.to_owned(), source.replace('/', "__")].iter().any(|n| name == *n || name.starts_with(&format!("{n}~")));
    (!fits).then(|| format!("{} is said to be a copy of {source}, but its name says otherwise", copy.file))
}
