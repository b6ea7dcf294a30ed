//! What promises resolve to: the operations' outcomes as plain objects.

use std::path::{Path, PathBuf};

use napi::bindgen_prelude::{Either, Null};
use napi_derive::napi;
use serde_json::{Map, Number, Value};

use super::runtime::Finished;
use crate::backup_set::metadata::Kind;
use crate::backup_set::timestamp::Timestamp;
use crate::error::{Code, Error};
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

/// One table, in the backup and live. Rows are told apart by their primary key, else by their rowid.
#[napi(object, object_from_js = false)]
pub struct TableComparison {
    /// Table name.
    pub table: String,
    /// Rows in the backup; `null` if there is no such table, or it can't be counted.
    pub backup_rows: Either<i64, Null>,
    /// Rows now; `null` if there is no such table, or it can't be counted.
    pub live_rows: Either<i64, Null>,
    /// Rows that live has and the backup not; `null` if the table was not compared, and `note` says why.
    pub added: Either<i64, Null>,
    /// Rows that the backup has and live not; `null` as above.
    pub removed: Either<i64, Null>,
    /// Rows that both have, with other values in the columns that both have; `null` as above.
    pub changed: Either<i64, Null>,
    /// Columns that live has and the backup not.
    pub columns_added: Vec<String>,
    /// Columns that the backup has and live not.
    pub columns_removed: Vec<String>,
    /// Why the table was not compared; or how its rows were told apart, where neither primary key nor rowid could do it.
    pub note: Either<String, Null>,
    /// With `table`: the first `limit` rows that differ, in the order of the key.
    #[napi(ts_type = "RowDifference[]")]
    pub rows: Option<Vec<Value>>,
    /// With `table`: whether more rows differ than `rows` has.
    pub rows_truncated: Option<bool>,
}

impl From<op::TableComparison> for TableComparison {
    fn from(t: op::TableComparison) -> Self {
        let rows_truncated = t.rows.as_ref().map(|_| t.rows_truncated);
        TableComparison {
            table: t.table,
            backup_rows: nullable(t.backup_rows.map(bytes)),
            live_rows: nullable(t.live_rows.map(bytes)),
            added: nullable(t.counts.map(|c| bytes(c.added))),
            removed: nullable(t.counts.map(|c| bytes(c.removed))),
            changed: nullable(t.counts.map(|c| bytes(c.changed))),
            columns_added: t.columns_added,
            columns_removed: t.columns_removed,
            note: nullable(t.note),
            rows: t.rows.map(|rows| rows.iter().filter_map(|r| serde_json::to_value(r).ok()).map(plain).collect()),
            rows_truncated,
        }
    }
}

/// A schema object that differs.
#[napi(object, object_from_js = false)]
pub struct SchemaDifference {
    /// What it is.
    #[napi(js_name = "type", ts_type = "'table' | 'index' | 'view' | 'trigger'")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Since the backup.
    #[napi(ts_type = "'added' | 'removed' | 'changed'")]
    pub change: &'static str,
}

impl From<op::SchemaDifference> for SchemaDifference {
    fn from(s: op::SchemaDifference) -> Self {
        SchemaDifference { kind: s.kind, name: s.name, change: s.change.as_str() }
    }
}

/// How one database differs from its backup.
#[napi(object, object_from_js = false)]
pub struct DatabaseComparison {
    /// Path relative to the root, `/` separated.
    pub source: String,
    /// By pages. `missing-here`: in the backup only. `missing-there`: in the project only.
    #[napi(ts_type = "'identical' | 'different' | 'missing-here' | 'missing-there'")]
    pub difference: &'static str,
    /// Pages that differ, over the longer of the two.
    pub pages_different: i64,
    /// Pages of the longer of the two.
    pub pages_total: i64,
    /// Whether every row, the schema and the versions are the same, even if pages are not (after `VACUUM`, for instance); `null` if
    /// `table` left the others out.
    pub same_content: Either<bool, Null>,
    /// Tables that differ, or could not be compared, sorted by name; those that hold the content of virtual tables among them. With
    /// `table`: that one, if the database has it, whether it differs or not.
    pub tables: Vec<TableComparison>,
    /// Schema objects that differ.
    pub schema: Vec<SchemaDifference>,
    /// What else differs (`user_version`, `application_id`, the text encoding), in sentences.
    pub notes: Vec<String>,
}

