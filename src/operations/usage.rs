//! usage: bytes in the backups folder. No lock, no database opened.

use super::types::{Context, Share, Usage};
use crate::backup_set::names::Artefact;
use crate::error::Result;
use crate::store::{catalog, folder, space};

/// Bytes by kind of file. A missing folder uses none.
pub fn usage(ctx: &Context) -> Result<Usage> {
    let project = ctx.project()?;
    let dir = project.backup_dir;
    let mut usage = Usage { backup_dir: dir.clone(), ..Usage::default() };
    for (artefact, size) in folder::sizes(&dir)? {
        match artefact {
            Artefact::Database(_) => usage.databases_size += size,
            Artefact::Archive => usage.archives_size += size,
            _ => {}
        }
    }
    usage.total_size = folder::total_size(&dir)?;
    usage.other_size = usage.total_size.saturating_sub(usage.databases_size + usage.archives_size);
    for set in catalog::scan(&dir)? {
        let bytes = set.files.values().sum::<u64>() + set.archive.unwrap_or(0);
        if set.archive_only() {
            usage.archives_only += 1;
        } else {
            usage.backups += 1;
            add(usage.by_kind.entry(set.kind().as_str()).or_default(), bytes);
        }
        add(usage.by_day.entry(set.timestamp.day()).or_default(), bytes);
    }
    usage.free = space::free(&dir)?;
    Ok(usage)
}

fn add(share: &mut Share, bytes: u64) {
    share.backups += 1;
    share.bytes += bytes;
}
