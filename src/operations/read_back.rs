//! Reads a new file back from the disk while it is still being written, a stretch behind the writer, and compares it, block by
//! block, with what was sent there.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::Receiver;

use twox_hash::XxHash3_128;

use crate::direct_io::{AT_ONCE, Reader};
use crate::error::{Error, IoContext, Result};
use crate::priority;
use crate::progress::Monitor;

/// Bytes between two flushes. Fewer cost flushes, more are left to be read when the writer is done.
const STRETCH: u64 = 32 << 20;

/// What is left of a block to know it by, for the moment between writing and reading back. XXH3 with 128 bits, whose two rounds
/// cost a tenth of one more SHA-256: this is about accidents of disk and memory, of which it overlooks one in 10^38. Whoever
/// changes files on purpose is not that quick, and has the SHA-256 of the record against them.
#[derive(PartialEq, Eq)]
pub(super) struct Print {
    length: usize,
    hash: u128,
}

impl Print {
    pub fn of(block: &[u8]) -> Self {
        Print { length: block.len(), hash: XxHash3_128::oneshot(block) }
    }
}

/// A new file, and what is heard of it while it is written.
pub(super) struct Follower<'a> {
    pub path: &'a Path,
    /// Bytes that it will have, or about as many.
    pub size: u64,
    /// Whether it will be read once more, from the page cache.
    pub leave_cached: bool,
    /// The writer's, to flush with.
    pub handle: File,
    /// How many bytes were written so far, to the end of a block. Hung up after the last of them was flushed.
    pub written: Receiver<u64>,
    /// Every block, in order.
    pub prints: Receiver<Print>,
    /// Cancellation.
    pub monitor: &'a Monitor,
}

impl Follower<'_> {
    /// Whether the disk has the blocks that were printed, and nothing behind them. Only what was flushed is read, and not from
    /// the page cache, which may also hold what was read ahead before it was written.
    pub fn follow(self) -> Result<bool> {
        // Those that copy go first: their database is pinned, and when they are done its structure is checked beside this.
        priority::give_way();
        let mut reader = Reader::open(self.path, self.size, self.leave_cached).context("open", self.path)?;
        let mut done = 0;
        while let Ok(there) = self.written.recv() {
            if there - done < STRETCH {
                continue;
            }
            self.handle.sync_data().context("flush", self.path)?;
            reader.forget_cached(done);
            if !self.compare(&mut reader, &mut done, there)? {
                return Ok(false);
            }
        }
        reader.forget_cached(done);
        // To its very end, and not as far as the writer believes to have come.
        Ok(self.compare(&mut reader, &mut done, u64::MAX)? && self.read(&mut reader, done, 1)?.is_empty())
    }

    /// Whether the blocks from `done` to `until`, or the last one, are what was printed.
    fn compare(&self, reader: &mut Reader, done: &mut u64, until: u64) -> Result<bool> {
        loop {
            let (prints, length) = self.next_prints(until - *done);
            if prints.is_empty() {
                return Ok(true);
            }
            self.monitor.check()?;
            let mut bytes = self.read(reader, *done, length)?;
            *done += length as u64;
            for print in prints {
                let Some((block, rest)) = bytes.split_at_checked(print.length) else { return Ok(false) };
                if Print::of(block) != print {
                    return Ok(false);
                }
                bytes = rest;
            }
        }
    }

    /// The next prints, of about as many bytes as are read at once, and of `most` at most; and of how many.
    fn next_prints(&self, most: u64) -> (Vec<Print>, usize) {
        let (mut prints, mut length) = (Vec::new(), 0);
        while length < AT_ONCE && (length as u64) < most {
            let Ok(print) = self.prints.recv() else { break };
            length += print.length;
            prints.push(print);
        }
        (prints, length)
    }

    fn read<'r>(&self, reader: &'r mut Reader, from: u64, length: usize) -> Result<&'r [u8]> {
        reader.read(from, length).map_err(|e: io::Error| Error::io(e, "read", self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io::{Seek, SeekFrom, Write};
    use std::sync::mpsc::channel;

    use super::*;

    type Outcome = std::result::Result<(), Box<dyn Error>>;

    /// Whether a file of `bytes` that `spoil` has changed passes for one of `bytes`, read past the page cache or not.
    fn passes(
        bytes: &[u8],
        leave_cached: bool,
        spoil: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> std::result::Result<bool, Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        let path = &dir.path().join("x");
        let mut out = File::create_new(path)?;
        let handle = out.try_clone()?;
        let ((tell, written), (print, prints)) = (channel(), channel());
        std::thread::scope(|scope| {
            let monitor = Monitor::default();
            let size = bytes.len() as u64;
            let reader = scope.spawn(move || Follower { path, size, leave_cached, handle, written, prints, monitor: &monitor }.follow());
            let mut length = 0;
            for block in bytes.chunks(1 << 20) {
                out.write_all(block)?;
                length += block.len() as u64;
                print.send(Print::of(block))?;
                if length == size {
                    // Before it is told of: nobody reads it earlier.
                    break;
                }
                tell.send(length)?;
            }
            spoil(&mut out)?;
            out.sync_all()?;
            let _ = tell.send(length);
            drop((tell, print));
            reader.join().map_err(|_| Box::<dyn Error>::from("panicked"))?.map_err(Box::<dyn Error>::from)
        })
    }

    fn noise(length: usize) -> Vec<u8> {
        (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8).collect()
    }

    #[test]
    fn what_was_written_passes_whatever_its_length() -> Outcome {
        for length in [0, 1, 4096, 1 << 20, (9 << 20) + 512, 32 << 20, (70 << 20) + 5] {
            for leave_cached in [true, false] {
                assert!(passes(&noise(length), leave_cached, |_| Ok(()))?, "{length} {leave_cached}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_file_with_another_byte_or_another_length_does_not_pass() -> Outcome {
        for length in [1usize, (9 << 20) + 512, 40 << 20] {
            let bytes = noise(length);
            for leave_cached in [true, false] {
                let other = |at: usize| {
                    let changed = [!bytes[at]];
                    move |out: &mut File| out.seek(SeekFrom::Start(at as u64)).and_then(|_| out.write_all(&changed))
                };
                assert!(!passes(&bytes, leave_cached, other(length - 1))?, "its last byte");
                assert!(!passes(&bytes, leave_cached, |out| out.set_len(length as u64 - 1))?, "shorter");
                assert!(!passes(&bytes, leave_cached, |out| out.write_all(b"x"))?, "longer");
            }
        }
        // In the last stretch: what lies before it may have been compared already.
        let bytes = noise(40 << 20);
        let changed = [!bytes[33 << 20]];
        assert!(!passes(&bytes, false, |out| out.seek(SeekFrom::Start(33 << 20)).and_then(|_| out.write_all(&changed)))?);
        Ok(())
    }
}
