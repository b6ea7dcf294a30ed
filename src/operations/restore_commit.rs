//! The second half of a restore: everything that was prepared takes effect, one target after the other, and is proven.

use std::fs::File;
use std::io;
use std::path::Path;

use super::restore_prepare::{Prepared, Ready};
use super::restore_targets::Guard;
use super::set_files::Job;
use super::types::Context;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::sqlite::connection::{Live, side_file};
use crate::sqlite::health::{self, Verdict};
use crate::sqlite::{header, page_writer};

/// A target that the restore has reached, for the proof and for undoing.
pub(super) struct Done {
    pub job: Job,
    pub created: bool,
    cookie: Option<u32>,
}

/// Commits everything, what is likeliest to fail first: rebuilding, then renaming, then commits whose pages are on disk
/// already. `done` grows as targets are reached.
pub(super) fn carry_out(
    ctx: &Context,
    prepared: &mut Vec<Prepared>,
    timestamp: Timestamp,
    done: &mut Vec<Done>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    prepared.sort_by_key(|p| match p.ready {
        Ready::Rebuild { .. } => 0,
        Ready::Put { .. } => 1,
        Ready::Delta { .. } => 2,
        Ready::Unchanged => 3,
    });
    // Taken off one by one: those not reached yet stay locked until their turn.
    while !prepared.is_empty() {
        let Prepared { job, ready } = prepared.remove(0);
        // A commit that fails may have taken effect all the same, so what is begun counts as reached: undoing what was
        // not changed finds nothing to write.
        let reached = |created, cookie| Done { job: job.clone(), created, cookie };
        match ready {
            Ready::Unchanged => {}
            Ready::Delta { live, cookie, .. } => {
                done.push(reached(false, Some(cookie)));
                live.commit()?;
            }
            Ready::Rebuild { live, facts, .. } => {
                done.push(reached(false, None));
                page_writer::rebuild(live, &job.file, facts.as_ref())?;
                if facts.is_some_and(|f| f.is_wal()) {
                    page_writer::enter_wal(&job.target, &ctx.patience())
                        .unwrap_or_else(|e| warnings.push(format!("{} is restored but no longer in WAL mode: {e}", job.source)));
                }
            }
            Ready::Put { staged, replaces, mode, guard } => {
                let was_wal = guard.as_ref().is_some_and(Guard::is_wal);
                let guard = guard.map_or(Ok(None), |g| vacate(g, &job.target));
                let placed = guard.and_then(|g| place(&staged, &job.target, replaces, mode, timestamp, warnings).map(|()| g));
                let guard = placed.map_err(|e| if was_wal { back_into_wal(ctx, &job.target, e) } else { e })?;
                // Only now: a file that somebody else made there in the meantime is not ours to undo.
                done.push(reached(!replaces, None));
                settle(&staged, &job.target)?;
                guard.into_iter().for_each(Live::forsake);
            }
        }
    }
    Ok(())
}

/// Makes a database that was saved ready to be replaced. Programs that wait for its lock will find themselves with a file
/// that has lost its name: with a rollback journal SQLite tells them so, but in WAL mode they would go on, in a WAL beside
/// the new file. Nothing that is left of it beside the file is needed. Returns the lock, to be kept.
fn vacate(guard: Guard, target: &Path) -> Result<Option<Live>> {
    if guard.damaged {
        // Its WAL is in no copy: it is moved aside.
        return Ok(keep(guard.live));
    }
    if guard.is_wal() {
        page_writer::leave_wal(&guard.live)?;
    } else {
        guard.live.release()?;
    }
    for suffix in ["-wal", "-shm", "-journal"] {
        durable::remove_file(&side_file(target, suffix))?;
    }
    Ok(keep(guard.live))
}

/// Windows renames nothing over a file that is open, so there the lock ends a moment too soon.
fn keep(live: Live) -> Option<Live> {
    if cfg!(windows) {
        live.forsake();
        return None;
    }
    Some(live)
}

/// `e`, after a database that was not replaced is back in WAL mode.
fn back_into_wal(ctx: &Context, target: &Path, e: Error) -> Error {
    match page_writer::enter_wal(target, &ctx.patience()) {
        Ok(()) => e,
        Err(why) => {
            let code = e.code;
            e.wrap(code, format!("{} is no longer in WAL mode ({why})", target.display()))
        }
    }
}

/// Renames `staged` to `target`, out of the way of whatever belonged to a file that is gone. If it fails, `target` is as
/// it was.
fn place(staged: &Path, target: &Path, replaces: bool, mode: Option<u32>, timestamp: Timestamp, warnings: &mut Vec<String>) -> Result<()> {
    let folder = durable::parent_of(target);
    durable::create_dir_all(folder)?;
    for suffix in ["-wal", "-shm", "-journal"] {
        move_aside(&side_file(target, suffix), timestamp, warnings)?;
    }
    // A WAL or journal that came back with the power would be replayed into the new file.
    durable::sync_dir(folder)?;
    let rename = |from: &Path| if replaces { durable::rename_over(from, target) } else { durable::rename_new(from, target) };
    match rename(staged) {
        // The backups folder lies on another file system: copy first, so that the name still appears all at once.
        Err(e) if e.io_kind() == Some(io::ErrorKind::CrossesDevices) => {
            let beside = side_file(target, ".aqe-restoring");
            copy_across(staged, &beside, mode)?;
            rename(&beside)
        }
        renamed => renamed,
    }
}

/// Makes the new name durable, and then that the old one is gone: its absence is how recovery knows that the target was
/// reached.
fn settle(staged: &Path, target: &Path) -> Result<()> {
    durable::sync_dir(durable::parent_of(target))?;
    durable::remove_file(staged)?;
    durable::sync_dir(durable::parent_of(staged))
}

fn copy_across(staged: &Path, to: &Path, mode: Option<u32>) -> Result<()> {
    durable::remove_file(to)?;
    let mut out = durable::create_exclusive(to)?;
    io::copy(&mut File::open(staged).context("open", staged)?, &mut out).context("write", to)?;
    durable::set_owner_like(&out, staged).context("set the owner of", to)?;
    durable::set_mode(&out, mode.unwrap_or(0o600)).context("set the mode of", to)?;
    out.sync_all().context("flush", to)
}

/// A WAL or journal without its database would be replayed into the new one.
fn move_aside(path: &Path, timestamp: Timestamp, warnings: &mut Vec<String>) -> Result<()> {
    if !durable::is_there(path)? {
        return Ok(());
    }
    let aside = durable::move_aside(path, &format!(".stale-{timestamp}"))?;
    warnings.push(format!("{} belonged to a database that is gone; it was moved to {}", path.display(), aside.display()));
    Ok(())
}

/// Looks at every database that was changed, through a new connection. The application may have gone on already, so
/// equality is not to be expected; the schema cookie and the structure must be right.
pub(super) fn prove(ctx: &Context, done: &[Done], warnings: &mut Vec<String>) -> Result<()> {
    for d in done.iter().filter(|d| d.job.sqlite) {
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
        // Another restore may have come after this one, from another backups folder; then the cookie has gone further.
        let arrived = d.cookie.is_none_or(|wanted| cookie.is_some_and(|now| header::cookie_is_past(now, wanted)));
        if !arrived {
            return Err(Error::new(Code::IoError, format!("{} does not hold what was just committed to it", path.display())));
        }
        if let Verdict::Damaged(why) = health::check_live(&live)? {
            return Err(Error::new(Code::IoError, format!("{} is damaged after the restore: {why}", path.display())));
        }
    }
    Ok(())
}