impl From<op::DatabaseComparison> for DatabaseComparison {
    fn from(d: op::DatabaseComparison) -> Self {
        DatabaseComparison {
            source: d.source,
            difference: d.difference.as_str(),
            pages_different: bytes(d.pages_different),
            pages_total: bytes(d.pages_total),
            same_content: nullable(d.same_content),
            tables: d.tables.into_iter().map(TableComparison::from).collect(),
            schema: d.schema.into_iter().map(SchemaDifference::from).collect(),
            notes: d.notes,
        }
    }
}

/// A set compared with the project.
#[napi(object, object_from_js = false)]
pub struct BackupComparison {
    /// The set's name.
    pub timestamp: String,
    /// Nothing differs and nothing is missing.
    pub identical: bool,
    /// One entry per database of either side, sorted by `source`.
    pub databases: Vec<DatabaseComparison>,
    /// Sentences worth reading, for instance that the archive was compared because the set's files are damaged.
    pub warnings: Vec<String>,
}

impl From<op::Comparison> for BackupComparison {
    fn from(c: op::Comparison) -> Self {
        let databases = c.databases.into_iter().map(DatabaseComparison::from).collect();
        BackupComparison { timestamp: c.timestamp.to_string(), identical: c.identical, databases, warnings: c.warnings }
    }
}

/// What the backups folder holds.
#[napi(object, object_from_js = false)]
pub struct StorageUsage {
    /// Absolute path of the backups folder.
    pub backup_dir: String,
    /// Bytes of everything in it.
    pub total_size: i64,
    /// Bytes of database copies.
    pub databases_size: i64,
    /// Bytes of archives.
    pub archives_size: i64,
    /// Bytes of sidecars, metadata and the rest.
    pub other_size: i64,
    /// Sets, complete or not, those of which only the archive is left not counted.
    pub backups: u32,
    /// Sets of which only the archive is left.
    pub archives_only: u32,
    /// What the sets of each kind use, copies and archives. Those of which only the archive is left are not in it.
    pub by_kind: Vec<UsageOfKind>,
    /// What the sets of each day (UTC) use, oldest first, those of which only the archive is left included.
    pub by_day: Vec<UsageOfDay>,
    /// Free bytes on that file system.
    pub free: i64,
}

/// Sets of one kind.
#[napi(object, object_from_js = false)]
pub struct UsageOfKind {
    /// `automated`, `manual` or `safety`.
    #[napi(ts_type = "BackupKind")]
    pub kind: String,
    /// Sets.
    pub backups: u32,
    /// Bytes.
    pub bytes: i64,
}

/// Sets of one day.
#[napi(object, object_from_js = false)]
pub struct UsageOfDay {
    /// `YYYY-MM-DD`, UTC.
    pub day: String,
    /// Sets.
    pub backups: u32,
    /// Bytes.
    pub bytes: i64,
}

impl From<op::Usage> for StorageUsage {
    fn from(u: op::Usage) -> Self {
        StorageUsage {
            backup_dir: path(&u.backup_dir),
            total_size: bytes(u.total_size),
            databases_size: bytes(u.databases_size),
            archives_size: bytes(u.archives_size),
            other_size: bytes(u.other_size),
            backups: u.backups,
            archives_only: u.archives_only,
            by_kind: u
                .by_kind
                .into_iter()
                .map(|(kind, s)| UsageOfKind { kind: kind.to_owned(), backups: s.backups, bytes: bytes(s.bytes) })
                .collect(),
            by_day: u.by_day.into_iter().map(|(day, s)| UsageOfDay { day, backups: s.backups, bytes: bytes(s.bytes) }).collect(),
            free: bytes(u.free),
        }
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

/// A value that is `null` when there is none, where an absent key would hide that it was looked for.
fn nullable<T>(value: Option<T>) -> Either<T, Null> {
    value.map_or(Either::B(Null), Either::A)
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

pub fn paths(all: &[PathBuf]) -> Vec<String> {
    all.iter().map(|p| path(p)).collect()
}

fn name(set: Option<Timestamp>) -> Option<String> {
    set.map(|t| t.to_string())
}

/// Counts go out signed: napi makes a BigInt of an unsigned 64-bit number.
pub fn bytes(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// JSON as `JSON.parse` would give it: large integers as numbers, not as BigInt. A key `__proto__` is left out, since setting it
/// would not make a property.
pub fn plain(value: Value) -> Value {
    match value {
        Value::Number(n) if n.as_i64().is_none_or(|i| i32::try_from(i).is_err()) => {
            n.as_f64().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().filter(|(k, _)| k != "__proto__").map(|(k, v)| (k, plain(v))).collect::<Map<_, _>>())
        }
        other => other,
    }
}
