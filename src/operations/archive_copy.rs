//! One copy out of an archive: while more of it is unpacked, what there is already is hashed, written, and sent to the disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};

use sha2::{Digest, Sha256};

use super::blocks::panicked;
use crate::backup_set::checksum;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Monitor;

/// Bytes that are handed on at a time.
const BLOCK: usize = 1 << 20;
/// Blocks on their way: as many as keep everybody busy.
const IN_FLIGHT: usize = 4;
/// After so many blocks the disk may begin to write, so that at the end there is little to wait for.
const FLUSH_AFTER: usize = 32;

/// Bytes and hash of the copy of which `body` gives the bytes. Written, durable when this returns, to the new file `to` if
/// there is one. `broken` makes the error of what can't be unpacked; `saw` hears of the bytes.
pub(super) fn take(
    body: &mut dyn Read,
    to: Option<&Path>,
    monitor: &Monitor,
    broken: &dyn Fn(io::Error) -> Error,
    saw: &dyn Fn(u64),
) -> Result<(u64, String)> {
    let out = to.map(|path| durable::create_exclusive(path).map(|file| (file, path))).transpose()?;
    let mut unpack = || {
        monitor.check()?;
        let mut block = Vec::with_capacity(BLOCK);
        body.take(BLOCK as u64).read_to_end(&mut block).map_err(|e| monitor.check().err().unwrap_or_else(|| broken(e)))?;
        saw(block.len() as u64);
        Ok(block)
    };
    let first = unpack()?;
    if first.len() < BLOCK {
        // All there is: not worth a thread.
        return keep(out, std::iter::once(first));
    }
    thread::scope(|scope| {
        let (blocks, received) = sync_channel(IN_FLIGHT);
        let keeper = thread::Builder::new().name("backup-unpack".into());
        let keeper = keeper.spawn_scoped(scope, move || keep(out, received.into_iter())).map_err(Error::no_thread)?;
        let unpacked = feed(blocks, first, &mut unpack);
        let kept = keeper.join().unwrap_or_else(|_| Err(Error::new(Code::IoError, panicked().to_string())));
        // A keeper that failed hung up, and its error is the cause.
        kept.and_then(|kept| unpacked.map(|()| kept))
    })
}

fn feed(blocks: SyncSender<Vec<u8>>, first: Vec<u8>, unpack: &mut dyn FnMut() -> Result<Vec<u8>>) -> Result<()> {
    let mut block = first;
    while !block.is_empty() {
        if blocks.send(block).is_err() {
            return Err(Error::new(Code::IoError, "what was unpacked can't be kept"));
        }
        block = unpack()?;
    }
    Ok(())
}

/// Hashes all blocks, and writes them.
fn keep(out: Option<(File, &Path)>, blocks: impl Iterator<Item = Vec<u8>>) -> Result<(u64, String)> {
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut note = |block: &[u8]| {
        hash.update(block);
        length += block.len() as u64;
    };
    match out {
        None => blocks.for_each(|block| note(&block)),
        Some((file, path)) => thread::scope(|scope| {
            let mut flusher = None;
            for (number, block) in (1..).zip(blocks) {
                (&file).write_all(&block).context("write", path)?;
                note(&block);
                if number % FLUSH_AFTER == 0 {
                    flusher.get_or_insert_with(|| Flusher::start(scope, &file)).nudge();
                }
            }
            flusher.map_or(Ok(()), Flusher::finish).and_then(|()| file.sync_all()).context("flush", path)
        })?,
    }
    Ok((length, checksum::hex(&hash.finalize())))
}

/// Has the disk write what is there, while more comes.
struct Flusher<'scope> {
    /// `None` where no thread is to be had: then all of it is flushed at the end.
    running: Option<(SyncSender<()>, ScopedJoinHandle<'scope, io::Result<()>>)>,
}

impl<'scope> Flusher<'scope> {
    fn start<'env>(scope: &'scope thread::Scope<'scope, 'env>, file: &'env File) -> Self {
        let (nudges, nudged) = sync_channel(1);
        let thread = thread::Builder::new().name("backup-flush".into()).spawn_scoped(scope, move || flush(file, &nudged));
        Flusher { running: thread.ok().map(|thread| (nudges, thread)) }
    }

    fn nudge(&self) {
        if let Some((nudges, _)) = &self.running {
            // Full: it is at it. Hung up: it has failed, which comes out at the end.
            let _ = nudges.try_send(());
        }
    }

    fn finish(self) -> io::Result<()> {
        let Some((nudges, thread)) = self.running else { return Ok(()) };
        drop(nudges);
        thread.join().unwrap_or_else(|_| Err(panicked()))
    }
}

/// A failed flush is told once only, to whoever asked for it: it must not be lost here.
fn flush(file: &File, nudged: &Receiver<()>) -> io::Result<()> {
    nudged.iter().try_for_each(|()| file.sync_data())
}
