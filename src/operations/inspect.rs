//! verify and inspect: whether a set may be trusted, by the verdicts on its copies, its metadata and its archive.

use std::collections::HashMap;
use std::path::Path;

use super::archive_check;
use super::copy_check;
use super::record_check;
use super::types::{Context, FileReport, Inspection};
use crate::backup_set::names;
use crate::backup_set::seal::Seal;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, Result};
use crate::progress::{Monitor, Phase};
use crate::project::Project;
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
    let mut files =
        copy_check::copies(dir, set).iter().map(|c| copy_check::inspect(c, monitor, &mut warnings)).collect::<Result<Vec<_>>>()?;
    files.extend(inspect_metadata(set, project, &mut warnings));
    let promised = set.metadata().is_some_and(|m| m.compressed);
    // What is there and is no regular file is damage; the catalog counts only regular ones.
    if set.archive.is_some() || (promised && durable::is_there(&dir.join(names::archive(set.timestamp)))?) {
        files.push(archive_check::inspect(project, set, &mut warnings, monitor)?);
    } else if promised {
        // People remove archives to get space back. The copies are the backup, and are judged by themselves.
        warnings.push(format!("{} is gone; the copies beside it are all there is of this backup", names::archive(set.timestamp)));
    }
    let ok = !files.is_empty() && files.iter().all(|f| f.ok);
    Ok(Inspection { timestamp: set.timestamp, ok, files, warnings })
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
