//! Carries a restore out: lock every target, save what is there, write what differs, and only when all of it is ready
//! commit; then prove. Used by restore, by its undoing, and by recovery.

use std::path::Path;

use super::capture::{self, Request};
use super::inspect;
use super::intent::{Intent, IntentTarget, Method, read_header};
use super::restore_commit::{self, Done};
use super::restore_prepare::{self, Prepared, Ready};
use super::restore_targets::{self, Guard, Hold, Target};
use super::set_files::{self, Job, Place};
use super::sources::{self, Source, State};
use super::types::{Action, Context, RestoredDatabase};
use crate::backup_set::metadata::Kind;
use crate::backup_set::names;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::{Monitor, Phase};
use crate::project::Project;
use crate::sqlite::connection::{Facts, Live, Patience, side_file};
use crate::store::catalog::SetEntry;
use crate::store::lock::StoreLock;
use crate::store::{catalog, space, staging};

/// What is to be done, and how far to go.
pub(super) struct Wish {
    /// The set being put back.
    pub timestamp: Timestamp,
    /// Hash the backup again while writing, and prove the result.
    pub verify: bool,
    /// Go on in spite of suspicions.
    pub force: bool,
    /// For the safety set.
    pub operation: String,
    /// False when an intent covers this already: in recovery, and while undoing.
    pub write_intent: bool,
    /// Why only `force` should go on, as far as the set is concerned.
    pub suspicions: Vec<String>,
}

/// What was done.
#[derive(Debug)]
pub(super) struct Applied {
    pub safety: Option<Timestamp>,
    /// Sorted by source.
    pub databases: Vec<RestoredDatabase>,
    pub warnings: Vec<String>,
}

/// Makes every job's target equal to its copy: all of them, or none.
pub(super) fn apply(ctx: &Context, project: &Project, lock: &StoreLock, jobs: &[Job], wish: &Wish) -> Result<Applied> {
    let mut suspicions = wish.suspicions.clone();
    let mut by_target: Vec<&Job> = jobs.iter().collect();
    // Always in this order, so that two restores can't wait for each other.
    by_target.sort_by(|a, b| a.target.cmp(&b.target));
    let patience = ctx.patience();
    let earlier = catalog::scan_own(&lock.dir, project)?;
    let mut targets =
        by_target.into_iter().map(|job| restore_targets::hold(job, &patience, &mut suspicions)).collect::<Result<Vec<_>>>()?;
    let mut warnings = forced(wish, suspicions)?;

    let safety = save(ctx, project, lock, &mut targets, wish, &earlier, &mut warnings)?;
    ctx.monitor.start(Phase::Write, jobs.iter().filter_map(|j| j.file.metadata().ok()).map(|m| m.len()).sum());
    let prepared =
        targets.into_iter().map(|t| restore_prepare::prepare(t, lock, wish.write_intent, &ctx.monitor)).collect::<Result<Vec<_>>>();
    let mut prepared = match prepared.and_then(|p| ctx.monitor.check().map(|()| p)) {
        Ok(prepared) => prepared,
        Err(e) => return Err(forget(lock, safety, take_back(ctx, jobs, e))),
    };
    if prepared.iter().all(|p| matches!(p.ready, Ready::Unchanged)) {
        // A copy of what the backup holds anyway would only take up room.
        let databases = report(&prepared)?;
        let kept = match safety.map(|t| staging::remove(lock, t, false)) {
            Some(Err(e)) => {
                warnings.push(format!("nothing differed, so the safety backup is of no use, and could not be removed: {}", e.error));
                safety.filter(|_| !e.is_gone)
            }
            _ => None,
        };
        return Ok(Applied { safety: kept, databases, warnings });
    }

    let databases = match report(&prepared) {
        Ok(databases) => databases,
        Err(e) => return Err(forget(lock, safety, e)),
    };
    let intent = intent(project, wish, safety, &prepared);
    if wish.write_intent
        && let Err(e) = intent.write(lock)
    {
        return Err(withdraw(lock, safety, e));
    }
    // Too late to stop: from here on it is finished or undone.
    let ctx = Context { monitor: Monitor::default(), ..ctx.clone() };
    let mut done = Vec::new();
    let carried = restore_commit::carry_out(&ctx, &mut prepared, wish.timestamp, &mut done, &mut warnings)
        .and_then(|()| if wish.verify { restore_commit::prove(&ctx, &done, &mut warnings) } else { Ok(()) });
    drop(prepared);
    match carried {
        // All is restored and durable: an intent that stays is found complete by the next run, so this is no failure.
        Ok(()) if wish.write_intent => {
            Intent::remove(lock).unwrap_or_else(|e| warnings.push(format!("restored; the note of it could not be removed: {e}")));
        }
        Ok(()) => {}
        Err(e) if wish.write_intent => return Err(undo(&ctx, project, lock, &intent, &done, safety, e)),
        Err(e) => return Err(e),
    }
    Ok(Applied { safety, databases, warnings })
}

