//! Whether a pending intent may be carried out. It names files that will be written without anybody asking for it, so every
//! path in it is worked out anew from what the project and the set say, and what does not fit is refused.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use super::intent::{Intent, IntentTarget, Method};
use super::record_check;
use super::set_files::{self, Job, UNPACKED};
use super::sources::is_side_file;
use crate::backup_set::metadata::{self, Metadata};
use crate::backup_set::names;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::project::{Project, quoted};
use crate::store::catalog;
use crate::store::lock::StoreLock;
use crate::store::record;

/// The intent with every path where it is now; `BACKUP_DAMAGED` if it asks for what no restore of ours would,
/// `ERR_INVALID_ARG_VALUE` if it is another project's.
pub(super) fn accept(mut intent: Intent, project: &Project, lock: &StoreLock) -> Result<Intent> {
    let refused = |why: String| {
        let path = lock.dir.join(names::INTENT);
        let message = format!(
            "a restore seems to have been interrupted, but its note {} is not to be trusted: {why}. Nothing was changed. Move the note away; if a restore was really interrupted, run it again",
            path.display()
        );
        Error::new(Code::BackupDamaged, message)
    };
    if let Some(other) = project.stranger(intent.project.as_deref()) {
        return Err(waits_for(other, lock));
    }
    let named = |text: &str| text.parse::<Timestamp>().map_err(|e| refused(e.message));
    let timestamp = named(&intent.timestamp)?;
    intent.safety.as_deref().map(named).transpose()?;
    let mut seen = BTreeSet::new();
    let mut targets = Vec::new();
    for target in std::mem::take(&mut intent.targets) {
        let target = settle(target, timestamp, project, lock).map_err(|e| {
            if e.code == Code::BackupDamaged {
                return refused(e.message);
            }
            // What can't be looked at now is not therefore a lie.
            let (code, path) = (e.code, lock.dir.join(names::INTENT));
            e.wrap(code, format!("the restore of {timestamp} was interrupted ({}) and can't be finished now", path.display()))
        })?;
        if !seen.insert(target.job.target.clone()) {
            return Err(refused(format!("{:?} is in it twice", target.job.source)));
        }
        targets.push(target);
    }
    Ok(intent.with_targets(targets))
}

/// Several projects may have one backups folder: what was begun in one must not be carried out in another.
fn waits_for(other: &str, lock: &StoreLock) -> Error {
    let dir = lock.dir.canonicalize().unwrap_or_else(|_| lock.dir.clone());
    let (root, shown) = (quoted(other), quoted(&dir.display().to_string()));
    let message = format!(
        "a restore of the project {root} was interrupted and waits in this backups folder; finish it first: aqe-backup recover --root {root} --backup-dir {shown}. If that project is not wanted any more, move the note {} away. Nothing was changed",
        dir.join(names::INTENT).display()
    );
    Error::new(Code::InvalidArgValue, message)
}

fn wrong(why: String) -> Error {
    Error::new(Code::BackupDamaged, why)
}

fn settle(target: IntentTarget, timestamp: Timestamp, project: &Project, lock: &StoreLock) -> Result<IntentTarget> {
    let job = target.job;
    let place = project.locate(&job.source)?;
    if project.note_of_link(&job.source, &place) != job.linked_to {
        return Err(wrong(format!("{:?} leads to another place than it did when the restore began", job.source)));
    }
    let (file, name) = copy_of(&job, timestamp, lock)?;
    agrees(&job, &name, &file, timestamp, lock)?;
    let job = Job { target: place, file, mode: job.mode.map(|m| m & 0o777), ..job };
    if durable::is_there(&job.file)? && set_files::is_surprising(project, &job) {
        return Err(wrong(format!("{:?} is a hidden place, and what goes there is no database", job.source)));
    }
    let method = match target.method {
        Method::Put { staged, replaces } => Method::Put { staged: staged_at(&staged, lock)?, replaces },
        method => method,
    };
    Ok(IntentTarget { job, method })
}

