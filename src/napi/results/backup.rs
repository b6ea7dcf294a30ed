//! What came of a backup.

use napi::bindgen_prelude::{Either, Null};
use napi_derive::napi;

use crate::backup_set::metadata::Kind;
use crate::napi::runtime::Finished;
use crate::napi::values::{bytes, nullable, path};
use crate::operations as op;

/// One database of a set that was just made.
#[napi(object, object_from_js = false)]
pub struct CapturedDatabase {
    /// Path relative to the root, `/` separated.
    pub source: String,
    /// Absolute path of the copy.
    pub file: String,
    /// Bytes of the copy.
    pub size: i64,
    /// SHA-256 of the copy, 64 hex digits.
    pub sha256: String,
    /// What `quick_check` of the copy said; it looks at structure, and does not compare indexes with their tables. `damaged` makes the whole backup fail; `cannot-check` means that something the check
    /// needs is missing here (a custom collation or function); `null` for a file that is no SQLite database.
    #[napi(ts_type = "'ok' | 'damaged' | 'cannot-check' | 'not-checked' | null")]
    pub integrity: Either<String, Null>,
}

/// What `createBackup` and `createSafetyBackup` did.
#[napi(object, object_from_js = false)]
pub struct BackupResult {
    /// Every database was captured and, with `verify`, found healthy. The set is on disk to stay: files, folder and names are synced.
    pub success: bool,
    /// The set's name, `YYYYMMDD-HHMMSS` in UTC; empty if no set was made.
    pub timestamp: String,
    /// Absolute paths of the database copies.
    pub files: Vec<String>,
    /// Bytes of `files`, all together.
    pub total_size: i64,
    /// Whether an archive was made.
    pub compressed: bool,
    /// Why it failed, for people; absent after a success.
    pub error: Option<String>,
    /// Why it failed, for programs; absent after a success. With `SOURCE_DAMAGED` the set is kept, marked as damaged.
    #[napi(ts_type = "ErrorCode")]
    pub code: Option<&'static str>,
    /// The kind of the set.
    #[napi(ts_type = "BackupKind")]
    pub kind: &'static str,
    /// Absolute path of the archive, if one was made.
    pub archive: Option<String>,
    /// One entry per database, sorted by `source`.
    pub databases: Vec<CapturedDatabase>,
    /// How many old sets the clean-up removed.
    pub removed: u32,
    /// Sentences worth reading.
    pub warnings: Vec<String>,
    /// Milliseconds from the call to the end of the work.
    pub duration_ms: i64,
}

impl BackupResult {
    /// A set that was made, or an error that left none; `kind` is what was asked for.
    pub fn new(finished: Finished<op::CreateOutcome>, kind: Kind) -> Self {
        let mut warnings = finished.warnings;
        let duration_ms = finished.duration_ms;
        match finished.result {
            Ok(outcome) => {
                warnings.splice(0..0, outcome.warnings.iter().cloned());
                Self::made(outcome, warnings, duration_ms)
            }
            Err(e) => {
                BackupResult { error: Some(e.message), code: Some(e.code.as_str()), ..Self::nothing(kind.as_str(), warnings, duration_ms) }
            }
        }
    }

    fn made(outcome: op::CreateOutcome, warnings: Vec<String>, duration_ms: i64) -> Self {
        let failure = outcome.failure;
        BackupResult {
            success: failure.is_none(),
            timestamp: outcome.timestamp.to_string(),
            files: outcome.databases.iter().map(|d| path(&d.file)).collect(),
            total_size: bytes(outcome.databases.iter().map(|d| d.size).sum()),
            compressed: outcome.compressed,
            code: failure.as_ref().map(|e| e.code.as_str()),
            error: failure.map(|e| e.message),
            archive: outcome.archive.as_deref().map(path),
            databases: outcome.databases.into_iter().map(CapturedDatabase::from).collect(),
            removed: outcome.removed,
            ..Self::nothing(outcome.kind.as_str(), warnings, duration_ms)
        }
    }

    fn nothing(kind: &'static str, warnings: Vec<String>, duration_ms: i64) -> Self {
        BackupResult {
            success: false,
            timestamp: String::new(),
            files: Vec::new(),
            total_size: 0,
            compressed: false,
            error: None,
            code: None,
            kind,
            archive: None,
            databases: Vec::new(),
            removed: 0,
            warnings,
            duration_ms,
        }
    }
}

impl From<op::CapturedDatabase> for CapturedDatabase {
    fn from(d: op::CapturedDatabase) -> Self {
        CapturedDatabase { source: d.source, file: path(&d.file), size: bytes(d.size), sha256: d.sha256, integrity: nullable(d.integrity) }
    }
}