/// What was written and not committed is taken back with the connection. After a failed write (a full disk, in rollback mode)
/// SQLite leaves that to whoever opens the database next: to us, so that it is as it was, and as long as it was, when the
/// failure is told.
fn take_back(ctx: &Context, jobs: &[Job], cause: Error) -> Error {
    let patience = Patience { monitor: Monitor::default(), ..ctx.patience() };
    let play_back = |target: &Path| -> Result<()> {
        if durable::is_there(&side_file(target, "-journal"))? {
            Live::open_pinned(target, &patience)?;
        }
        Ok(())
    };
    jobs.iter().filter(|job| job.sqlite).fold(cause, |cause, job| match play_back(&job.target) {
        // Somebody has it, who has done so or is in the middle of a transaction.
        Err(e) if e.code != Code::DatabaseBusy => {
            let code = cause.code;
            let shown = job.target.display();
            cause.wrap(
                code,
                format!(
                    "what was written to {shown} and not committed is taken back when a program opens it for writing; now it failed ({e})"
                ),
            )
        }
        _ => cause,
    })
}

/// Nothing was changed, so nothing needs to be undone: a failed run leaves no set behind.
fn forget(lock: &StoreLock, safety: Option<Timestamp>, cause: Error) -> Error {
    match safety.map(|t| staging::remove(lock, t, false)) {
        Some(Err(e)) => {
            let code = cause.code;
            cause.wrap(code, format!("the safety backup could not be removed again ({})", e.error))
        }
        _ => cause,
    }
}

/// The intent could not be made durable, so nothing was committed. What may be there of it must go: the next run would
/// carry out a restore that is about to be reported as failed.
fn withdraw(lock: &StoreLock, safety: Option<Timestamp>, cause: Error) -> Error {
    match Intent::remove(lock) {
        Ok(()) => forget(lock, safety, cause),
        Err(e) => cause.wrap(Code::RestoreIncomplete, format!("nothing was changed yet, but the note of this restore could not be removed ({e}), so `aqe-backup recover` will carry it out")),
    }
}

fn forced(wish: &Wish, suspicions: Vec<String>) -> Result<Vec<String>> {
    if suspicions.is_empty() || wish.force {
        return Ok(suspicions);
    }
    let message = format!("not restored, nothing was changed: {}. Pass force: true (--force) to go on all the same", suspicions.join("; "));
    Err(Error::new(Code::NeedsForce, message))
}

