//! Large new files, written and read back past the page cache: no byte is copied into it, what the application has in it stays,
//! and what is read back comes from the disk. Where a file system can't do that, it is done like with any other file.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use crate::durable;
use crate::error::{IoContext, Result};

/// Memory, offset and length of a direct write are multiples of this: the largest sector that disks have.
const ALIGNMENT: usize = 4096;

/// Smaller files are done before the disk would have been asked twice.
const WORTH_IT: u64 = 8 << 20;

/// Bytes that one write or reading takes at most; with 1 MiB the disk waits for us between two (measured: 1.0 instead of 2.0 GB/s).
pub const AT_ONCE: usize = 4 << 20;

/// A block of bytes, shared by everything that consumes it.
pub type Block = Arc<AlignedBytes>;

/// Bytes that lie in memory as a direct write wants them.
#[derive(Debug, Default)]
pub struct AlignedBytes {
    bytes: Vec<u8>,
    start: usize,
}

impl AlignedBytes {
    /// Room for `capacity` bytes. More may be added, but then they will lie anywhere.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity + ALIGNMENT);
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        bytes.resize(start, 0);
        AlignedBytes { bytes, start }
    }

    /// Adds bytes at the end.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds up to `most` bytes from `reader`, fewer only if that has no more.
    pub fn read_from(&mut self, reader: &mut dyn Read, most: usize) -> io::Result<()> {
        reader.take(most as u64).read_to_end(&mut self.bytes).map(drop)
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl From<Vec<u8>> for AlignedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        AlignedBytes { bytes, start: 0 }
    }
}

/// A new file in the making.
pub struct Writer {
    file: File,
    direct: bool,
    reserved: u64,
    length: u64,
}

impl Writer {
    /// Creates `path` as [`durable::create_exclusive`] does, for `size` bytes or about as many. With too little room for a
    /// large one it fails at once.
    pub fn create(path: &Path, size: u64) -> Result<Self> {
        let file = durable::create_exclusive(path)?;
        let direct = size >= WORTH_IT && platform::past_the_cache(&file, true);
        // Without it every write would make the file longer, one after the other.
        let reserved = if direct { platform::reserve(&file, size).context("reserve room for", path)? } else { 0 };
        Ok(Writer { file, direct, reserved, length: 0 })
    }

    /// How many of `blocks`, at least one, should be written at once.
    pub fn takes(&self, blocks: &[Block]) -> bool {
        self.direct && blocks.iter().map(|b| b.len()).sum::<usize>() < AT_ONCE
    }

    /// Writes all of `blocks` behind what is there.
    pub fn write(&mut self, blocks: &[Block]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = blocks.iter().map(|b| IoSlice::new(b)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            if self.direct && !rest.iter().all(|slice| is_aligned(slice)) {
                // The end of the file, or a device that took less than it was given.
                end_direct(&self.file, &mut self.direct)?;
            }
            let written = if let [slice] = rest { self.file.write(slice) } else { self.file.write_vectored(rest) };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.length += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // A file system that takes the flag and then not the write.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput && self.direct => end_direct(&self.file, &mut self.direct)?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The same file, for flushing what was written so far.
    pub fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// How many bytes were written.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Flushes to disk; how many bytes were written, and the file. They are durable when it returns, the name is not.
    pub fn finish(self) -> io::Result<(u64, File)> {
        if self.length < self.reserved {
            self.file.set_len(self.length)?;
        }
        self.file.sync_all()?;
        Ok((self.length, self.file))
    }
}

fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(ALIGNMENT) == 0 && bytes.len().is_multiple_of(ALIGNMENT)
}

/// Reads a file from the disk: past the page cache, or after having the kernel drop what it holds there.
pub struct Reader {
    file: File,
    direct: bool,
    buffer: AlignedBytes,
}

impl Reader {
    /// Opens `path`, of `size` bytes or about as many. `leave_cached`: somebody will read the same from the page cache next.
    pub fn open(path: &Path, size: u64, leave_cached: bool) -> io::Result<Self> {
        let file = File::open(path)?;
        let direct = !leave_cached && size >= WORTH_IT && platform::past_the_cache(&file, true);
        Ok(Reader { file, direct, buffer: AlignedBytes::default() })
    }

    /// What is read from `from` on comes from the disk, as far as it was flushed.
    pub fn forget_cached(&self, from: u64) {
        if !self.direct {
            forget_cached(&self.file, from);
        }
    }

