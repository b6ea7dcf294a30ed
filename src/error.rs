//! The crate's one error: a stable code, a message that names the thing and the way out, and its cause.

use std::{fmt, io, path::Path};

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as callers may rely on it. The names are part of the contract and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The project has no database to work on.
    NoDatabases,
    /// A timestamp that is not `YYYYMMDD-HHMMSS`.
    InvalidTimestamp,
    /// No set (or no archive) with that timestamp.
    BackupNotFound,
    /// Bytes on disk are not the bytes that were hashed.
    ChecksumMismatch,
    /// The live database is damaged.
    SourceDamaged,
    /// The backup is damaged, incomplete or unreadable.
    BackupDamaged,
    /// Another connection held the database longer than `busyTimeoutMs`.
    DatabaseBusy,
    /// Another run held the backups folder longer than `lockTimeoutMs`.
    LockTimeout,
    /// The disk is full, or would be.
    NoSpace,
    /// The operating system refused access.
    PermissionDenied,
    /// Any other failure of the surroundings.
    IoError,
    /// The restore can't be undone or is suspect; only `force` goes on.
    NeedsForce,
    /// The restore failed and everything is as it was.
    RestoreRolledBack,
    /// The restore failed half-way and could not be undone; the intent is kept for `recover`.
    RestoreIncomplete,
    /// Metadata of a newer format than this version knows.
    UnsupportedFormat,
    /// This machine lacks the locks that make live operations safe.
    UnsafePlatform,
    /// Cancelled by the caller's signal.
    Abort,
    /// An argument of the wrong type.
    InvalidArgType,
    /// An argument of the right type with an impossible value.
    InvalidArgValue,
}

impl Code {
    /// The code as it appears in JavaScript and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::NoDatabases => "NO_DATABASES",
            Code::InvalidTimestamp => "INVALID_TIMESTAMP",
            Code::BackupNotFound => "BACKUP_NOT_FOUND",
            Code::ChecksumMismatch => "CHECKSUM_MISMATCH",
            Code::SourceDamaged => "SOURCE_DAMAGED",
            Code::BackupDamaged => "BACKUP_DAMAGED",
            Code::DatabaseBusy => "DATABASE_BUSY",
            Code::LockTimeout => "LOCK_TIMEOUT",
            Code::NoSpace => "NO_SPACE",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::IoError => "IO_ERROR",
            Code::NeedsForce => "NEEDS_FORCE",
            Code::RestoreRolledBack => "RESTORE_ROLLED_BACK",
            Code::RestoreIncomplete => "RESTORE_INCOMPLETE",
            Code::UnsupportedFormat => "UNSUPPORTED_FORMAT",
            Code::UnsafePlatform => "UNSAFE_PLATFORM",
            Code::Abort => "ABORT_ERR",
            Code::InvalidArgType => "ERR_INVALID_ARG_TYPE",
            Code::InvalidArgValue => "ERR_INVALID_ARG_VALUE",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure: [`Code`] for programs, message for people, cause for whoever digs.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The stable code.
    pub code: Code,
    /// Names the thing, the reason and the way out.
    pub message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a cause of its own.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into(), source: None }
    }

    /// Keeps `cause` as the source.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// The same failure under another code, its message wrapped in `message` and kept as the source.
    pub fn wrap(self, code: Code, message: impl Into<String>) -> Self {
        let message = format!("{}: {}", message.into(), self.message);
        Error { code, message, source: Some(Box::new(self)) }
    }

    /// Of the I/O failure that this error reports, if it does report one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        Some(self.source.as_ref()?.downcast_ref::<io::Error>()?.kind())
    }

    /// An I/O failure while doing `what` (a verb phrase) to `path`, with the code its kind deserves.
    pub fn io(cause: io::Error, what: &str, path: &Path) -> Self {
        let path = path.display();
        let (code, message) = match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
                Code::NoSpace,
                format!("cannot {what} {path}: no space left ({cause}); free some disk space or choose another backupDir (--backup-dir)"),
            ),
            io::ErrorKind::FileTooLarge => (
                Code::NoSpace,
                format!("cannot {what} {path}: {cause}; files may not grow that large here: raise the limit (ulimit -f, LimitFSIZE=)"),
            ),
            io::ErrorKind::ReadOnlyFilesystem => {
                (Code::PermissionDenied, format!("cannot {what} {path}: {cause}; nothing can be written there as it is mounted"))
            }
            io::ErrorKind::PermissionDenied => {
                (Code::PermissionDenied, format!("cannot {what} {path}: {cause}; check the owner and mode of the file and its folder"))
            }
            io::ErrorKind::InvalidFilename => (
                Code::IoError,
                format!(
                    "cannot {what} {path}: {cause}; the copy of a database has a name that is up to 30 characters longer: give the database a shorter one, or back up the others by name with databases (--database)"
                ),
            ),
            _ => {
                let way_out = shortage(&cause).map(|w| format!("; {w}")).unwrap_or_default();
                (Code::IoError, format!("cannot {what} {path}: {cause}{way_out}"))
            }
        };
        Error::new(code, message).caused_by(cause)
    }

    /// A thread that could not be started.
    pub fn no_thread(cause: io::Error) -> Self {
        let message = format!(
            "no thread could be started ({cause}): this user has as many processes and threads as allowed; end some, or raise the limit (ulimit -u, TasksMax=), and call again"
        );
        Error::new(Code::IoError, message).caused_by(cause)
    }
}

/// What helps, if `cause` says that the machine has run out of something other than disk space.
pub fn shortage(cause: &io::Error) -> Option<&'static str> {
    if cause.kind() == io::ErrorKind::OutOfMemory {
        return Some("memory has run out: end some programs");
    }
    #[cfg(unix)]
    match cause.raw_os_error()? {
        libc::EMFILE => return Some("this process may have no more files open: close some, or raise the limit (ulimit -n, LimitNOFILE=)"),
        libc::ENFILE => {
            return Some("this machine may have no more files open: end some programs, or raise the limit (sysctl fs.file-max)");
        }
        _ => {}
    }
    None
}

/// Adds the path and the deed to an [`io::Error`].
pub trait IoContext<T> {
    /// Turns the I/O error into an [`Error`] that names `what` was done to `path`.
    fn context(self, what: &str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::io(e, what, path))
    }
}
