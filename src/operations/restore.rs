//! restore: find and check a set, then hand it to the executor.

use std::path::Path;

use super::inspect;
use super::restore_apply::{self, Wish};
use super::session;
use super::set_files::{self, Place, SetFiles};
use super::types::{Context, RestoreOptions, RestoreOutcome};
use crate::backup_set::names;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Phase;
use crate::project::Project;
use crate::store::catalog;
use crate::store::lock::StoreLock;

/// Puts the set called `timestamp` back. When it returns, every database of the set is live and durable, and its former
/// content is in the safety set; on an error nothing has changed, unless its code says otherwise.
pub fn restore(ctx: &Context, timestamp: &str, options: &RestoreOptions) -> Result<RestoreOutcome> {
    let timestamp: Timestamp = timestamp.parse()?;
    let project = ctx.project()?;
    // A wrong name should neither make a folder nor wait for a lock.
    if catalog::find(&project.backup_dir, timestamp)?.is_none() {
        return Err(inspect::not_found(timestamp, &project.backup_dir));
    }
    let place = Place::asked(ctx, &project)?;
    run(ctx, &project, options, |lock| {
        let set = catalog::find(&lock.dir, timestamp)?.ok_or_else(|| inspect::not_found(timestamp, &lock.dir))?;
        ctx.monitor.start(Phase::Verify, set.files.values().sum());
        set_files::resolve(&place, &set, &lock.dir.join(names::RESTORE_DIR), options.verify, &ctx.monitor)
    })
}

/// The same from an archive that lies anywhere.
pub fn restore_archive(ctx: &Context, archive: &Path, options: &RestoreOptions) -> Result<RestoreOutcome> {
    let project = ctx.project()?;
    if !archive.try_exists().context("look at", archive)? {
        return Err(Error::new(Code::BackupNotFound, format!("there is no archive {}; check the path", archive.display())));
    }
    let place = Place::asked(ctx, &project)?;
    run(ctx, &project, options, |lock| {
        ctx.monitor.start(Phase::Verify, 0);
        set_files::from_archive(&place, archive, &lock.dir.join(names::RESTORE_DIR), options.verify, &ctx.monitor)
    })
}

fn run(
    ctx: &Context,
    project: &Project,
    options: &RestoreOptions,
    find: impl FnOnce(&StoreLock) -> Result<SetFiles>,
) -> Result<RestoreOutcome> {
    let (lock, recovery) = session::enter(ctx, project)?;
    let work = lock.dir.join(names::RESTORE_DIR);
    durable::remove_dir_all(&work)?;
    durable::create_private_dir(&work)?;
    let outcome = find(&lock).and_then(|set| {
        let wish = Wish {
            timestamp: set.timestamp,
            verify: options.verify,
            force: options.force,
            operation: format!("restore {}", set.timestamp),
            write_intent: true,
            suspicions: set.suspicions,
        };
        let applied = restore_apply::apply(ctx, project, &lock, &set.jobs, &wish)?;
        Ok(RestoreOutcome {
            timestamp: set.timestamp,
            safety_backup: applied.safety,
            databases: applied.databases,
            warnings: [recovery.warnings, set.warnings, applied.warnings].concat(),
        })
    });
    let mut outcome = outcome;
    // An intent that could not be carried out still needs the files in there.
    if durable::is_there(&lock.dir.join(names::INTENT)).is_ok_and(|there| !there) {
        // The next run sweeps what can't be removed now; the restore itself is done, or not, all the same.
        if let (Err(e), Ok(o)) = (durable::remove_dir_all(&work), &mut outcome) {
            o.warnings.push(format!("restored; its working folder could not be removed: {e}"));
        }
    }
    if outcome.is_ok() {
        ctx.monitor.finish();
    }
    outcome
}
