//! Carries a restore out: lock every target, save what is there, write what differs, and only when all of it is ready
//! commit; then prove. Used by restore, by its undoing, and by recovery.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::capture::{self, Request, Source, State};
use super::inspect;
use super::intent::{Intent, IntentTarget, Method};
use super::restore_targets::{self, Hold, Target};
use super::set_files::{self, Job};
use super::types::{Action, Context, RestoredDatabase};
use crate::backup_set::checksum;
use crate::backup_set::metadata::Kind;
use crate::backup_set::names;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::{Monitor, Phase};
use crate::project::Project;
use crate::sqlite::connection::{Live, side_file};
use crate::sqlite::health::{self, Verdict};
use crate::sqlite::page_writer;
use crate::sqlite::raw_file::RawFile;
use crate::store::catalog;
use crate::store::lock::StoreLock;
use crate::store::space;
use crate::store::staging;

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

/// A target with everything written and nothing committed.
enum Ready {
    Unchanged,
    Delta { live: Live, cookie: u32, pages: u64 },
    Rebuild { live: Live, facts: Option<crate::sqlite::connection::Facts>, layout_differed: bool },
    Put { staged: PathBuf, replaces: bool, mode: Option<u32> },
}

struct Prepared {
    job: Job,
    ready: Ready,
}

/// Makes every job's target equal to its copy: all of them, or none.
pub(super) fn apply(ctx: &Context, project: &Project, lock: &StoreLock, jobs: &[Job], wish: &Wish) -> Result<Applied> {
    let mut suspicions = wish.suspicions.clone();
    let mut by_target: Vec<&Job> = jobs.iter().collect();
    // Always in this order, so that two restores can't wait for each other.
    by_target.sort_by(|a, b| a.target.cmp(&b.target));
    let patience = ctx.patience();
    let mut targets =
        by_target.into_iter().map(|job| restore_targets::hold(job, &patience, &mut suspicions)).collect::<Result<Vec<_>>>()?;
    let mut warnings = forced(wish, suspicions)?;

    let safety = save(ctx, project, lock, &mut targets, wish, &mut warnings)?;
    ctx.monitor.start(Phase::Write, jobs.iter().filter_map(|j| j.file.metadata().ok()).map(|m| m.len()).sum());
    let prepared = targets.into_iter().map(|t| prepare(t, lock, wish, &ctx.monitor)).collect::<Result<Vec<_>>>();
    let mut prepared = match prepared.and_then(|p| ctx.monitor.check().map(|()| p)) {
        Ok(prepared) => prepared,
        Err(e) => return Err(forget(lock, safety, e)),
    };
    if prepared.iter().all(|p| matches!(p.ready, Ready::Unchanged)) {
        return Ok(Applied { safety, databases: report(&prepared), warnings });
    }

    if wish.write_intent {
        intent(wish, safety, &prepared).write(lock)?;
    }
    // Too late to stop: from here on it is finished or undone.
    let ctx = Context { monitor: Monitor::default(), ..ctx.clone() };
    let databases = report(&prepared);
    let mut done = Vec::new();
    let carried = carry_out(&ctx, &mut prepared, wish, &mut done, &mut warnings).and_then(|()| prove(&ctx, &done, wish, &mut warnings));
    drop(prepared);
    match carried {
        Ok(()) if wish.write_intent => Intent::remove(lock)?,
        Ok(()) => {}
        Err(e) if wish.write_intent => return Err(undo(&ctx, project, lock, wish, &done, safety, e)),
        Err(e) => return Err(e),
    }
    Ok(Applied { safety, databases, warnings })
}

/// Nothing was changed, so nothing needs to be undone: a failed run leaves no set behind.
fn forget(lock: &StoreLock, safety: Option<Timestamp>, cause: Error) -> Error {
    match safety.map(|t| staging::remove(lock, t, false)) {
        Some(Err(e)) => {
            let code = cause.code;
            cause.wrap(code, format!("the safety backup could not be removed again ({e})"))
        }
        _ => cause,
    }
}

