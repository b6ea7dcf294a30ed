//! The `.tar.gz` of a set: written while the databases are being copied, read back member by member.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc::Receiver;

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::gzip_blocks;
use super::gzip_gaps;
use super::names::{self, Artefact};
use super::tar_stream::{Skip, TarStream};
use super::timestamp::Timestamp;
use super::{checksum, metadata};
use crate::direct_io::{self, Block};
use crate::error::{Code, Error, IoContext, Result};
use crate::open_here;

/// A file on its way into the archive. Its body arrives in parts; together they must have `size` bytes.
pub struct Member {
    /// File name, flat.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// The parts. Hanging up early means the member failed.
    pub body: Receiver<Block>,
}

/// Turns a channel of parts into a reader.
struct Body {
    parts: Receiver<Block>,
    part: Block,
    offset: usize,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.offset == self.part.len() {
            match self.parts.recv() {
                Ok(part) => (self.part, self.offset) = (part, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.part.len() - self.offset);
        buffer[..n].copy_from_slice(&self.part[self.offset..self.offset + n]);
        self.offset += n;
        Ok(n)
    }
}

/// Writes every member that arrives, until the channel closes, then ends the archive and gives `out` back, unflushed
/// to disk. A member that is shorter than it said is an error.
pub fn write<W: Write>(out: W, modified: u64, members: &Receiver<Member>) -> io::Result<W> {
    let mut tar = Builder::new(gzip_blocks::Writer::new(out));
    while let Ok(member) = members.recv() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_mtime(modified);
        header.set_size(member.size);
        let mut body = Body { parts: member.body, part: Default::default(), offset: 0 }.take(member.size);
        tar.append_data(&mut header, &member.name, &mut body)?;
        if body.limit() > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} ended early", member.name)));
        }
    }
    tar.into_inner()?.finish()
}

/// The archive's bytes, and their hash if they are read in order. What unpacks them takes a failed read for damage, so the
/// failure is kept here.
struct Noticing<'a> {
    file: File,
    hash: Option<&'a RefCell<Sha256>>,
    failed: &'a RefCell<Option<io::Error>>,
    go_on: &'a GoOn<'a>,
}

/// Asked before each read, so that going through an archive can be called off.
pub type GoOn<'a> = dyn Fn() -> io::Result<()> + 'a;

impl Noticing<'_> {
    fn notice<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.map_err(|e| {
            let told = io::Error::from(e.kind());
            self.failed.replace(Some(e));
            told
        })
    }
}

impl Read for Noticing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.go_on)()?;
        let n = loop {
            match self.file.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break self.notice(other)?,
            }
        };
        if let Some(hash) = self.hash {
            hash.borrow_mut().update(&buffer[..n]);
        }
        Ok(n)
    }
}

impl Seek for Noticing<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = self.file.seek(to);
        self.notice(moved)
    }
}

/// More members than this has no set.
const MEMBERS: usize = 20_000;

