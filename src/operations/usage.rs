//! usage: bytes in the backups folder. No lock, no database opened.

use super::types::{Context, Usage};
use crate::backup_set::names::Artefact;
use crate::error::Result;
use crate::store::{catalog, space};

/// Bytes by kind of file. A missing folder uses none.
pub fn usage(ctx: &Context) -> Result<Usage> {
    let project = ctx.project()?;
    let dir = project.backup_dir;
    let mut usage = Usage { backup_dir: dir.clone(), ..Usage::default() };
    for (_, artefact, _, size) in catalog::artefacts(&dir)? {
        match artefact {
            Artefact::Database(_) => usage.databases_size += size,
            Artefact::Archive => usage.archives_size += size,
            _ => {}
        }
    }
    usage.total_size = catalog::total_size(&dir)?;
    usage.other_size = usage.total_size.saturating_sub(usage.databases_size + usage.archives_size);
    for set in catalog::scan(&dir)? {
        if set.archive_only() { usage.archives_only += 1 } else { usage.backups += 1 }
    }
    usage.free = space::free(&dir)?;
    Ok(usage)
}