fn forced(wish: &Wish, suspicions: Vec<String>) -> Result<Vec<String>> {
    if suspicions.is_empty() || wish.force {
        return Ok(suspicions);
    }
    let message = format!("not restored, nothing was changed: {}. Pass force: true (--force) to go on all the same", suspicions.join("; "));
    Err(Error::new(Code::NeedsForce, message))
}

/// Saves every target as it is under our lock. `None` when there is nothing to save.
fn save(
    ctx: &Context,
    project: &Project,
    lock: &StoreLock,
    targets: &mut [Target],
    wish: &Wish,
    warnings: &mut Vec<String>,
) -> Result<Option<Timestamp>> {
    let present = || targets.iter().filter(|t| !matches!(t.hold, Hold::Put { replaces: false }));
    space::require(&lock.dir, present().map(|t| capture::estimate(&t.database)).sum::<Result<u64>>()?)?;
    let wals = capture::side_files(targets.iter().filter(|t| matches!(t.hold, Hold::Repair { .. })).map(|t| &t.database))?;
    let mut sources: Vec<Source> = targets.iter_mut().filter_map(saved_as).collect();
    if sources.is_empty() {
        return Ok(None);
    }
    sources.extend(wals.iter().map(capture::SideFile::source));
    sources.sort_by(|a, b| a.database.source.cmp(&b.database.source));
    let request = Request { compress: false, verify: true, kind: Kind::Safety, label: None, operation: Some(wish.operation.clone()) };
    let saved = capture::capture(ctx, project, lock, &mut sources, &request, &[])?;
    let unreadable = sources.iter().find(|s| matches!(s.state, State::Raw { damaged: Some(_) })).map(|s| s.database.path.clone());
    if let Some(path) = unreadable.filter(|_| !wish.force) {
        staging::remove(lock, saved.timestamp, false)?;
        let message = format!(
            "not restored, nothing was changed: {} can't be read, so only its raw bytes can be saved. Pass force: true (--force) to go on all the same",
            path.display()
        );
        return Err(Error::new(Code::NeedsForce, message));
    }
    warnings.extend(saved.damages.iter().map(|d| format!("before the restore, {d}")));
    warnings.extend(saved.warnings);
    Ok(Some(saved.timestamp))
}

fn saved_as(target: &mut Target) -> Option<Source<'_>> {
    let state = match &mut target.hold {
        Hold::Delta { live, facts } | Hold::Rebuild { live, facts } => State::Pages { live, facts, locked: true },
        Hold::Repair { why, .. } => State::Raw { damaged: Some(why.clone()) },
        Hold::Put { replaces: true } => State::Raw { damaged: None },
        Hold::Put { replaces: false } => return None,
    };
    Some(Source { database: &target.database, state, side_file_of: None })
}

/// Does everything but the commit.
fn prepare(target: Target, lock: &StoreLock, wish: &Wish, monitor: &Monitor) -> Result<Prepared> {
    let job = target.job;
    let ready = match target.hold {
        Hold::Delta { mut live, facts } => {
            let size = job.file.metadata().context("look at", &job.file)?.len();
            let mut file = io::BufReader::with_capacity(1 << 20, File::open(&job.file).context("open", &job.file)?);
            let pages = size / u64::from(facts.page_size);
            let delta = page_writer::write_delta(&live, &facts, &mut file, pages, &mut |n| monitor.advance(&job.source, n))?;
            require_hash(&job, &checksum::hex(&delta.sha256))?;
            live.flush()?;
            live.ignore_cancellation();
            match delta.pages_written {
                0 => Ready::Unchanged,
                pages => Ready::Delta { live, cookie: delta.cookie, pages },
            }
        }
        Hold::Rebuild { mut live, facts } => {
            let backup = super::intent::read_header(&job.file)?;
            require_hash(&job, &hash_file(&job, monitor)?)?;
            live.ignore_cancellation();
            match (facts.header, backup) {
                (None, None) => Ready::Unchanged,
                (ours, theirs) => {
                    let layout_differed = matches!((ours, theirs), (Some(a), Some(b)) if a.layout != b.layout);
                    Ready::Rebuild { live, facts: Some(facts), layout_differed }
                }
            }
        }
        Hold::Repair { mut live, .. } => {
            require_hash(&job, &hash_file(&job, monitor)?)?;
            live.ignore_cancellation();
            Ready::Rebuild { live, facts: None, layout_differed: false }
        }
        Hold::Put { replaces } => prepare_put(&job, replaces, lock, wish, monitor)?,
    };
    Ok(Prepared { job, ready })
}

