//! What came of a restore, and of the recovery of one that had died.

use napi_derive::napi;

use crate::error::Error;
use crate::napi::runtime::Finished;
use crate::napi::values::{bytes, name};
use crate::operations as op;

/// What happened to one database in a restore.
#[napi(object, object_from_js = false)]
pub struct RestoredDatabase {
    /// Path relative to the root, `/` separated.
    pub source: String,
    /// `updated`: pages were written into the live file. `created`: a new file was put in its place. `unchanged`: it was equal
    /// to the backup already.
    #[napi(ts_type = "'updated' | 'created' | 'unchanged'")]
    pub action: &'static str,
    /// Pages written into the live file: of a new file all, of a file that is no SQLite database 0.
    pub pages_written: i64,
}

/// What `restoreBackup` did.
#[napi(object, object_from_js = false)]
pub struct RestoreResult {
    /// Every database of the set is live again and was seen so through a fresh connection. It is on disk to stay.
    pub success: bool,
    /// The timestamp that was asked for.
    pub timestamp: String,
    /// How many databases now hold the backup's content, those that held it before included; 0 after a failure.
    pub files_restored: u32,
    /// Why it failed, for people; absent after a success.
    pub error: Option<String>,
    /// Why it failed, for programs; absent after a success. With `RESTORE_ROLLED_BACK` everything is as it was; with
    /// `RESTORE_INCOMPLETE` it is not, and `recover()` finishes or undoes the restore.
    #[napi(ts_type = "ErrorCode")]
    pub code: Option<&'static str>,
    /// The set that holds the state from before; absent when there was nothing to save, or nothing was changed.
    pub safety_backup: Option<String>,
    /// One entry per database, sorted by `source`; empty after a failure.
    pub databases: Vec<RestoredDatabase>,
    /// Sentences worth reading, for instance what `force` overrode.
    pub warnings: Vec<String>,
    /// Milliseconds from the call to the end of the work.
    pub duration_ms: i64,
}

impl RestoreResult {
    /// A restore that was done, or the error that left things as they were; `timestamp` is what was asked for.
    pub fn new(finished: Finished<op::RestoreOutcome>, timestamp: String) -> Self {
        let failed = |e: Error| (Some(e.message), Some(e.code.as_str()));
        let mut warnings = finished.warnings;
        let (outcome, (error, code)) = match finished.result {
            Ok(outcome) => (Some(outcome), (None, None)),
            Err(e) => (None, failed(e)),
        };
        let mut result = RestoreResult {
            success: outcome.is_some(),
            timestamp,
            files_restored: 0,
            error,
            code,
            safety_backup: None,
            databases: Vec::new(),
            warnings: Vec::new(),
            duration_ms: finished.duration_ms,
        };
        if let Some(outcome) = outcome {
            warnings.splice(0..0, outcome.warnings);
            result.files_restored = u32::try_from(outcome.databases.len()).unwrap_or(u32::MAX);
            result.safety_backup = name(outcome.safety_backup);
            result.databases = outcome.databases.into_iter().map(RestoredDatabase::from).collect();
        }
        RestoreResult { warnings, ..result }
    }
}

impl From<op::RestoredDatabase> for RestoredDatabase {
    fn from(d: op::RestoredDatabase) -> Self {
        RestoredDatabase { source: d.source, action: d.action.as_str(), pages_written: bytes(d.pages_written) }
    }
}

/// What `recover` found and did.
#[napi(object, object_from_js = false)]
pub struct RecoveryResult {
    /// The set whose restore had begun and was finished; absent if there was none.
    pub finished_restore: Option<String>,
    /// The set whose restore had begun and was undone; absent if there was none.
    pub undone_restore: Option<String>,
    /// The set with the state from before finishing, if anything had changed since.
    pub safety_backup: Option<String>,
    /// Half-made or half-removed sets that were swept away.
    pub swept: u32,
    /// Sentences worth reading.
    pub warnings: Vec<String>,
}

impl From<op::Recovery> for RecoveryResult {
    fn from(r: op::Recovery) -> Self {
        RecoveryResult {
            finished_restore: name(r.finished_restore),
            undone_restore: name(r.undone_restore),
            safety_backup: name(r.safety_backup),
            swept: r.swept,
            warnings: r.warnings,
        }
    }
}