/// Saves every target as it is under our lock. `None` when there is nothing to save. `earlier`: the sets there are.
fn save(
    ctx: &Context,
    project: &Project,
    lock: &StoreLock,
    targets: &mut [Target],
    wish: &Wish,
    earlier: &[SetEntry],
    warnings: &mut Vec<String>,
) -> Result<Option<Timestamp>> {
    // A restore that has begun has to be finished or undone: there the estimate, which is the most it can take, must not
    // stand in the way of what may well fit.
    if wish.write_intent {
        let present = targets.iter().filter(|t| !matches!(t.hold, Hold::Put { replaces: false, .. }));
        let needed = present.map(|t| sources::estimate(&t.database)).sum::<Result<u64>>()?;
        let way_out = "or remove old backups (aqe-backup clean, aqe-backup delete). Nothing was changed";
        space::require(&lock.dir, needed, "the safety backup before this restore", way_out)?;
    }
    let wals = sources::side_files(targets.iter().filter(|t| matches!(t.hold, Hold::Repair { .. })).map(|t| &t.database))?;
    let mut sources: Vec<Source> = targets.iter_mut().filter_map(saved_as).collect();
    if sources.is_empty() {
        return Ok(None);
    }
    sources.extend(wals.iter().map(sources::SideFile::source));
    sources.sort_by(|a, b| a.database.source.cmp(&b.database.source));
    let request =
        Request { compress: false, verify: true, kind: Kind::Safety, label: None, operation: Some(wish.operation.clone()), partial: true };
    let saved = capture::capture(ctx, project, lock, &mut sources, &request, earlier)?;
    let unreadable = sources.iter().filter(|s| matches!(s.state, State::Raw { damaged: Some(_) }));
    let unreadable: Vec<_> = unreadable.map(|s| s.database.path.clone()).collect();
    if let Some(path) = unreadable.first().filter(|_| !wish.force) {
        let message = format!(
            "not restored, nothing was changed: {} can't be read, so only its raw bytes can be saved. Pass force: true (--force) to go on all the same",
            path.display()
        );
        return Err(forget(lock, Some(saved.timestamp), Error::new(Code::NeedsForce, message)));
    }
    for target in targets.iter_mut().filter(|t| unreadable.contains(&t.database.path)) {
        if let Hold::Put { guard: Some(guard), .. } = &mut target.hold {
            guard.damaged = true;
        }
    }
    warnings.extend(saved.damages.iter().map(|d| format!("before the restore, {d}")));
    warnings.extend(saved.warnings);
    Ok(Some(saved.timestamp))
}

fn saved_as(target: &mut Target) -> Option<Source<'_>> {
    let state = match &mut target.hold {
        Hold::Delta { live, facts }
        | Hold::Rebuild { live, facts }
        | Hold::Put { guard: Some(Guard { live, facts: Some(facts), .. }), .. } => State::Pages { live, facts, locked: true },
        Hold::Repair { why, .. } => State::Raw { damaged: Some(why.clone()) },
        Hold::Put { replaces: true, .. } => State::Raw { damaged: None },
        Hold::Put { replaces: false, .. } => return None,
    };
    Some(Source { database: &target.database, state, side_file_of: None })
}

fn intent(project: &Project, wish: &Wish, safety: Option<Timestamp>, prepared: &[Prepared]) -> Intent {
    let targets = prepared.iter().map(|p| IntentTarget {
        job: p.job.clone(),
        method: match &p.ready {
            Ready::Unchanged => Method::Unchanged,
            Ready::Delta { cookie, .. } => Method::Delta { cookie: *cookie },
            Ready::Rebuild { layout_differed, facts, .. } => {
                Method::Rebuild { layout_differed: *layout_differed, was_wal: facts.as_ref().is_some_and(Facts::is_wal) }
            }
            Ready::Put { staged, replaces, .. } => Method::Put { staged: staged.clone(), replaces: *replaces },
        },
    });
    Intent::new(project.mark(), wish.timestamp.to_string(), safety.map(|t| t.to_string()), targets.collect())
}

fn report(prepared: &[Prepared]) -> Result<Vec<RestoredDatabase>> {
    let pages = |job: &Job| {
        let size = job.file.metadata().context("look at", &job.file)?.len();
        Ok::<_, Error>(read_header(&job.file)?.map_or(0, |h| size / u64::from(h.layout.page_size)))
    };
    let mut databases: Vec<_> = prepared
        .iter()
        .map(|p| {
            let (action, pages_written) = match &p.ready {
                Ready::Unchanged => (Action::Unchanged, 0),
                Ready::Delta { pages, .. } => (Action::Updated, *pages),
                Ready::Rebuild { .. } => (Action::Updated, pages(&p.job)?),
                Ready::Put { replaces: true, .. } => (Action::Updated, 0),
                Ready::Put { replaces: false, .. } => (Action::Created, pages(&p.job)?),
            };
            Ok(RestoredDatabase { source: p.job.source.clone(), action, pages_written })
        })
        .collect::<Result<_>>()?;
    databases.sort_by(|a, b| a.source.cmp(&b.source));
    Ok(databases)
}