    /// The `length` bytes from `from` on; fewer only where the file ends.
    pub fn read(&mut self, from: u64, length: usize) -> io::Result<&[u8]> {
        self.file.seek(SeekFrom::Start(from))?;
        let room = length.next_multiple_of(ALIGNMENT);
        if self.buffer.len() < room {
            self.buffer = AlignedBytes::with_capacity(room);
            self.buffer.bytes.resize(self.buffer.start + room, 0);
        }
        let mut done = 0;
        while done < length {
            if self.direct && !done.is_multiple_of(ALIGNMENT) {
                // The end of the file, or a device that gave less than it was asked for.
                self.go_through_the_cache(from)?;
            }
            let until = if self.direct { room } else { length };
            let start = self.buffer.start;
            match self.file.read(&mut self.buffer.bytes[start + done..start + until]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // A file system that takes the flag and then not the reading.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput && self.direct => self.go_through_the_cache(from)?,
                Err(e) => return Err(e),
            }
        }
        Ok(&self.buffer[..done.min(length)])
    }

    fn go_through_the_cache(&mut self, from: u64) -> io::Result<()> {
        end_direct(&self.file, &mut self.direct)?;
        forget_cached(&self.file, from);
        Ok(())
    }
}

fn end_direct(file: &File, direct: &mut bool) -> io::Result<()> {
    *direct = false;
    if platform::past_the_cache(file, false) { Ok(()) } else { Err(io::Error::other("going past the page cache can't be ended")) }
}

/// Has the kernel drop what it holds in memory of `file` from `from` on, so that what is read next, in order, comes from the disk.
/// What was not flushed yet stays; where the kernel does not know this, everything does.
pub fn forget_cached(file: &File, from: u64) {
    platform::forget_cached(file, from);
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::File;
    use std::io;

    use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate, fcntl_getfl, fcntl_setfl};
    use rustix::io::Errno;

    /// Whether going past the cache is now as wanted.
    pub fn past_the_cache(file: &File, wanted: bool) -> bool {
        let set = fcntl_getfl(file).and_then(|mut flags| {
            flags.set(OFlags::DIRECT, wanted);
            fcntl_setfl(file, flags)
        });
        set.is_ok()
    }

    /// Sets room for `size` bytes aside, which makes the file as long; how long it is now.
    pub fn reserve(file: &File, size: u64) -> io::Result<u64> {
        match rustix::io::retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, size)) {
            Ok(()) => Ok(size),
            // Not every file system can; then there is room as long as there is.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(0),
            Err(e) => Err(e.into()),
        }
    }

    pub fn forget_cached(file: &File, from: u64) {
        // Advice: refusing it makes no difference to what is read, only to where it comes from.
        let _ = fadvise(file, from, None, Advice::DontNeed);
        // And more of it at once than usual (measured: a verification of a set with an archive in 1.9 instead of 2.3 s).
        let _ = fadvise(file, 0, None, Advice::Sequential);
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::fs::File;
    use std::io;

    pub fn past_the_cache(_: &File, wanted: bool) -> bool {
        !wanted
    }

    pub fn reserve(_: &File, _: u64) -> io::Result<u64> {
        Ok(0)
    }

    pub fn forget_cached(_: &File, _: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(bytes: &[u8]) -> Block {
        let mut block = AlignedBytes::with_capacity(bytes.len());
        block.extend_from_slice(bytes);
        Arc::new(block)
    }

    #[test]
    fn a_large_file_gets_every_byte_whatever_its_length_and_its_blocks() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let noise: Vec<u8> = (0..9u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        // Reserved too much, too little, and just enough; ends in the middle of a sector, on it, and before anything.
        for (i, (length, reserved)) in
            [(noise.len(), noise.len()), (noise.len() - 513, noise.len()), (noise.len(), 8 << 20), (0, 9 << 20), (5 << 20, 0)]
                .into_iter()
                .enumerate()
        {
            for size in [1 << 20, 4096, 1000] {
                let path = dir.path().join(format!("{i}-{size}"));
                let mut writer = Writer::create(&path, reserved as u64)?;
                let blocks: Vec<Block> = noise[..length].chunks(size).map(block).collect();
                for few in blocks.chunks(3) {
                    writer.write(few)?;
                }
                assert_eq!(writer.finish()?.0, length as u64);
                assert!(std::fs::read(&path)? == noise[..length], "{length} bytes in blocks of {size}");
                for leave_cached in [true, false] {
                    let mut reader = Reader::open(&path, 9 << 20, leave_cached)?;
                    let mut from = 0;
                    for step in [1, 4096, 3 << 20, 4 << 20, 4 << 20] {
                        reader.forget_cached(from as u64);
                        let wanted = &noise[from.min(length)..(from + step).min(length)];
                        assert!(reader.read(from as u64, step)? == wanted, "{step} bytes of {length} from {from}");
                        from += wanted.len();
                    }
                    assert_eq!(from, length);
                    assert!(reader.read(from as u64, 1)?.is_empty());
                }
            }
        }
        Ok(())
    }
}
