//! Reads a new file back from the disk while it is still being written, a stretch behind the writer.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::Receiver;

use sha2::{Digest, Sha256};

use crate::backup_set::checksum;
use crate::direct_io;
use crate::error::{Error, IoContext, Result};
use crate::priority;
use crate::progress::Monitor;

/// Bytes between two flushes. Fewer cost flushes, more are left to be read when the writer is done.
const STRETCH: u64 = 32 << 20;

/// Hash and length of the file at `path` as it is on the disk. `written` hears how many bytes there are so far, and hangs up
/// after the last of them was flushed; `handle` is the writer's. Only what was flushed is read, and only after the kernel was
/// told to forget it: also what it may have read ahead, before it was written.
pub(super) fn follow(path: &Path, handle: &File, written: &Receiver<u64>, monitor: &Monitor) -> Result<(String, u64)> {
    // Those that copy go first: their database is pinned, and when they are done its structure is checked beside this.
    priority::give_way();
    let mut file = File::open(path).context("open", path)?;
    let mut hash = Sha256::new();
    let mut done = 0;
    while let Ok(there) = written.recv() {
        if there - done >= STRETCH {
            handle.sync_data().context("flush", path)?;
            done += read(&mut file, done, there - done, &mut hash, monitor).map_err(|e| failure(e, path, monitor))?;
        }
    }
    // To its very end, and not as far as the writer believes to have come.
    done += read(&mut file, done, u64::MAX - done, &mut hash, monitor).map_err(|e| failure(e, path, monitor))?;
    Ok((checksum::hex(&hash.finalize()), done))
}

fn failure(e: io::Error, path: &Path, monitor: &Monitor) -> Error {
    monitor.check().err().unwrap_or_else(|| Error::io(e, "read", path))
}

/// Hashes the next `most` bytes, or fewer if the file ends; how many there were.
fn read(file: &mut File, from: u64, most: u64, hash: &mut Sha256, monitor: &Monitor) -> io::Result<u64> {
    direct_io::forget_cached(file, from, if most > u64::MAX / 2 { 0 } else { most });
    let mut part = file.take(most);
    checksum::update_from(&mut part, hash, |_| monitor.check().map_err(io::Error::other))
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io::Write;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_is_on_the_disk_is_hashed_to_its_end_whatever_the_writer_says() -> std::result::Result<(), Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x");
        let bytes: Vec<u8> = (0..40u32 << 20).map(|n| (n >> 12) as u8).collect();
        let mut out = File::create_new(&path)?;
        let handle = out.try_clone()?;
        let (tell, written) = channel();
        let hashed = std::thread::scope(|scope| {
            let path = &path;
            let reader = scope.spawn(move || follow(path, &handle, &written, &Monitor::default()));
            for (i, part) in bytes.chunks(5 << 20).enumerate() {
                out.write_all(part)?;
                tell.send(((i + 1) * part.len()).min(bytes.len()) as u64)?;
            }
            drop(tell);
            reader.join().map_err(|_| "panicked".into()).and_then(|r| r.map_err(Box::<dyn Error>::from))
        })?;
        assert_eq!(hashed, (checksum::hash_bytes(&bytes), bytes.len() as u64));
        Ok(())
    }

    #[test]
    fn a_file_that_the_disk_changed_has_another_hash() -> std::result::Result<(), Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x");
        std::fs::write(&path, b"other bytes")?;
        let (tell, written) = channel();
        tell.send(11)?;
        drop(tell);
        let (hash, length) = follow(&path, &File::open(&path)?, &written, &Monitor::default())?;
        assert_eq!((hash == checksum::hash_bytes(b"these bytes"), length), (false, 11));
        Ok(())
    }
}
