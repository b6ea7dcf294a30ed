//! What SQLite's errors mean for us: a code, the file, the way out.

use std::path::Path;

use rusqlite::{ErrorCode, ffi};

use super::connection::side_file;
use super::posix_locks;
use crate::error::{Code, Error, shortage};

/// Somebody else has the database.
pub(super) fn busy(path: &Path, why: &str) -> Error {
    Error::new(
        Code::DatabaseBusy,
        format!(
            "{} is busy: {why}. Nothing was changed; try again, close what holds it, or allow more time with busyTimeoutMs (--busy-timeout)",
            path.display()
        ),
    )
}

/// Whether another connection is in the way, for the time being.
pub(super) fn is_busy(e: &rusqlite::Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether a transaction that died has to be rolled back first, and can't be, since nothing may be written here.
pub(super) fn is_hot_journal(e: &rusqlite::Error) -> bool {
    matches!(e, rusqlite::Error::SqliteFailure(cause, _) if cause.extended_code == ffi::SQLITE_READONLY_ROLLBACK)
}

/// Turns SQLite's error into ours.
pub(super) fn translate(e: rusqlite::Error, what: &str, path: &Path) -> Error {
    let shown = path.display();
    // SQLite has one code for all reasons not to open a file.
    if e.sqlite_error_code() == Some(ErrorCode::CannotOpen)
        && let Some(reason) = posix_locks::open_error().filter(|r| shortage(r).is_some())
    {
        return Error::io(reason, what, path);
    }
    if is_hot_journal(&e) {
        let message = format!(
            "cannot {what} {shown}: a transaction broke off half-way, and its journal ({}) can't be rolled back where nothing may be written; open the database once where it can be written to, or back up a copy of both files",
            side_file(path, "-journal").display()
        );
        return Error::new(Code::PermissionDenied, message).caused_by(e);
    }
    let error = match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => busy(path, "another connection holds its lock"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::new(Code::SourceDamaged, format!("cannot {what} {shown}: it is damaged ({e}); restore it from a backup"))
        }
        Some(ErrorCode::DiskFull) => {
            Error::new(Code::NoSpace, format!("cannot {what} {shown}: the disk is full; free some space and try again"))
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen | ErrorCode::AuthorizationForStatementDenied) => {
            Error::new(
                Code::PermissionDenied,
                format!(
                    "cannot {what} {shown}: {e}; check the owner and mode of the file, its folder and its -wal, -shm and -journal files"
                ),
            )
        }
        _ => Error::new(Code::IoError, format!("cannot {what} {shown}: {e}")),
    };
    error.caused_by(e)
}
