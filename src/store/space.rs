//! Free bytes of a file system, asked before anything is written.

use std::path::Path;

use crate::error::{Code, Error, IoContext, Result};

/// Kept free beyond what is written: metadata, folders, the file system's own needs.
const MARGIN: u64 = 1 << 20;

/// Free bytes for us where `dir` is, or will be made.
pub fn free(dir: &Path) -> Result<u64> {
    let dir = dir.ancestors().find(|a| a.is_dir()).unwrap_or(dir);
    fs4::available_space(dir).context("ask for the free space of", dir)
}

/// What has to be free for `needed` bytes to be written.
pub fn with_margin(needed: u64) -> u64 {
    needed.saturating_add(MARGIN)
}

/// `NO_SPACE` unless `needed` bytes for `what` fit into `dir`; `way_out` says what else helps than free space.
pub fn require(dir: &Path, needed: u64, what: &str, way_out: &str) -> Result<()> {
    let free = free(dir)?;
    if free >= with_margin(needed) {
        return Ok(());
    }
    let message = format!(
        "{what} needs up to {} bytes (with {MARGIN} to spare), and only {free} are free in {}; free some space, {way_out}",
        needed.saturating_add(MARGIN),
        dir.display()
    );
    Err(Error::new(Code::NoSpace, message))
}
