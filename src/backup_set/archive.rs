//! The `.tar.gz` of a set: written while the databases are being copied, read back member by member.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::Receiver;

use tar::{Builder, EntryType, Header};

use super::gzip_blocks;
use super::names::{self, Artefact};
use super::timestamp::Timestamp;
use crate::error::{Code, Error, IoContext, Result};

/// A file on its way into the archive. Its body arrives in parts; together they must have `size` bytes.
pub struct Member {
    /// File name, flat.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// The parts. Hanging up early means the member failed.
    pub body: Receiver<std::sync::Arc<Vec<u8>>>,
}

/// Turns a channel of parts into a reader.
struct Body {
    parts: Receiver<std::sync::Arc<Vec<u8>>>,
    part: std::sync::Arc<Vec<u8>>,
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
    let mut tar = Builder::new(gzip_blocks::Writer::new(out)?);
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

/// Goes through the members of the archive at `path`, in order. Every one must be a regular file with the flat name of
/// a file of one and the same set, and none may come twice; anything else is `BACKUP_DAMAGED` before it is read.
pub fn read(path: &Path, mut each: impl FnMut(Timestamp, &Artefact, &str, &mut dyn Read) -> Result<()>) -> Result<Timestamp> {
    let damaged =
        |why: String| Error::new(Code::BackupDamaged, format!("archive {} is damaged: {why}; use another backup", path.display()));
    let broken = |e: io::Error| damaged(e.to_string()).caused_by(e);
    let file = File::open(path).context("open", path)?;
    let mut tar = tar::Archive::new(gzip_blocks::Reader::new(file));
    let mut seen = std::collections::HashSet::new();
    let mut set = None;
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8(entry.path_bytes().into_owned()).map_err(|e| damaged(e.to_string()))?;
        if entry.header().entry_type() == EntryType::Directory && matches!(name.as_str(), "." | "./") {
            continue;
        }
        // The replaced tools, and people, pack with `tar -czf … -C FOLDER .`.
        let name = name.strip_prefix("./").map_or(name.clone(), str::to_owned);
        let known =
            names::parse(&name).filter(|_| entry.header().entry_type() == EntryType::Regular && !name.contains(std::path::is_separator));
        let Some((timestamp, artefact)) = known else { return Err(damaged(format!("{name:?} is no file of a backup set"))) };
        if *set.get_or_insert(timestamp) != timestamp || !seen.insert(name.to_lowercase()) {
            return Err(damaged(format!("{name:?} does not belong there")));
        }
        each(timestamp, &artefact, &name, &mut entry)?;
    }
    set.ok_or_else(|| damaged("it is empty".into()))
}
