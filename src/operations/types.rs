//! What the verbs take and give: plain values that both faces fill in and translate.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::backup_set::metadata::{Kind, Metadata};
use crate::backup_set::timestamp::Timestamp;
use crate::error::{Code, Error};
use crate::progress::Monitor;
use crate::store::pin::Pin;
use crate::store::retention::{Fate, Rule};

/// Where to work and how long to wait; common to all verbs.
#[derive(Clone)]
pub struct Context {
    /// `root`; `None`: `$AQE_PROJECT_ROOT`, else the current folder.
    pub root: Option<PathBuf>,
    /// `backupDir`, relative to the root or absolute; `None`: `.agentic-qe/backups`.
    pub backup_dir: Option<PathBuf>,
    /// Paths or globs relative to the root; `None`: `*.db` and `.agentic-qe/*.db`.
    pub databases: Option<Vec<String>>,
    /// How long to wait for another connection's lock on a database.
    pub busy_timeout: Duration,
    /// How long to wait for another run's lock on the backups folder.
    pub lock_timeout: Duration,
    /// Progress out, cancellation in.
    pub monitor: Monitor,
}

impl Default for Context {
    fn default() -> Self {
        Context {
            root: None,
            backup_dir: None,
            databases: None,
            busy_timeout: Duration::from_millis(5000),
            lock_timeout: Duration::from_millis(30_000),
            monitor: Monitor::default(),
        }
    }
}

/// Options of create.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Also write one `.tar.gz` of the whole set.
    pub compress: bool,
    /// Read back and check what was written.
    pub verify: bool,
    /// Which retention ring the set belongs to.
    pub kind: Kind,
    /// A person's note.
    pub label: Option<String>,
    /// The operation a safety backup precedes.
    pub operation: Option<String>,
    /// Clean-up afterwards; `None`: no clean-up.
    pub keep_last: Option<u32>,
    /// Keep anybody from removing the set until [`CreateOutcome::pin`] is dropped.
    pub pin: bool,
}

impl Default for CreateOptions {
    fn default() -> Self {
        CreateOptions { compress: true, verify: true, kind: Kind::Automated, label: None, operation: None, keep_last: Some(10), pin: false }
    }
}

/// One database of a set that was just made.
#[derive(Debug, Clone, PartialEq)]
pub struct CapturedDatabase {
    /// Path relative to the root, `/` separated.
    pub source: String,
    /// Absolute path of the copy.
    pub file: PathBuf,
    /// Bytes.
    pub size: u64,
    /// 64 hex digits.
    pub sha256: String,
    /// `ok`, `damaged`, `cannot-check` or `not-checked`; `None` for a plain file.
    pub integrity: Option<String>,
}

/// What create made. A failure that leaves a (marked) set behind fills `failure`; any other is an [`Error`].
#[derive(Debug)]
pub struct CreateOutcome {
    /// The set's name.
    pub timestamp: Timestamp,
    /// Kind of the set.
    pub kind: Kind,
    /// Whether an archive was made.
    pub compressed: bool,
    /// Absolute path of the archive.
    pub archive: Option<PathBuf>,
    /// One per database, sorted by source.
    pub databases: Vec<CapturedDatabase>,
    /// Sets removed by the clean-up.
    pub removed: u32,
    /// Sentences worth reading.
    pub warnings: Vec<String>,
    /// `SOURCE_DAMAGED`, with the set kept and marked.
    pub failure: Option<Error>,
    /// If asked for.
    pub pin: Option<Pin>,
}

/// Options of restore.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Check the set before and while writing.
    pub verify: bool,
    /// Go on where the restore can't be undone or is suspect.
    pub force: bool,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions { verify: true, force: false }
    }
}

/// What happened to one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Pages were written into the live file.
    Updated,
    /// A new file was put in its place.
    Created,
    /// Already equal to the backup; nothing was written.
    Unchanged,
}

impl Action {
    /// As in JavaScript.
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Updated => "updated",
            Action::Created => "created",
            Action::Unchanged => "unchanged",
        }
    }
}

/// One database of a restore.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoredDatabase {
    /// Path relative to the root.
    pub source: String,
    /// What was done.
    pub action: Action,
    /// Pages written into the live file (of a new file: all of them; of a plain file: 0).
    pub pages_written: u64,
}

/// What restore did.
#[derive(Debug)]
pub struct RestoreOutcome {
    /// The set that is live now.
    pub timestamp: Timestamp,
    /// The set with the state before; `None` when there was nothing to save, or nothing was changed.
    pub safety_backup: Option<Timestamp>,
    /// One per database, sorted by source.
    pub databases: Vec<RestoredDatabase>,
    /// Sentences worth reading.
    pub warnings: Vec<String>,
}

/// What a live database is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveState {
    /// There is none; the restore makes it.
    Missing,
    /// A database that can be read.
    Rows {
        /// Rows of each table.
        tables: BTreeMap<String, u64>,
        /// Pages that differ from the backup's, and pages of the longer of the two; `None`: not compared.
        pages: Option<(u64, u64)>,
    },
    /// Not an SQLite database.
    Plain,
    /// It can't be looked at now, and why.
    Unreadable(String),
}

