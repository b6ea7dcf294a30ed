//! One pass over the bytes of a copy in the making: every block goes to the new file, to its hash and to the archive, each on
//! a thread of its own, and what has been written is read back from the disk meanwhile.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};

use super::blocks::{IN_FLIGHT, hash_blocks, panicked};
use super::read_back::{Follower, Print};
use crate::direct_io::{Block, Writer};
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Monitor;
use crate::sqlite::raw_file::FileState;

/// Where the blocks go.
pub(super) struct Tee<'a> {
    /// The new file.
    pub target: &'a Path,
    /// Bytes that it will have, or about as many.
    pub size: u64,
    /// Its member of a running archive.
    pub member: Option<SyncSender<Block>>,
    /// Whether to read it back.
    pub verify: bool,
    /// Whether the new file will be read once more, soon, so that it had better stay in the page cache.
    pub leave_cached: bool,
    /// Cancellation.
    pub monitor: &'a Monitor,
}

/// A copy that was written; its bytes are durable.
pub(super) struct Copied {
    /// Bytes that were produced.
    pub length: u64,
    /// Their hash.
    pub sha256: String,
    /// Whether the disk has them, if it was asked.
    pub is_on_disk: bool,
    /// The file as it was left.
    pub state: FileState,
}

impl Tee<'_> {
    /// Sends every block that `produce` gives to its sink on its way. `then` is done once there are no more, while the others
    /// are still at it.
    pub fn run<T>(
        self,
        produce: impl FnOnce(&mut dyn FnMut(Block) -> Result<()>) -> Result<()>,
        then: impl FnOnce() -> Result<T>,
    ) -> Result<(Copied, T)> {
        let Tee { target, size, member, verify, leave_cached, monitor } = self;
        let out = Writer::create(target, size)?;
        let handle = verify.then(|| out.handle().context("open", target)).transpose()?;
        thread::scope(|scope| {
            let ((tell, written), (print, prints)) = (channel(), channel());
            let (to_file, writer) = consumer(scope, "backup-writer", move |blocks| write(out, &blocks, &tell))?;
            let print = verify.then_some(print);
            let (to_hash, hasher) = consumer(scope, "backup-hash", move |blocks| hash(&blocks, print.as_ref()))?;
            let follower = handle.map(|handle| Follower { path: target, size, leave_cached, handle, written, prints, monitor });
            let reader = follower.map(|follower| start(scope, follower)).transpose()?;
            let produced = produce(&mut |block| {
                monitor.check()?;
                if let Some(member) = &member {
                    // A compressor that failed hung up; its error comes out when the archive is finished.
                    let _ = member.send(Arc::clone(&block));
                }
                // A consumer that failed hung up, and its error comes out below; reading on would only hold the locks.
                let gone = |e: String| Error::new(Code::IoError, "the copy can't be written").caused_by(e);
                to_file.send(Arc::clone(&block)).map_err(|e| gone(e.to_string()))?;
                to_hash.send(block).map_err(|e| gone(e.to_string()))
            });
            drop((to_file, to_hash, member));
            let then = produced.and_then(|()| then());
            // A full disk makes the producer fail too; the writer's error is the cause.
            let (length, state) = writer.join().unwrap_or_else(|_| Err(panicked())).context("write", target)?;
            let then = then?;
            let sha256 = hasher.join().map_err(|_| panicked()).context("hash", target)?;
            let on_disk = reader.map(|r| r.join().unwrap_or_else(|_| Err(Error::io(panicked(), "read", target)))).transpose()?;
            Ok((Copied { length, sha256, is_on_disk: on_disk.unwrap_or(true), state }, then))
        })
    }
}

/// A thread that gets blocks, and where to send them to it.
fn consumer<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    consume: impl FnOnce(Receiver<Block>) -> T + Send + 'scope,
) -> Result<(SyncSender<Block>, ScopedJoinHandle<'scope, T>)> {
    let (blocks, received) = sync_channel(IN_FLIGHT);
    let thread = thread::Builder::new().name(name.into()).spawn_scoped(scope, move || consume(received)).map_err(Error::no_thread)?;
    Ok((blocks, thread))
}

fn start<'scope>(scope: &'scope Scope<'scope, '_>, follower: Follower<'scope>) -> Result<ScopedJoinHandle<'scope, Result<bool>>> {
    thread::Builder::new().name("backup-read-back".into()).spawn_scoped(scope, move || follower.follow()).map_err(Error::no_thread)
}

/// The hash of all blocks. A print of each goes to whoever compares them with the disk: made right here, so that what happens to
/// a block in memory between its hash and the disk is noticed.
fn hash(blocks: &Receiver<Block>, print: Option<&Sender<Print>>) -> String {
    hash_blocks(blocks, |block| {
        if let Some(print) = print {
            // Nobody listens where reading has failed, which comes out in its place.
            let _ = print.send(Print::of(block));
        }
    })
}

/// Writes blocks until there are no more, as many at once as are worth it, and flushes them to disk; how many bytes there were,
/// and the file as it is then.
fn write(mut out: Writer, blocks: &Receiver<Block>, tell: &Sender<u64>) -> io::Result<(u64, FileState)> {
    while let Ok(block) = blocks.recv() {
        let mut some = vec![block];
        while out.takes(&some)
            && let Ok(more) = blocks.recv()
        {
            some.push(more);
        }
        out.write(&some)?;
        // Nobody listens where nothing is read back, or where reading has failed.
        let _ = tell.send(out.length());
    }
    let (length, file) = out.finish()?;
    Ok((length, FileState::of_open(&file)?))
}
