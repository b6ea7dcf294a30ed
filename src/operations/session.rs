//! What every verb starts with: the project and, for those that change something, the lock and a clean slate.

use super::pending_restore;
use super::types::{Context, Recovery};
use crate::error::Result;
use crate::progress::Phase;
use crate::project::Project;
use crate::sqlite::connection::Patience;
use crate::store::lock::{self, StoreLock};
use crate::store::staging;

impl Context {
    /// The project these options speak of.
    pub(super) fn project(&self) -> Result<Project> {
        Project::open(self.root.as_deref(), self.backup_dir.as_deref())
    }

    pub(super) fn patience(&self) -> Patience {
        Patience { timeout: self.busy_timeout, monitor: self.monitor.clone() }
    }
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
