//! The verdict on a set.

use napi_derive::napi;

use crate::error::Code;
use crate::operations as op;

/// Something wrong with a file of a set.
#[napi(object, object_from_js = false)]
pub struct BackupProblem {
    /// For programs.
    #[napi(ts_type = "ErrorCode")]
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl From<(Code, String)> for BackupProblem {
    fn from((code, message): (Code, String)) -> Self {
        BackupProblem { code: code.as_str(), message }
    }
}

/// The verdict on one file of a set.
#[napi(object, object_from_js = false)]
pub struct FileReport {
    /// File name in the backups folder.
    pub file: String,
    /// Where it goes back to, relative to the root; absent for metadata and archives, and where nothing says so.
    pub source: Option<String>,
    /// Whether it may be trusted.
    pub ok: bool,
    /// Why not; empty when `ok`.
    pub problems: Vec<BackupProblem>,
}

impl From<op::FileReport> for FileReport {
    fn from(f: op::FileReport) -> Self {
        FileReport { file: f.file, source: f.source, ok: f.ok, problems: f.problems.into_iter().map(BackupProblem::from).collect() }
    }
}

/// The verdict on a set.
#[napi(object, object_from_js = false)]
pub struct BackupInspection {
    /// The set's name.
    pub timestamp: String,
    /// No problem anywhere; what `verifyBackup` returns.
    pub ok: bool,
    /// Database copies first, then metadata, then the archive.
    pub files: Vec<FileReport>,
    /// Sentences worth reading that are no damage.
    pub warnings: Vec<String>,
}

impl From<op::Inspection> for BackupInspection {
    fn from(i: op::Inspection) -> Self {
        let files = i.files.into_iter().map(FileReport::from).collect();
        BackupInspection { timestamp: i.timestamp.to_string(), ok: i.ok, files, warnings: i.warnings }
    }
}