/// One database that a restore would put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewedDatabase {
    /// Path relative to the root.
    pub source: String,
    /// Bytes in the backup.
    pub backup_size: u64,
    /// Rows of each table in the backup, where they were counted.
    pub backup_rows: Option<BTreeMap<String, u64>>,
    /// Bytes of the file now, its `-wal` not counted; `None`: missing.
    pub live_size: Option<u64>,
    /// What is there now.
    pub live: LiveState,
}

/// What a restore would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePreview {
    /// The set.
    pub timestamp: Timestamp,
    /// Sorted by source.
    pub databases: Vec<PreviewedDatabase>,
}

/// One set in a listing.
#[derive(Debug, Clone)]
pub struct BackupInfo {
    /// The set's name.
    pub timestamp: Timestamp,
    /// The metadata's, ISO 8601 in UTC; else the timestamp, as the replaced helper had it.
    pub date: String,
    /// Absolute paths of the database copies (archive-only: of the archive).
    pub files: Vec<PathBuf>,
    /// Bytes of `files`.
    pub size: u64,
    /// Parsed metadata, if there is readable metadata.
    pub metadata: Option<Metadata>,
    /// `automated` when the set says nothing.
    pub kind: Kind,
    /// Whether an archive is there.
    pub compressed: bool,
    /// Only the archive is left.
    pub archive_only: bool,
    /// Every file that the set should have is there with the right size.
    pub complete: bool,
}

/// Verdict on one file of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct FileReport {
    /// File name in the backups folder.
    pub file: String,
    /// Where it goes back to, if known.
    pub source: Option<String>,
    /// Whether it may be trusted.
    pub ok: bool,
    /// Why not.
    pub problems: Vec<(Code, String)>,
}

/// Verdict on a set.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The set.
    pub timestamp: Timestamp,
    /// No problem anywhere.
    pub ok: bool,
    /// One per database copy, then metadata, then the archive.
    pub files: Vec<FileReport>,
    /// Sentences worth reading that are no damage (legacy, cannot check).
    pub warnings: Vec<String>,
}

/// Options of clean.
#[derive(Debug, Clone, Copy)]
pub struct CleanOptions {
    /// What stays.
    pub rule: Rule,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What becomes of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanDecision {
    /// The set.
    pub timestamp: Timestamp,
    /// Its kind; `None` if its record can't be read.
    pub kind: Option<Kind>,
    /// What a restore saved: commits may be in it that are nowhere else.
    pub before_restore: bool,
    /// What happens to it.
    pub fate: Fate,
    /// Bytes that go with it.
    pub frees: u64,
    /// Why.
    pub reason: String,
}

/// What clean did, or with `dry_run` would do.
#[derive(Debug, Clone, Default)]
pub struct CleanOutcome {
    /// Nothing was removed.
    pub dry_run: bool,
    /// Sets that are gone from the list.
    pub removed: u32,
    /// Archives, all that was left of their sets, that are gone.
    pub archives_removed: u32,
    /// Bytes.
    pub freed: u64,
    /// One for each set, newest first, those from the future last.
    pub decisions: Vec<CleanDecision>,
    /// Sentences worth reading.
    pub warnings: Vec<String>,
}

/// What delete did.
#[derive(Debug, Clone)]
pub struct DeleteOutcome {
    /// The set.
    pub timestamp: Timestamp,
    /// Database copies and archive.
    pub files: usize,
    /// Bytes.
    pub freed: u64,
    /// Sentences worth reading.
    pub warnings: Vec<String>,
}

/// Bytes and sets of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Sets.
    pub backups: u32,
    /// Bytes of their copies and archives.
    pub bytes: u64,
}

/// Bytes in the backups folder.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// The folder.
    pub backup_dir: PathBuf,
    /// Bytes of everything in it.
    pub total_size: u64,
    /// Bytes of database copies.
    pub databases_size: u64,
    /// Bytes of archives.
    pub archives_size: u64,
    /// Bytes of sidecars, metadata and the rest.
    pub other_size: u64,
    /// Complete or not, archive-only not counted.
    pub backups: u32,
    /// Archive-only sets.
    pub archives_only: u32,
    /// By kind; archive-only sets are not in it.
    pub by_kind: BTreeMap<&'static str, Share>,
    /// By day (`YYYY-MM-DD`, UTC), oldest first, archive-only sets included.
    pub by_day: BTreeMap<String, Share>,
    /// Free bytes on that file system.
    pub free: u64,
}

/// What recover found and did.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// A restore that had begun was finished; its set.
    pub finished_restore: Option<Timestamp>,
    /// A restore that had begun was undone; its set.
    pub undone_restore: Option<Timestamp>,
    /// State saved before finishing, if anything had changed since.
    pub safety_backup: Option<Timestamp>,
    /// Half-made or half-removed sets that were swept away.
    pub swept: u32,
    /// Sentences worth reading.
    pub warnings: Vec<String>,
}
