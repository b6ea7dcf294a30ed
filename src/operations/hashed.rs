//! A file that is read and, on a thread of its own, hashed at the same time.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::blocks::{IN_FLIGHT, hash_blocks, panicked};
use crate::direct_io::{AlignedBytes, Block};
use crate::error::{Code, Error, Result};
use crate::sqlite::page_stream::BLOCK;

/// What is left of a block, after which comes the next.
struct Reader<'a> {
    inner: &'a mut dyn Read,
    hasher: SyncSender<Block>,
    block: Block,
    offset: usize,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.offset == self.block.len() {
            let mut block = AlignedBytes::with_capacity(BLOCK);
            block.read_from(self.inner, BLOCK)?;
            (self.block, self.offset) = (Arc::new(block), 0);
            self.hasher.send(Arc::clone(&self.block)).map_err(|_| panicked())?;
        }
        let n = buffer.len().min(self.block.len() - self.offset);
        buffer[..n].copy_from_slice(&self.block[self.offset..][..n]);
        self.offset += n;
        Ok(n)
    }
}

/// Has `work` read from `inner`; what it gives, and the hash of everything that was read: to the end of the block that `work`
/// came to, so it has to go to the end if that is the hash it wants.
pub(super) fn aside<T>(inner: &mut dyn Read, work: impl FnOnce(&mut dyn Read) -> Result<T>) -> Result<(T, String)> {
    thread::scope(|scope| {
        let (hasher, blocks) = sync_channel(IN_FLIGHT);
        let hash = thread::Builder::new()
            .name("backup-hash".into())
            .spawn_scoped(scope, move || hash_blocks(&blocks, |_| ()))
            .map_err(Error::no_thread)?;
        let mut reader = Reader { inner, hasher, block: Block::default(), offset: 0 };
        let done = work(&mut reader);
        drop(reader);
        let hash = hash.join().map_err(|_| Error::new(Code::IoError, panicked().to_string()));
        Ok((done?, hash?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup_set::checksum;
    use crate::error::IoContext;

    #[test]
    fn what_is_read_is_hashed_whatever_the_size_of_the_reads() -> Result<()> {
        for length in [0, 1, BLOCK, 3 * BLOCK + 17] {
            let bytes: Vec<u8> = (0..length).map(|n| (n / 7) as u8).collect();
            for step in [1 << 12, 3 * BLOCK] {
                let (read, hash) = aside(&mut &bytes[..], |reader| {
                    let (mut all, mut buffer) = (Vec::new(), vec![0; step]);
                    loop {
                        match reader.read(&mut buffer).context("read", "x".as_ref())? {
                            0 => return Ok(all),
                            n => all.extend_from_slice(&buffer[..n]),
                        }
                    }
                })?;
                assert!(read == bytes && hash == checksum::hash_bytes(&bytes), "{length} bytes, {step} at a time");
            }
        }
        Ok(())
    }
}
