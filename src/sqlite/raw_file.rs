//! Raw bytes of a file that may be live: read through a descriptor that is parked, never closed.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::time::SystemTime;

use super::posix_locks;
use crate::error::{Code, Error, IoContext, Result};

/// A live file opened for reading. Reads from the start; dropping it takes nobody's locks away.
pub struct RawFile {
    file: ManuallyDrop<File>,
    #[cfg(unix)]
    offset: u64,
}

impl RawFile {
    /// Opens `path`, which must be a regular file.
    pub fn open(path: &Path) -> Result<Self> {
        posix_locks::install()?;
        let raw = Self::open_any(path).context("open", path)?;
        if !raw.metadata().context("look at", path)?.is_file() {
            return Err(Error::new(
                Code::IoError,
                format!("{} is not a regular file; remove it from the databases to back up", path.display()),
            ));
        }
        Ok(raw)
    }

    #[cfg(unix)]
    fn open_any(path: &Path) -> io::Result<Self> {
        Ok(RawFile { file: posix_locks::open_parked(path)?, offset: 0 })
    }

    #[cfg(not(unix))]
    fn open_any(path: &Path) -> io::Result<Self> {
        Ok(RawFile { file: ManuallyDrop::new(File::open(path)?) })
    }

    /// Of the open file, not of whatever has its name now.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

/// Makes what is in the live file at `path` last; a file that is not there is fine.
pub fn flush(path: &Path) -> Result<()> {
    if FileState::of(path)?.is_none() {
        return Ok(());
    }
    let raw = RawFile::open(path)?;
    // Elsewhere only a descriptor for writing may flush, and there SQLite's own commit has done so.
    #[cfg(unix)]
    raw.file.sync_all().context("flush", path)?;
    drop(raw);
    Ok(())
}

impl Read for RawFile {
    #[cfg(unix)]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        // Positioned reads: a reused descriptor's own offset is wherever its last user left it.
        let n = self.file.read_at(buffer, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }

    #[cfg(not(unix))]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.file).read(buffer)
    }
}

impl Drop for RawFile {
    #[cfg(unix)]
    fn drop(&mut self) {
        posix_locks::release(&mut self.file);
    }

    #[cfg(not(unix))]
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: dropped once, here; Windows locks belong to handles, so closing is harmless.
        unsafe { ManuallyDrop::drop(&mut self.file) }
    }
}

/// Reads `from` until `buffer` is full; false if it ends before that. A read that fails is an error: it says nothing of
/// what the file holds.
pub fn fills(from: &mut dyn Read, buffer: &mut [u8], path: &Path) -> Result<bool> {
    match from.read_exact(buffer) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.context("read", path).map(|()| true),
    }
}

/// What tells a file that stood still from one that was rewritten: identity, size and time of the last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    identity: (u64, u64),
    /// Bytes.
    pub size: u64,
    modified: Option<SystemTime>,
}

impl FileState {
    /// Looks without opening; `None` if there is no such file.
    pub fn of(path: &Path) -> Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(m) => Ok(Some(FileState::from(&m))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(e, "look at", path)),
        }
    }

    /// Of an open file, whatever its name is by now.
    pub fn of_open(file: &File) -> io::Result<Self> {
        file.metadata().map(|m| FileState::from(&m))
    }

    /// Whether both are the same file, whatever its content.
    pub fn same_file(&self, other: &FileState) -> bool {
        self.identity == other.identity
    }
}

impl From<&Metadata> for FileState {
    fn from(m: &Metadata) -> Self {
        FileState { identity: identity(m), size: m.len(), modified: m.modified().ok() }
    }
}

#[cfg(unix)]
fn identity(m: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (m.dev(), m.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

/// Permission bits of a file; `None` where there are none.
pub fn mode_of(path: &Path) -> Result<Option<u32>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        path.metadata().context("look at", path).map(|m| Some(m.permissions().mode() & 0o777))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Ok(None)
    }
}