fn hash_file(job: &Job, monitor: &Monitor) -> Result<String> {
    let mut file = File::open(&job.file).context("open", &job.file)?;
    let saw = |n| {
        monitor.advance(&job.source, n);
        monitor.check().map_err(io::Error::other)
    };
    let hashed =
        checksum::hash_reader(&mut file, saw).map_err(|e| monitor.check().err().unwrap_or_else(|| Error::io(e, "read", &job.file)));
    hashed.map(|(hash, _)| hash)
}

fn require_hash(job: &Job, hash: &str) -> Result<()> {
    if job.sha256.as_deref().is_none_or(|wanted| wanted == hash) {
        return Ok(());
    }
    let message = format!(
        "{} changed while it was being restored: its bytes are not the ones that were backed up. Nothing was changed; use another backup",
        job.file.display()
    );
    Err(Error::new(Code::ChecksumMismatch, message))
}

/// Copies a file that will take the target's place, checked and durable, into our working folder.
fn prepare_put(job: &Job, replaces: bool, lock: &StoreLock, wish: &Wish, monitor: &Monitor) -> Result<Ready> {
    if replaces && wish.verify && same_bytes(job)? {
        return Ok(Ready::Unchanged);
    }
    let work = lock.dir.join(names::RESTORE_DIR);
    let staged = (0..).map(|n: u32| work.join(format!("put-{n}"))).find(|p| !p.exists()).unwrap_or_default();
    let mut out = durable::create_exclusive(&staged)?;
    let mut file = File::open(&job.file).context("open", &job.file)?;
    io::copy(&mut file, &mut out).context("write", &staged)?;
    out.sync_all().context("flush", &staged)?;
    require_hash(job, &hash_file(&Job { file: staged.clone(), ..job.clone() }, monitor)?)?;
    let present = if replaces { mode_of(&job.target) } else { None };
    Ok(Ready::Put { staged, replaces, mode: present.or(job.mode) })
}

fn mode_of(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    return path.metadata().ok().map(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()) & 0o777);
    #[cfg(not(unix))]
    return Option::<u32>::None.filter(|_| path.exists());
}

fn same_bytes(job: &Job) -> Result<bool> {
    let mut live = RawFile::open(&job.target)?;
    let (hash, _) = checksum::hash_reader(&mut live, |_| Ok::<_, io::Error>(())).context("read", &job.target)?;
    Ok(job.sha256.as_deref() == Some(hash.as_str()))
}

fn intent(wish: &Wish, safety: Option<Timestamp>, prepared: &[Prepared]) -> Intent {
    let targets = prepared.iter().map(|p| IntentTarget {
        job: p.job.clone(),
        method: match &p.ready {
            Ready::Unchanged => Method::Unchanged,
            Ready::Delta { cookie, .. } => Method::Delta { cookie: *cookie },
            Ready::Rebuild { layout_differed, .. } => Method::Rebuild { layout_differed: *layout_differed },
            Ready::Put { staged, replaces, .. } => Method::Put { staged: staged.clone(), replaces: *replaces },
        },
    });
    Intent::new(wish.timestamp.to_string(), safety.map(|t| t.to_string()), targets.collect())
}

