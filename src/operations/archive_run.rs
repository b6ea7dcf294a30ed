//! The archive of a set in the making: fed while the databases are copied, then ended, read back and given its checksum.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::blocks::{self, HashingFile, IN_FLIGHT, bad_disk, panicked, read_blocks};
use super::small_files;
use crate::backup_set::archive::{self, Member};
use crate::backup_set::checksum;
use crate::backup_set::metadata::Metadata;
use crate::backup_set::names;
use crate::backup_set::seal;
use crate::direct_io::Block;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Monitor;
use crate::sqlite::page_stream::BLOCK;
use crate::sqlite::raw_file::FileState;
use crate::store::staging::Staging;

/// The archive of a set in the making.
pub(super) enum Archive {
    /// Not wanted.
    None,
    /// Fed from what is being read.
    Running(ArchiveRun),
    /// Still to be written, from the copies: a database that is being read keeps its writers waiting, and must not wait for
    /// a compressor; or one had to be read twice, and its first attempt was in the stream.
    FromCopies,
}

impl Archive {
    pub fn running(&self) -> Option<&ArchiveRun> {
        if let Archive::Running(run) = self { Some(run) } else { None }
    }

    /// What was fed so far is of no use.
    pub fn spoil(&mut self) {
        if matches!(self, Archive::None) {
            return;
        }
        if let Archive::Running(ArchiveRun { members, thread }) = std::mem::replace(self, Archive::FromCopies) {
            drop(members);
            // It fails, since a member broke off; that is why we are here.
            let _ = thread.join();
        }
    }
}

/// A running archive: members go in, the finished file comes out.
pub(super) struct ArchiveRun {
    members: SyncSender<Member>,
    thread: thread::JoinHandle<io::Result<HashingFile>>,
}

impl ArchiveRun {
    /// Starts the compressor on a thread of its own, writing into `staging`.
    pub fn start(staging: &Staging) -> Result<Self> {
        let out = HashingFile::create(&staging.dir.join(names::archive(staging.timestamp)))?;
        let (members, received) = sync_channel(1);
        let modified = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        let compress = move || {
            let out = archive::write(io::BufWriter::with_capacity(BLOCK, out), modified, &received)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)
        };
        let thread = thread::Builder::new().name("backup-archive".into()).spawn(compress).map_err(Error::no_thread)?;
        Ok(ArchiveRun { members, thread })
    }

    /// Begins a member of `size` bytes. If the compressor has failed, the blocks go nowhere; [`ArchiveRun::finish`] says why.
    pub fn open(&self, name: String, size: u64) -> SyncSender<Block> {
        let (parts, body) = sync_channel(IN_FLIGHT);
        let _ = self.members.send(Member { name, size, body });
        parts
    }

    pub fn add_bytes(&self, name: &str, bytes: Vec<u8>) {
        let part = self.open(name.to_owned(), bytes.len() as u64);
        let _ = part.send(Arc::new(bytes.into()));
    }

    /// Ends the archive; durable, its file as it was left and the hash of it.
    fn finish(self, path: &Path) -> Result<(FileState, String)> {
        drop(self.members);
        let out = self.thread.join().unwrap_or_else(|_| Err(panicked())).context("write", path)?;
        out.finish().context("flush", path)
    }
}

/// Adds the metadata to the archive and ends it, reads it back if asked to, and writes its checksum. The archive's file as it
/// was left, if there is one.
pub(super) fn finish_archive(
    staging: &Staging,
    archive: Archive,
    metadata: &Metadata,
    json: &[u8],
    verify: bool,
    monitor: &Monitor,
) -> Result<Option<(PathBuf, FileState)>> {
    let timestamp = staging.timestamp;
    let path = staging.dir.join(names::archive(timestamp));
    let run = match archive {
        Archive::None => return Ok(None),
        Archive::Running(run) => run,
        Archive::FromCopies => from_copies(staging, metadata, &path, monitor)?,
    };
    run.add_bytes(&names::metadata(timestamp), json.to_vec());
    run.add_bytes(&names::seal(timestamp), seal::line(json, timestamp).into_bytes());
    let (left, sha256) = run.finish(&path)?;
    if verify {
        verify_archive(&path, &sha256, metadata, monitor)?;
    }
    let line = checksum::sidecar_line(&sha256, &names::archive(timestamp));
    small_files::write(&staging.dir.join(names::sidecar(&names::archive(timestamp))), line.as_bytes(), verify)?;
    Ok(Some((path, left)))
}

/// Writes the archive, all but the metadata, from the copies.
fn from_copies(staging: &Staging, metadata: &Metadata, path: &Path, monitor: &Monitor) -> Result<ArchiveRun> {
    // What a spoiled one has left.
    durable::remove_file(path)?;
    let run = ArchiveRun::start(staging)?;
    for record in metadata.databases() {
        let copy = staging.dir.join(&record.file);
        let parts = run.open(record.file.clone(), record.size);
        let mut file = File::open(&copy).context("open", &copy)?;
        read_blocks(&mut file, &copy, &mut |block| {
            monitor.check()?;
            let _ = parts.send(block);
            Ok(())
        })?;
        drop(parts);
        run.add_bytes(&names::sidecar(&record.file), checksum::sidecar_line(&record.sha256, &record.file).into_bytes());
    }
    Ok(run)
}

/// Reads a finished archive back, once: the file's own hash, and every database in it.
fn verify_archive(path: &Path, sha256: &str, metadata: &Metadata, monitor: &Monitor) -> Result<()> {
    let mut expected: BTreeMap<&str, &str> = metadata.databases().iter().map(|d| (d.file.as_str(), d.sha256.as_str())).collect();
    let read = archive::read_hashed(path, |member, body| {
        // What is no archive fails like a read; whether it was a read that failed is known below, and comes out instead.
        let hashed = blocks::hash(body, path, monitor, |_| ());
        let (hash, _) = hashed.map_err(|e| if e.code == Code::IoError { bad_disk(path).caused_by(e) } else { e })?;
        match expected.remove(member.name) {
            Some(wanted) if wanted != hash => Err(bad_disk(path)),
            _ => Ok(()),
        }
    });
    match read {
        Ok((_, on_disk)) if on_disk == sha256 && expected.is_empty() => Ok(()),
        // What was written a moment ago is sound, unless the disk has made something else of it.
        Ok(_) => Err(bad_disk(path)),
        Err(e) if e.code == Code::BackupDamaged => Err(bad_disk(path).caused_by(e)),
        Err(e) => Err(e),
    }
}
