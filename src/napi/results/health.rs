//! How the project and its backups are.

use napi_derive::napi;

use crate::backup_set::timestamp::Timestamp;
use crate::error::Error;
use crate::napi::runtime::Finished;
use crate::napi::values::{bytes, name};
use crate::operations as op;

/// Something that is not as it should be.
#[napi(object, object_from_js = false)]
pub struct HealthFinding {
    /// For programs; never changed or given another meaning.
    #[napi(ts_type = "HealthFindingCode")]
    pub code: &'static str,
    /// `critical`: data is lost or may be, somebody has to act. `warning`: worth a look.
    #[napi(ts_type = "'critical' | 'warning'")]
    pub severity: &'static str,
    /// One sentence that names the thing.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// What it is about: a database (relative to the root), a backup's timestamp, a folder, or a library.
    pub subject: String,
}

impl From<op::Finding> for HealthFinding {
    fn from(f: op::Finding) -> Self {
        HealthFinding { code: f.code.as_str(), severity: f.severity.as_str(), message: f.message, remedy: f.remedy, subject: f.subject }
    }
}

/// A database and its newest backup.
#[napi(object, object_from_js = false)]
pub struct DatabaseHealth {
    /// Path relative to the root, `/` separated.
    pub source: String,
    /// Bytes of the file and its `-wal`.
    pub size: i64,
    /// Its newest verified, undamaged backup; absent if there is none. Backups dated in the future don't count.
    pub newest_backup: Option<String>,
    /// Seconds since then; absent if there is none.
    pub age_seconds: Option<i64>,
}

/// How many processes were looked at.
#[napi(object, object_from_js = false)]
pub struct ProcessCount {
    /// Have a database of the project open, this one included if it has.
    pub using: u32,
    /// Were looked at.
    pub examined: u32,
    /// Could not be looked at, because they belong to other accounts.
    pub unreadable: u32,
}

/// How the project and its backups are.
#[napi(object, object_from_js = false)]
pub struct Health {
    /// There is no critical finding.
    pub healthy: bool,
    /// What is not as it should be, worst first.
    pub findings: Vec<HealthFinding>,
    /// The newest verified, undamaged backup of any database; absent if there is none.
    pub newest_backup: Option<String>,
    /// One entry per database, sorted by `source`.
    pub databases: Vec<DatabaseHealth>,
    /// Backups, those of which only the archive is left not counted.
    pub backups: u32,
    /// Backups of which only the archive is left.
    pub archives_only: u32,
    /// Backups that are damaged, or copies of a database that was.
    pub damaged_backups: u32,
    /// Bytes of everything in the backups folder.
    pub total_size: i64,
    /// What it may take; absent if that was not said.
    pub max_size_bytes: Option<i64>,
    /// Free bytes where the backups are.
    pub free: i64,
    /// Bytes that have to be free for the next backup.
    pub next_backup_size: i64,
    /// Absent where the system does not tell which process has which file open (all but Linux).
    pub processes: Option<ProcessCount>,
    /// When it was so: ISO 8601, UTC.
    pub checked_at: String,
    /// What was not looked at, and other sentences that are no findings.
    pub notes: Vec<String>,
    /// Milliseconds from the call to the end of the work.
    pub duration_ms: i64,
}

impl Health {
    /// What was found, or the error that kept it from being looked for.
    pub fn new(finished: Finished<op::Health>) -> Result<Self, Error> {
        let h = finished.result?;
        let count = |p: op::ProcessCount| ProcessCount { using: p.using, examined: p.examined, unreadable: p.unreadable };
        Ok(Health {
            healthy: h.healthy(),
            newest_backup: name(h.newest_backup()),
            checked_at: h.checked_at.to_iso(),
            databases: h.databases.iter().map(|d| database_health(d, h.checked_at)).collect(),
            findings: h.findings.into_iter().map(HealthFinding::from).collect(),
            backups: h.backups,
            archives_only: h.archives_only,
            damaged_backups: h.damaged,
            total_size: bytes(h.total_size),
            max_size_bytes: h.max_size.map(bytes),
            free: bytes(h.free),
            next_backup_size: bytes(h.next_backup),
            processes: h.processes.map(count),
            notes: [h.notes, finished.warnings].concat(),
            duration_ms: finished.duration_ms,
        })
    }
}

fn database_health(d: &op::DatabaseHealth, now: Timestamp) -> DatabaseHealth {
    DatabaseHealth {
        source: d.source.clone(),
        size: bytes(d.size),
        newest_backup: name(d.newest_backup),
        age_seconds: d.age(now).map(bytes),
    }
}
