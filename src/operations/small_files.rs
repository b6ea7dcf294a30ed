//! The small files of a set in the making, its record and the checksums: written, and read back like the large ones.

use std::fs::File;
use std::path::Path;

use super::blocks::bad_disk;
use crate::direct_io;
use crate::durable;
use crate::error::{IoContext, Result};
use crate::store::record;

/// Writes a new file; its bytes are durable when this returns, its name is not. With `verify` the disk has proven to have them,
/// or it is `CHECKSUM_MISMATCH`.
pub(super) fn write(path: &Path, bytes: &[u8], verify: bool) -> Result<()> {
    durable::write_new(path, bytes)?;
    if verify {
        let file = File::open(path).context("open", path)?;
        direct_io::forget_cached(&file, 0);
        if record::limited(file, bytes.len() as u64).context("read", path)?.as_deref() != Some(bytes) {
            return Err(bad_disk(path));
        }
    }
    Ok(())
}
