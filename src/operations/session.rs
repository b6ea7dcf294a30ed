//! What every verb starts with: the project and, for those that change something, the lock and a clean slate.

use super::pending_restore;
use super::types::{Context, Recovery};
use crate::error::{Code, Error, Result};
use crate::progress::Phase;
use crate::project::{Discovery, Project};
use crate::sqlite::connection::Patience;
use crate::sqlite::posix_locks;
use crate::store::catalog;
use crate::store::lock::{self, StoreLock};
use crate::store::staging;

impl Context {
    /// The project these options speak of.
    pub(super) fn project(&self) -> Result<Project> {
        // Every verb comes by here before it opens a file.
        posix_locks::occupy_standard_descriptors();
        Project::open(self.root.as_deref(), self.backup_dir.as_deref())
    }

    pub(super) fn patience(&self) -> Patience {
        Patience { timeout: self.busy_timeout, monitor: self.monitor.clone() }
    }
}

/// The databases to work on. Where there are none any more, backups may still have them.
pub(super) fn databases(ctx: &Context, project: &Project) -> Result<Discovery> {
    project.databases(ctx.databases.as_deref()).map_err(|e| {
        // A folder that can't be listed just gives no hint.
        let sets =
            if e.code == Code::NoDatabases { catalog::scan_own(&project.backup_dir, project).unwrap_or_default() } else { Vec::new() };
        match sets.iter().rev().find(|s| !s.sources().is_empty()) {
            Some(set) => {
                let hint = format!(
                    "backup {} in {} has {}; `aqe-backup restore {}{}` puts them back",
                    set.timestamp,
                    project.backup_dir.display(),
                    set.sources().join(", "),
                    set.timestamp,
                    project.flags()
                );
                Error::new(e.code, format!("{}; {hint}", e.message))
            }
            None => e,
        }
    })
}

/// Takes the lock of the backups folder, making the folder if need be; then finishes or undoes what a dead run left.
pub(super) fn enter(ctx: &Context, project: &Project) -> Result<(StoreLock, Recovery)> {
    ctx.monitor.check()?;
    ctx.monitor.start(Phase::Lock, 0);
    let lock = lock::create_and_lock(&project.backup_dir, ctx.lock_timeout, &ctx.monitor)?;
    let recovery = settle(ctx, project, &lock)?;
    Ok((lock, recovery))
}

/// Finishes or undoes a dead restore, then sweeps away half-made and half-removed sets.
pub(super) fn settle(ctx: &Context, project: &Project, lock: &StoreLock) -> Result<Recovery> {
    let swept = staging::sweep(lock)?;
    let recovery = pending_restore::settle_pending(ctx, project, lock)?;
    Ok(Recovery { swept: recovery.swept + swept, ..recovery })
}
