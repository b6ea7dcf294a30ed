//! The pages of a pinned snapshot, in order, as SQLite reads them: from the database, the WAL, after recovery.

use std::sync::Arc;

use super::connection::{Facts, Live};
use crate::direct_io::{AlignedBytes, Block};
use crate::error::Result;

/// Bytes of a block, roughly: whole pages up to this much.
pub const BLOCK: usize = 1 << 20;

/// Hands every page of the snapshot of `live` to `sink`, in blocks. The lock page at 1 GiB comes as zeros.
/// Stops at the sink's error, at cancellation, and at a page that SQLite can't read (`SOURCE_DAMAGED`).
pub fn stream(live: &Live, facts: &Facts, sink: &mut dyn FnMut(Block) -> Result<()>) -> Result<()> {
    if facts.page_count == 0 {
        return Ok(());
    }
    let translate = |e| live.translate(e, "read");
    let mut statement = live.connection().prepare("SELECT data FROM sqlite_dbpage").map_err(translate)?;
    let mut rows = statement.query([]).map_err(translate)?;
    let capacity = BLOCK.max(facts.page_size as usize);
    let mut block = AlignedBytes::with_capacity(capacity);
    while let Some(row) = rows.next().map_err(translate)? {
        let page = row.get_ref(0).map_err(translate)?.as_blob().map_err(|e| translate(e.into()))?;
        if block.len() + page.len() > capacity {
            live.monitor().check()?;
            sink(Arc::new(std::mem::replace(&mut block, AlignedBytes::with_capacity(capacity))))?;
        }
        block.extend_from_slice(page);
    }
    if !block.is_empty() {
        sink(Arc::new(block))?;
    }
    Ok(())
}