/// Goes through the members of the archive at `path`, in order and to its very end. Every one must be a regular file with
/// the flat name of a file of one and the same set, and none may come twice; anything else, and an archive without a
/// proper end, is `BACKUP_DAMAGED`. An archive that can't be read is not therefore damaged. `each` gets the bytes that a
/// member claims to have, and may leave them unread.
pub fn read(path: &Path, each: impl FnMut(&Named<'_>, &mut dyn Read) -> Result<()>) -> Result<Timestamp> {
    read_hashed(path, each).map(|(timestamp, _)| timestamp)
}

/// The same, and the SHA-256 of the whole file, of which every byte was read.
pub fn read_hashed(path: &Path, each: impl FnMut(&Named<'_>, &mut dyn Read) -> Result<()>) -> Result<(Timestamp, String)> {
    read_hashed_while(path, &|| Ok(()), each)
}

/// The same, as long as it may go on.
pub fn read_hashed_while(
    path: &Path,
    go_on: &GoOn<'_>,
    each: impl FnMut(&Named<'_>, &mut dyn Read) -> Result<()>,
) -> Result<(Timestamp, String)> {
    let hash = RefCell::new(Sha256::new());
    let timestamp = noticing(path, Some(&hash), go_on, |file| read_members(path, gzip_blocks::Reader::new(file), each))?;
    Ok((timestamp, checksum::hex(&hash.take().finalize())))
}

/// The same names and sizes as [`read`] finds, and what `each` reads, in a moment: what it leaves unread is not looked at, and
/// may be damaged. `None` if other tools than ours have packed it; then `each` may have heard of some of it.
pub fn survey(path: &Path, go_on: &GoOn<'_>, each: impl FnMut(&Named<'_>, &mut dyn Read) -> Result<()>) -> Result<Option<Timestamp>> {
    let is_foreign = Cell::new(false);
    noticing(path, None, go_on, |file| {
        let timestamp = read_members(path, gzip_gaps::Reader::new(file, &is_foreign), each);
        if is_foreign.get() { Ok(None) } else { timestamp.map(Some) }
    })
}

fn noticing<T>(
    path: &Path,
    hash: Option<&RefCell<Sha256>>,
    go_on: &GoOn<'_>,
    go_through: impl FnOnce(Noticing<'_>) -> Result<T>,
) -> Result<T> {
    let failed = RefCell::new(None);
    // Not through `is_irregular`: people may point at an archive through a symlink.
    if path.metadata().is_ok_and(|found| open_here::by_another_name(&found)) {
        return Err(Error::new(Code::BackupDamaged, format!("archive {} {}; use another backup", path.display(), open_here::SAID)));
    }
    let file = File::open(path).context("open", path)?;
    if hash.is_some() {
        // What is judged is what the disk has.
        direct_io::forget_cached(&file, 0);
    }
    let outcome = go_through(Noticing { file, hash, failed: &failed, go_on });
    failed.take().map_or(outcome, |e| Err(Error::io(e, "read", path)))
}

fn read_members(path: &Path, content: impl Skip, mut each: impl FnMut(&Named<'_>, &mut dyn Read) -> Result<()>) -> Result<Timestamp> {
    let damaged =
        |why: String| Error::new(Code::BackupDamaged, format!("archive {} is damaged: {why}; use another backup", path.display()));
    let broken = |e: io::Error| damaged(e.to_string()).caused_by(e);
    let mut tar = TarStream::new(content);
    let mut seen = std::collections::HashSet::new();
    let mut set = None;
    while let Some(entry) = tar.next_entry().map_err(broken)? {
        if entry.kind == EntryType::Directory && matches!(entry.name.as_str(), "." | "./") {
            continue;
        }
        // The replaced tools, and people, pack with `tar -czf … -C FOLDER .`.
        let name = entry.name.strip_prefix("./").unwrap_or(&entry.name);
        let known = names::parse(name).filter(|_| entry.kind == EntryType::Regular && !name.contains(std::path::is_separator));
        let Some((timestamp, artefact)) = known.filter(|(_, a)| !matches!(a, Artefact::Archive | Artefact::ArchiveSidecar)) else {
            return Err(damaged(format!("{name:?} in it is no file of a backup set")));
        };
        if *set.get_or_insert(timestamp) != timestamp || !seen.insert(name.to_lowercase()) || seen.len() > MEMBERS {
            return Err(damaged(format!("{name:?} does not belong there")));
        }
        if most(&artefact).is_some_and(|most| entry.size > most) {
            return Err(damaged(format!("{name:?} in it claims to have {} bytes", entry.size)));
        }
        each(&Named { timestamp, artefact, name, size: entry.size }, &mut tar)?;
    }
    set.ok_or_else(|| damaged("it is empty".into()))
}

/// A member that was found.
pub struct Named<'a> {
    /// Of its set.
    pub timestamp: Timestamp,
    /// What it is.
    pub artefact: Artefact,
    /// Its flat name.
    pub name: &'a str,
    /// Bytes that it claims to have; there may be fewer, and then reading fails.
    pub size: u64,
}

/// Bytes that a file of this sort has at most.
fn most(artefact: &Artefact) -> Option<u64> {
    match artefact {
        Artefact::Metadata => Some(metadata::LIMIT),
        Artefact::Sidecar(_) | Artefact::Seal => Some(checksum::SIDECAR_LIMIT),
        _ => None,
    }
}