/// Plain parts of a path relative to the backups folder; nothing for any other path.
fn parts(path: &Path) -> Vec<&str> {
    let plain = |c: Component<'_>| matches!(c, Component::Normal(_));
    if !path.components().all(plain) {
        return Vec::new();
    }
    path.iter().filter_map(|part| part.to_str()).collect()
}

/// The copy that is to be put back: one of the set, in the backups folder or unpacked in the working folder.
fn copy_of(job: &Job, timestamp: Timestamp, lock: &StoreLock) -> Result<(PathBuf, String)> {
    let name = match parts(&job.file).as_slice() {
        [name] | [names::RESTORE_DIR, UNPACKED, name] if record_check::is_plausible(name, timestamp) => (*name).to_owned(),
        _ => return Err(wrong(format!("{:?} is no copy of backup {timestamp}", job.file))),
    };
    Ok((regular(&job.file, lock)?, name))
}

/// A file that was made ready to be put in its place.
fn staged_at(staged: &Path, lock: &StoreLock) -> Result<PathBuf> {
    let is_ours = |name: &str| name.strip_prefix("put-").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    match parts(staged).as_slice() {
        [names::RESTORE_DIR, name] if is_ours(name) => regular(staged, lock),
        _ => Err(wrong(format!("{staged:?} is no file of a restore"))),
    }
}

/// `file` in the backups folder. A link could lead anywhere, the folders' included; what is not there leads nowhere.
fn regular(file: &Path, lock: &StoreLock) -> Result<PathBuf> {
    let path = lock.dir.join(file);
    for part in path.ancestors().take_while(|part| *part != lock.dir) {
        let fits = |k: std::fs::FileType| if part == path { k.is_file() } else { k.is_dir() };
        if !kind_of(part)?.is_none_or(fits) {
            return Err(wrong(format!("{} is not what it should be", part.display())));
        }
    }
    if let Some(why) = durable::irregularity(&path) {
        return Err(wrong(format!("{} {why}", path.display())));
    }
    Ok(path)
}

fn kind_of(path: &Path) -> Result<Option<std::fs::FileType>> {
    if !durable::is_there(path)? {
        return Ok(None);
    }
    path.symlink_metadata().context("look at", path).map(|m| Some(m.file_type()))
}

/// What the record of the set has to say of the copy, if there is one.
fn agrees(job: &Job, name: &str, file: &Path, timestamp: Timestamp, lock: &StoreLock) -> Result<()> {
    let record = match file.parent() {
        Some(folder) if folder == lock.dir => catalog::find(&lock.dir, timestamp)?.and_then(|s| s.metadata).and_then(Result::ok),
        folder => unpacked_record(folder.unwrap_or(file), timestamp)?,
    };
    let Some(databases) = record.as_ref().and_then(|m| m.databases.as_ref()) else {
        let usual = catalog::legacy_source(name);
        // Of a set that is gone nothing is known, and nothing can be put back.
        let fits = usual.as_deref() == Some(job.source.as_str()) || !durable::is_there(file)?;
        return if fits { Ok(()) } else { Err(wrong(format!("{name} does not go back to {:?}", job.source))) };
    };
    let same = databases
        .iter()
        .find(|d| d.source == job.source && d.file == name && !is_side_file(d))
        .is_some_and(|d| d.sqlite.is_some() == job.sqlite && job.sha256.as_ref().is_none_or(|hash| *hash == d.sha256.to_ascii_lowercase()));
    if same { Ok(()) } else { Err(wrong(format!("backup {timestamp} does not say that {name} goes back to {:?}", job.source))) }
}

fn unpacked_record(folder: &Path, timestamp: Timestamp) -> Result<Option<Metadata>> {
    let path = folder.join(names::metadata(timestamp));
    if let Some(why) = durable::irregularity(&path) {
        return Err(wrong(format!("{} {why}", path.display())));
    }
    match File::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(e, "read", &path)),
        Ok(file) => {
            let bytes = record::limited(file, metadata::LIMIT).context("read", &path)?;
            bytes.map(|bytes| Metadata::parse(&bytes, &names::metadata(timestamp))).transpose()
        }
    }
}
