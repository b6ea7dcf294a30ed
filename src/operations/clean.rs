//! clean: removes old sets by the plan of `store::retention`.

use super::session;
use super::types::Context;
use crate::backup_set::timestamp::Timestamp;
use crate::error::Result;
use crate::store::catalog;
use crate::store::lock::StoreLock;
use crate::store::retention::{self, Fate, SetFacts};
use crate::store::staging;

/// Keeps the newest `keep_last` sets of each kind and removes older ones (see [`retention::keep_newest`]). Returns how
/// many sets are gone from the list; that is durable. A missing backups folder has nothing to remove.
pub fn clean(ctx: &Context, keep_last: u32) -> Result<u32> {
    let project = ctx.project()?;
    if !project.backup_dir.exists() {
        return Ok(0);
    }
    let (lock, _) = session::enter(ctx, &project)?;
    let removed = remove_old(&lock, keep_last)?;
    ctx.monitor.finish();
    Ok(removed)
}

/// The same, under a lock that is held already.
pub(super) fn remove_old(lock: &StoreLock, keep_last: u32) -> Result<u32> {
    let sets: Vec<SetFacts> = catalog::scan(&lock.dir)?.iter().map(SetFacts::from).collect();
    let listed = |t: Timestamp| sets.iter().any(|s| s.timestamp == t && !s.archive_only);
    let mut removed = 0;
    for decision in retention::keep_newest(&sets, keep_last, Timestamp::from_instant(jiff::Timestamp::now())) {
        if decision.fate == Fate::Keep {
            continue;
        }
        staging::remove(lock, decision.timestamp, decision.fate == Fate::Trim)?;
        removed += u32::from(listed(decision.timestamp));
    }
    Ok(removed)
}