/// Puts everything that was reached back to the state before. The error to report: rolled back, or not even that.
fn undo(
    ctx: &Context,
    project: &Project,
    lock: &StoreLock,
    intent: &Intent,
    done: &[Done],
    safety: Option<Timestamp>,
    cause: Error,
) -> Error {
    let restoring = &intent.timestamp;
    // If the note of it can't be made, the undoing itself still can; only dying in the middle of it would be worse.
    let noted = intent.undoing(|job| done.iter().any(|d| d.job.source == job.source)).write(lock);
    let undone = restoring
        .parse()
        .and_then(|timestamp| undo_each(ctx, project, lock, timestamp, done.iter().map(|d| (&d.job, d.created)), safety))
        .and_then(|()| Intent::remove(lock));
    match undone {
        Ok(()) => cause.wrap(Code::RestoreRolledBack, format!("restoring {restoring} failed and every database is as it was before")),
        Err(e) => {
            let kept = safety.map_or_else(|| "nothing was there before".to_owned(), |t| format!("the state before is in backup {t}"));
            let noted = noted.map_or_else(|n| format!(", which could not even be noted ({n})"), |()| String::new());
            let message =
                format!("restoring {restoring} failed ({cause}), and so did undoing it ({e}){noted}; {kept}. Run `aqe-backup recover`");
            Error::new(Code::RestoreIncomplete, message).caused_by(cause)
        }
    }
}

/// Takes a file away that the restore had made. If the application has written to it since, it is moved aside instead
/// of deleted.
fn take_away(job: &Job, timestamp: Timestamp) -> Result<()> {
    let side_files = ["-wal", "-shm", "-journal"].map(|suffix| side_file(&job.target, suffix));
    let folder = durable::parent_of(&job.target);
    if !durable::is_there(folder)? {
        return Ok(());
    }
    let mut there = Vec::new();
    for path in std::iter::once(job.target.clone()).chain(side_files) {
        if durable::is_there(&path)? {
            there.push(path);
        }
    }
    if there == [job.target.clone()] && restore_prepare::same_bytes(&job.target, &job.file)? {
        durable::remove_file(&job.target)?;
    } else {
        // A run that died here may have moved some of them.
        for path in &there {
            durable::move_aside(path, &format!(".undone-{timestamp}"))?;
        }
    }
    durable::sync_dir(folder)
}

/// Puts reached targets back from the safety set; files that the restore created are moved aside, not deleted, since
/// the application may have written to them.
pub(super) fn undo_each<'a>(
    ctx: &Context,
    project: &Project,
    lock: &StoreLock,
    timestamp: Timestamp,
    reached: impl Iterator<Item = (&'a Job, bool)>,
    safety: Option<Timestamp>,
) -> Result<()> {
    let mut from_safety = Vec::new();
    for (job, created) in reached {
        if created {
            take_away(job, timestamp)?;
        } else {
            from_safety.push(job.source.as_str());
        }
    }
    let Some(safety) = safety.filter(|_| !from_safety.is_empty()) else { return Ok(()) };
    let set = catalog::find(&lock.dir, safety)?.ok_or_else(|| inspect::not_found(safety, &lock.dir))?;
    // What was damaged before can't pass a check now.
    let files = set_files::resolve(&Place::whole(project)?, &set, &lock.dir.join(names::RESTORE_DIR), false, &ctx.monitor)?;
    let jobs: Vec<Job> = files.jobs.into_iter().filter(|j| from_safety.contains(&j.source.as_str())).collect();
    let wish = Wish {
        timestamp: safety,
        verify: false,
        force: true,
        operation: format!("undo restore {timestamp}"),
        write_intent: false,
        suspicions: Vec::new(),
    };
    apply(ctx, project, lock, &jobs, &wish).map(drop)
}
