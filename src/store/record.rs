//! Reads the record of a set and its seal: no more of either than it may have, and nothing that is no regular file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use crate::backup_set::checksum;
use crate::backup_set::metadata::{self, Metadata};
use crate::backup_set::names;
use crate::backup_set::seal::Seal;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};

/// What a file holds.
enum Content {
    /// There is none.
    Missing,
    /// It is not to be opened, for this reason.
    Irregular(&'static str),
    /// More bytes than were asked for.
    TooLong,
    Bytes(Vec<u8>),
}

/// The record (`None`: there is none), and what its seal says. `sealed`: a seal was seen; without that it is looked for
/// only if the record says that it has one.
pub(super) fn read(dir: &Path, timestamp: Timestamp, sealed: bool) -> Result<(Option<Result<Metadata>>, Seal)> {
    let name = names::metadata(timestamp);
    let seal = || read_seal(&dir.join(names::seal(timestamp)));
    let bytes = match content(&dir.join(&name), metadata::LIMIT)? {
        Content::Bytes(bytes) => bytes,
        Content::Missing => return Ok((None, if seal()?.is_some() { Seal::Alone } else { Seal::None })),
        Content::TooLong => return Ok((Some(Err(metadata::too_big(&name))), Seal::None)),
        Content::Irregular(why) => return Ok((Some(Err(Error::new(Code::BackupDamaged, format!("{name} {why}")))), Seal::None)),
    };
    let parsed = Metadata::parse(&bytes, &name);
    let says = parsed.as_ref().is_ok_and(Metadata::is_sealed);
    let seal = if sealed || says { seal()? } else { None };
    let seal = Seal::judge(&bytes, says, seal.as_deref(), timestamp);
    Ok((Some(parsed), seal))
}

/// `None`: there is none. What is no regular file, or too long, is no checksum.
fn read_seal(path: &Path) -> Result<Option<Vec<u8>>> {
    Ok(match content(path, checksum::SIDECAR_LIMIT)? {
        Content::Missing => None,
        Content::Irregular(_) | Content::TooLong => Some(Vec::new()),
        Content::Bytes(bytes) => Some(bytes),
    })
}

fn content(path: &Path, limit: u64) -> Result<Content> {
    if let Some(why) = durable::irregularity(path) {
        return Ok(Content::Irregular(why));
    }
    let file = match open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Content::Missing),
        Err(e) => return Err(Error::io(e, "read", path)),
    };
    let found = file.metadata().context("look at", path)?;
    let bytes = no_more(file, limit, found.len()).context("read", path)?;
    Ok(bytes.map_or(Content::TooLong, Content::Bytes))
}

/// Opens what is there. Should it have become a symlink or a fifo this moment: follows none, and waits for no writer.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

/// All of a file; `None` if it has more than `limit` bytes.
pub fn limited(file: File, limit: u64) -> io::Result<Option<Vec<u8>>> {
    no_more(file, limit, 0)
}

/// The same of a file that has `likely` bytes: without that it takes many small reads.
fn no_more(file: File, limit: u64, likely: u64) -> io::Result<Option<Vec<u8>>> {
    let room = usize::try_from(likely.min(limit) + 1).unwrap_or_default();
    let mut bytes = Vec::with_capacity(room);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}
