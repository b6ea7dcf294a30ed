//! recover: finishes or undoes what a dead run left, as every operation that takes the lock does first.

use super::session;
use super::types::{Context, Recovery};
use crate::durable;
use crate::error::Result;

/// Finishes or undoes whatever a dead run left, and says what it was. Nothing to do is fine.
pub fn recover(ctx: &Context) -> Result<Recovery> {
    let project = ctx.project()?;
    if !durable::is_there(&project.backup_dir)? {
        return Ok(Recovery::default());
    }
    let (_lock, recovery) = session::enter(ctx, &project)?;
    ctx.monitor.finish();
    Ok(recovery)
}