fn report(prepared: &[Prepared]) -> Vec<RestoredDatabase> {
    let pages = |job: &Job| {
        let size = job.file.metadata().map_or(0, |m| m.len());
        let header = super::intent::read_header(&job.file).ok().flatten();
        header.map_or(0, |h| size / u64::from(h.layout.page_size))
    };
    let mut databases: Vec<_> = prepared
        .iter()
        .map(|p| {
            let (action, pages_written) = match &p.ready {
                Ready::Unchanged => (Action::Unchanged, 0),
                Ready::Delta { pages, .. } => (Action::Updated, *pages),
                Ready::Rebuild { .. } => (Action::Updated, pages(&p.job)),
                Ready::Put { replaces: true, .. } => (Action::Updated, 0),
                Ready::Put { replaces: false, .. } => (Action::Created, pages(&p.job)),
            };
            RestoredDatabase { source: p.job.source.clone(), action, pages_written }
        })
        .collect();
    databases.sort_by(|a, b| a.source.cmp(&b.source));
    databases
}

/// A target that the restore has reached, for the proof and for undoing.
struct Done {
    job: Job,
    created: bool,
    cookie: Option<u32>,
}

/// Commits everything, what is likeliest to fail first: rebuilding, then renaming, then commits whose pages are on disk
/// already. `done` grows as targets are reached.
fn carry_out(ctx: &Context, prepared: &mut Vec<Prepared>, wish: &Wish, done: &mut Vec<Done>, warnings: &mut Vec<String>) -> Result<()> {
    prepared.sort_by_key(|p| match p.ready {
        Ready::Rebuild { .. } => 0,
        Ready::Put { .. } => 1,
        Ready::Delta { .. } => 2,
        Ready::Unchanged => 3,
    });
    // Taken off one by one: those not reached yet stay locked until their turn.
    while !prepared.is_empty() {
        let Prepared { job, ready } = prepared.remove(0);
        let mut reached = Done { job, created: false, cookie: None };
        match ready {
            Ready::Unchanged => continue,
            Ready::Delta { live, cookie, .. } => {
                live.commit()?;
                reached.cookie = Some(cookie);
            }
            Ready::Rebuild { live, facts, .. } => {
                page_writer::rebuild(live, &reached.job.file, facts.as_ref())?;
                if facts.is_some_and(|f| f.is_wal()) {
                    page_writer::enter_wal(&reached.job.target, &ctx.patience())
                        .unwrap_or_else(|e| warnings.push(format!("{} is restored but no longer in WAL mode: {e}", reached.job.source)));
                }
            }
            Ready::Put { staged, replaces, mode } => {
                put(&staged, &reached.job.target, replaces, mode, wish.timestamp, warnings)?;
                reached.created = !replaces;
            }
        }
        done.push(reached);
    }
    Ok(())
}

/// Renames `staged` to `target`, out of the way of whatever belonged to a file that is gone. Durable when it returns.
fn put(staged: &Path, target: &Path, replaces: bool, mode: Option<u32>, timestamp: Timestamp, warnings: &mut Vec<String>) -> Result<()> {
    let folder = target.parent().unwrap_or(target);
    fs::create_dir_all(folder).context("create the folder", folder)?;
    for suffix in ["-wal", "-shm", "-journal"] {
        move_aside(&side_file(target, suffix), timestamp, warnings)?;
    }
    if let Some(mode) = mode {
        let file = File::open(staged).context("open", staged)?;
        durable::set_mode(&file, mode).context("set the mode of", staged)?;
    }
    let place = |from: &Path| if replaces { durable::rename_over(from, target) } else { durable::rename_new(from, target) };
    match place(staged) {
        // The backups folder lies on another file system: copy first, so that the name still appears all at once.
        Err(e) if e.io_kind() == Some(io::ErrorKind::CrossesDevices) => {
            let beside = side_file(target, ".aqe-restoring");
            copy_across(staged, &beside, mode)?;
            place(&beside)?;
        }
        placed => placed?,
    }
    durable::sync_dir(folder)?;
    // Its absence is how recovery knows that the target was reached.
    durable::remove_file(staged)
}

