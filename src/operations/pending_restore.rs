//! A restore that died after its intent was written: finished, or undone. Every operation that takes the lock looks for
//! one first.

use super::intent::{Intent, IntentTarget, Method};
use super::intent_trust;
use super::restore_apply::{self, Wish};
use super::set_files::Job;
use super::types::{Context, Recovery};
use crate::backup_set::names;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, Result};
use crate::progress::Monitor;
use crate::project::Project;
use crate::sqlite::page_writer;
use crate::store::lock::StoreLock;

/// Finishes the restore that died after its intent was written; undoes it if its backup is not there any more. What the
/// application wrote in between to a database that is still to be restored is saved first.
pub(super) fn settle_pending(ctx: &Context, project: &Project, lock: &StoreLock) -> Result<Recovery> {
    let work = lock.dir.join(names::RESTORE_DIR);
    let Some(intent) = Intent::read(lock)? else {
        durable::remove_dir_all(&work)?;
        return Ok(Recovery::default());
    };
    let intent = intent_trust::accept(intent, project, lock)?;
    // An operation that was asked to stop must not leave databases half restored.
    let ctx = Context { monitor: Monitor::default(), ..ctx.clone() };
    let recovery = settle(&ctx, project, lock, &intent).map_err(|e| {
        let message = format!("the restore of {} was interrupted and can't be finished now", intent.timestamp);
        let code = e.code;
        e.wrap(code, message)
    })?;
    Intent::remove(lock)?;
    durable::remove_dir_all(&work)?;
    Ok(recovery)
}

fn settle(ctx: &Context, project: &Project, lock: &StoreLock, intent: &Intent) -> Result<Recovery> {
    let timestamp: Timestamp = intent.timestamp.parse()?;
    let mut reached = Vec::new();
    let mut missing = Vec::new();
    if intent.undoing {
        let all: Vec<&IntentTarget> = intent.targets.iter().collect();
        match undo(ctx, project, lock, intent, timestamp, &all, "it had failed") {
            Err(e) if is_unusable(&e) => missing = all,
            settled => return settled,
        }
    }
    for target in intent.targets.iter().filter(|_| !intent.undoing) {
        if target.reached(&ctx.patience())? { reached.push(target) } else { missing.push(target) }
    }
    let mut recovery = Recovery { finished_restore: Some(timestamp), ..Recovery::default() };
    if missing.is_empty() {
        reenter_wal(ctx, intent, &mut recovery.warnings);
        recovery.warnings.push(format!("an interrupted restore of {timestamp} turned out to be complete"));
        return Ok(recovery);
    }
    let jobs: Vec<Job> = missing.iter().map(|t| Job { target: t.job.target.clone(), ..t.job.clone() }).collect();
    let wish = Wish {
        timestamp,
        verify: true,
        force: true,
        operation: format!("finish restore {timestamp}"),
        write_intent: false,
        suspicions: Vec::new(),
    };
    match restore_apply::apply(ctx, project, lock, &jobs, &wish) {
        Ok(applied) => {
            recovery.safety_backup = applied.safety;
            recovery.warnings.push(format!("an interrupted restore of {timestamp} was finished"));
            recovery.warnings.extend(applied.warnings);
            reenter_wal(ctx, intent, &mut recovery.warnings);
            Ok(recovery)
        }
        Err(e) if is_backup_gone(&e, &jobs) => undo(ctx, project, lock, intent, timestamp, &reached, &format!("it can't be finished: {e}")),
        Err(e) => Err(e),
    }
}

/// Databases that a rebuild took out of WAL mode go back into it.
fn reenter_wal(ctx: &Context, intent: &Intent, warnings: &mut Vec<String>) {
    for target in intent.targets.iter().filter(|t| matches!(t.method, Method::Rebuild { was_wal: true, .. })) {
        if let Err(e) = page_writer::enter_wal(&target.job.target, &ctx.patience()) {
            warnings.push(format!("{} is restored but no longer in WAL mode: {e}", target.job.source));
        }
    }
}

/// Whether a set is of no use any more, rather than not now.
fn is_unusable(e: &Error) -> bool {
    matches!(e.code, Code::ChecksumMismatch | Code::BackupDamaged | Code::BackupNotFound)
}

/// Whether the restore can never be finished, rather than not now.
fn is_backup_gone(e: &Error, jobs: &[Job]) -> bool {
    is_unusable(e) || jobs.iter().any(|j| durable::is_there(&j.file).is_ok_and(|there| !there))
}

fn undo(
    ctx: &Context,
    project: &Project,
    lock: &StoreLock,
    intent: &Intent,
    timestamp: Timestamp,
    reached: &[&IntentTarget],
    because: &str,
) -> Result<Recovery> {
    let safety = intent.safety.as_deref().map(str::parse).transpose()?;
    let changed = reached.iter().filter(|t| !matches!(t.method, Method::Unchanged));
    let jobs = changed.map(|t| (&t.job, matches!(t.method, Method::Put { replaces: false, .. })));
    restore_apply::undo_each(ctx, project, lock, timestamp, jobs, safety)?;
    let warnings = vec![format!("an interrupted restore of {timestamp} was undone, because {because}")];
    Ok(Recovery { undone_restore: Some(timestamp), warnings, ..Recovery::default() })
}
