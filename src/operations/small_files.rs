//! The small files of a set in the making, its record and the checksums: written, and read back like the large ones.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::blocks::bad_disk;
use crate::direct_io;
use crate::durable;
use crate::error::{IoContext, Result};

/// Writes a new file; its bytes are durable when this returns, its name is not. With `verify` the disk has proven to have them,
/// or it is `CHECKSUM_MISMATCH`.
pub(super) fn write(path: &Path, bytes: &[u8], verify: bool) -> Result<()> {
    durable::write_new(path, bytes)?;
    if verify && read_back(path, bytes.len())? != bytes {
        return Err(bad_disk(path));
    }
    Ok(())
}

/// What the disk has of a file that should have `length` bytes, and a byte more if there is one.
fn read_back(path: &Path, length: usize) -> Result<Vec<u8>> {
    let file = File::open(path).context("open", path)?;
    direct_io::forget_cached(&file, 0);
    let mut bytes = Vec::with_capacity(length + 1);
    file.take(length as u64 + 1).read_to_end(&mut bytes).context("read", path)?;
    Ok(bytes)
}