fn copy_across(staged: &Path, to: &Path, mode: Option<u32>) -> Result<()> {
    durable::remove_file(to)?;
    let mut out = durable::create_exclusive(to)?;
    io::copy(&mut File::open(staged).context("open", staged)?, &mut out).context("write", to)?;
    durable::set_mode(&out, mode.unwrap_or(0o600)).context("set the mode of", to)?;
    out.sync_all().context("flush", to)
}

/// A WAL or journal without its database would be replayed into the new one.
fn move_aside(path: &Path, timestamp: Timestamp, warnings: &mut Vec<String>) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let aside = side_file(path, &format!(".stale-{timestamp}"));
    durable::rename_over(path, &aside)?;
    warnings.push(format!("{} belonged to a database that is gone; it was moved to {}", path.display(), aside.display()));
    Ok(())
}

/// Looks at every database that was changed, through a new connection. The application may have gone on already, so
/// equality is not to be expected; the schema cookie and the structure must be right.
fn prove(ctx: &Context, done: &[Done], wish: &Wish, warnings: &mut Vec<String>) -> Result<()> {
    for d in done.iter().filter(|d| d.job.sqlite && wish.verify) {
        let path = &d.job.target;
        let (live, facts) = match Live::open_pinned(path, &ctx.patience()) {
            Ok(pinned) => pinned,
            Err(e) if e.code == Code::DatabaseBusy => {
                warnings.push(format!("{} is restored; it was too busy to be looked at again: {e}", d.job.source));
                continue;
            }
            Err(e) => return Err(e),
        };
        let cookie = facts.header.map(|h| h.schema_cookie);
        let arrived = d.cookie.is_none_or(|wanted| cookie.is_some_and(|now| crate::sqlite::header::cookie_reached(now, wanted)));
        if !arrived {
            return Err(Error::new(Code::IoError, format!("{} does not hold what was just committed to it", path.display())));
        }
        if let Verdict::Damaged(why) = health::check_live(&live) {
            return Err(Error::new(Code::IoError, format!("{} is damaged after the restore: {why}", path.display())));
        }
    }
    Ok(())
}

/// Puts everything that was reached back to the state before. The error to report: rolled back, or not even that.
fn undo(ctx: &Context, project: &Project, lock: &StoreLock, wish: &Wish, done: &[Done], safety: Option<Timestamp>, cause: Error) -> Error {
    let undone =
        undo_each(ctx, project, lock, wish.timestamp, done.iter().map(|d| (&d.job, d.created)), safety).and_then(|()| Intent::remove(lock));
    match undone {
        Ok(()) => {
            cause.wrap(Code::RestoreRolledBack, format!("restoring {} failed and every database is as it was before", wish.timestamp))
        }
        Err(e) => {
            let kept = safety.map_or_else(|| "nothing was there before".to_owned(), |t| format!("the state before is in backup {t}"));
            let message =
                format!("restoring {} failed ({cause}), and so did undoing it ({e}); {kept}. Run `aqe-backup recover`", wish.timestamp);
            Error::new(Code::RestoreIncomplete, message).caused_by(cause)
        }
    }
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
            for suffix in ["", "-wal", "-shm", "-journal"] {
                let path = side_file(&job.target, suffix);
                if path.symlink_metadata().is_ok() {
                    durable::rename_over(&path, &side_file(&path, &format!(".undone-{timestamp}")))?;
                }
            }
        } else {
            from_safety.push(job.source.as_str());
        }
    }
    let Some(safety) = safety.filter(|_| !from_safety.is_empty()) else { return Ok(()) };
    let set = catalog::find(&lock.dir, safety)?.ok_or_else(|| inspect::not_found(safety, &lock.dir))?;
    // What was damaged before can't pass a check now.
    let files = set_files::resolve(project, &set, &lock.dir.join(names::RESTORE_DIR), false, &ctx.monitor)?;
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
