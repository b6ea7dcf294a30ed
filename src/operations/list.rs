//! list and info: the sets there are. No lock, no database opened.

use std::path::Path;

use super::inspect;
use super::types::{BackupInfo, Context};
use crate::backup_set::names;
use crate::backup_set::timestamp::Timestamp;
use crate::error::Result;
use crate::store::catalog::{self, SetEntry};

/// All sets, newest first; with `archives`, those too of which only the archive is left. A missing folder has none.
pub fn list(ctx: &Context, archives: bool) -> Result<Vec<BackupInfo>> {
    list_as(ctx, archives, |info| info)
}

/// What `each` makes of them, on several threads.
pub fn list_as<T: Send>(ctx: &Context, archives: bool, each: impl Fn(BackupInfo) -> T + Sync) -> Result<Vec<T>> {
    let dir = ctx.project()?.backup_dir;
    let wanted = |set: SetEntry| (archives || !set.archive_only()).then(|| each(describe(&dir, set)));
    let mut sets = catalog::scan_as(&dir, wanted)?;
    sets.reverse();
    Ok(sets)
}

/// One set. `BACKUP_NOT_FOUND` if there is none of that name.
pub fn info(ctx: &Context, timestamp: &str) -> Result<BackupInfo> {
    let timestamp: Timestamp = timestamp.parse()?;
    let dir = ctx.project()?.backup_dir;
    let set = catalog::find(&dir, timestamp)?.ok_or_else(|| inspect::not_found(timestamp, &dir))?;
    Ok(describe(&dir, set))
}

fn describe(dir: &Path, set: SetEntry) -> BackupInfo {
    let archive_only = set.archive_only();
    let (files, size) = if archive_only {
        (vec![dir.join(names::archive(set.timestamp))], set.archive.unwrap_or(0))
    } else {
        (set.files.keys().map(|f| dir.join(f)).collect(), set.files.values().sum())
    };
    BackupInfo {
        timestamp: set.timestamp,
        date: set.metadata().map_or_else(|| set.timestamp.to_string(), |m| m.date.clone()),
        files,
        size,
        kind: set.kind(),
        compressed: set.archive.is_some(),
        archive_only,
        complete: set.complete(),
        metadata: set.metadata.and_then(Result::ok),
    }
}
