//! What a check of health takes and gives.

use std::path::PathBuf;
use std::time::Duration;

use crate::backup_set::metadata::Kind;
use crate::backup_set::timestamp::Timestamp;

/// Options of the check.
#[derive(Clone, Debug)]
pub struct HealthOptions {
    /// How old the newest good backup of a database may be.
    pub max_age: Duration,
    /// How many bytes the backups folder may take; `None`: as many as it likes.
    pub max_size: Option<u64>,
    /// Opens no database and reads no backup: looks at names, sizes and records only.
    pub quick: bool,
}

impl Default for HealthOptions {
    fn default() -> Self {
        HealthOptions { max_age: Duration::from_secs(26 * 3600), max_size: None, quick: false }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Data is lost or may be lost: somebody has to act.
    Critical,
    /// Worth a look.
    Warning,
}

impl Severity {
    /// Both.
    pub const ALL: [Severity; 2] = [Severity::Critical, Severity::Warning];

    /// As in JavaScript.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
        }
    }
}

/// What was found. The names are part of the contract and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingCode {
    /// A live database is damaged.
    SourceDamaged,
    /// A backup is damaged or incomplete.
    BackupDamaged,
    /// A backup is a marked copy of a database that was damaged already.
    SourceWasDamaged,
    /// A restore died half-way.
    RestorePending,
    /// A process writes to a database that has no name any more.
    NamelessDatabase,
    /// A process writes to a `-wal` or `-shm` that has no name any more.
    NamelessWal,
    /// A process uses another `-wal` or `-shm` than everybody else.
    ForeignWal,
    /// Two copies of SQLite use one database in one process.
    TwoSqliteLibraries,
    /// A database has no verified backup.
    NoVerifiedBackup,
    /// The newest verified backup of a database is too old.
    BackupTooOld,
    /// The next backup has no room.
    NoSpace,
    /// The backups folder has grown beyond its limit.
    StorageFull,
    /// The backups folder has reached 80 % of its limit.
    StorageNearlyFull,
    /// The newest backup has a database that is not there any more.
    DatabaseMissing,
    /// A live table has lost most of its rows since the newest verified backup.
    RowsLost,
    /// In the newest backup a table had lost most of its rows.
    BackupShrunk,
    /// A database could not be checked.
    DatabaseNotChecked,
    /// A backup could not be checked.
    BackupNotChecked,
    /// A backup has no checksum.
    BackupWithoutChecksum,
    /// A backup is dated in the future.
    BackupInFuture,
    /// A dead run left something.
    Leftovers,
    /// A process that has a database open has two SQLite libraries loaded.
    SqliteLoadedTwice,
    /// A process uses a database in WAL mode with a SQLite that has the WAL-reset bug.
    OldSqlite,
}

impl FindingCode {
    /// Something could not be looked at.
    pub fn is_about_nothing_known(self) -> bool {
        matches!(self, FindingCode::DatabaseNotChecked | FindingCode::BackupNotChecked)
    }

    /// As in JavaScript, JSON and Prometheus.
    pub const fn as_str(self) -> &'static str {
        match self {
            FindingCode::SourceDamaged => "SOURCE_DAMAGED",
            FindingCode::BackupDamaged => "BACKUP_DAMAGED",
            FindingCode::SourceWasDamaged => "SOURCE_WAS_DAMAGED",
            FindingCode::RestorePending => "RESTORE_PENDING",
            FindingCode::NamelessDatabase => "NAMELESS_DATABASE",
            FindingCode::NamelessWal => "NAMELESS_WAL",
            FindingCode::ForeignWal => "FOREIGN_WAL",
            FindingCode::TwoSqliteLibraries => "TWO_SQLITE_LIBRARIES",
            FindingCode::NoVerifiedBackup => "NO_VERIFIED_BACKUP",
            FindingCode::BackupTooOld => "BACKUP_TOO_OLD",
            FindingCode::NoSpace => "NO_SPACE",
            FindingCode::StorageFull => "STORAGE_FULL",
            FindingCode::StorageNearlyFull => "STORAGE_NEARLY_FULL",
            FindingCode::DatabaseMissing => "DATABASE_MISSING",
            FindingCode::RowsLost => "ROWS_LOST",
            FindingCode::BackupShrunk => "BACKUP_SHRUNK",
            FindingCode::DatabaseNotChecked => "DATABASE_NOT_CHECKED",
            FindingCode::BackupNotChecked => "BACKUP_NOT_CHECKED",
            FindingCode::BackupWithoutChecksum => "BACKUP_WITHOUT_CHECKSUM",
            FindingCode::BackupInFuture => "BACKUP_IN_FUTURE",
            FindingCode::Leftovers => "LEFTOVERS",
            FindingCode::SqliteLoadedTwice => "SQLITE_LOADED_TWICE",
            FindingCode::OldSqlite => "OLD_SQLITE",
        }
    }

    /// All of them.
    pub const ALL: [FindingCode; 23] = [
        FindingCode::SourceDamaged,
        FindingCode::BackupDamaged,
        FindingCode::SourceWasDamaged,
        FindingCode::RestorePending,
        FindingCode::NamelessDatabase,
        FindingCode::NamelessWal,
        FindingCode::ForeignWal,
        FindingCode::TwoSqliteLibraries,
        FindingCode::NoVerifiedBackup,
        FindingCode::BackupTooOld,
        FindingCode::NoSpace,
        FindingCode::StorageFull,
        FindingCode::StorageNearlyFull,
        FindingCode::DatabaseMissing,
        FindingCode::RowsLost,
        FindingCode::BackupShrunk,
        FindingCode::DatabaseNotChecked,
        FindingCode::BackupNotChecked,
        FindingCode::BackupWithoutChecksum,
        FindingCode::BackupInFuture,
        FindingCode::Leftovers,
        FindingCode::SqliteLoadedTwice,
        FindingCode::OldSqlite,
    ];

    /// How bad it can be: only a marked copy of a damaged database is one or the other.
    pub const fn severities(self) -> &'static [Severity] {
        match (self, self.severity()) {
            (FindingCode::SourceWasDamaged, _) => &Severity::ALL,
            (_, Severity::Critical) => &[Severity::Critical],
            (_, Severity::Warning) => &[Severity::Warning],
        }
    }

    /// How bad it is. A marked copy of a damaged database is so while it is the newest.
    const fn severity(self) -> Severity {
        match self {
            FindingCode::SourceDamaged
            | FindingCode::BackupDamaged
            | FindingCode::SourceWasDamaged
            | FindingCode::RestorePending
            | FindingCode::NamelessDatabase
            | FindingCode::NamelessWal
            | FindingCode::ForeignWal
            | FindingCode::TwoSqliteLibraries
            | FindingCode::NoVerifiedBackup
            | FindingCode::BackupTooOld
            | FindingCode::NoSpace
            | FindingCode::StorageFull => Severity::Critical,
            FindingCode::StorageNearlyFull
            | FindingCode::DatabaseMissing
            | FindingCode::RowsLost
            | FindingCode::BackupShrunk
            | FindingCode::DatabaseNotChecked
            | FindingCode::BackupNotChecked
            | FindingCode::BackupWithoutChecksum
            | FindingCode::BackupInFuture
            | FindingCode::Leftovers
            | FindingCode::SqliteLoadedTwice
            | FindingCode::OldSqlite => Severity::Warning,
        }
    }

    /// Whether data was found damaged.
    const fn is_damage(self) -> bool {
        matches!(self, FindingCode::SourceDamaged | FindingCode::BackupDamaged | FindingCode::SourceWasDamaged)
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// For programs.
    pub code: FindingCode,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence that names the thing.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The database, backup, process or folder it is about.
    pub subject: String,
}

impl Finding {
    pub(super) fn new(code: FindingCode, subject: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { code, severity: code.severity(), message: message.into(), remedy: remedy.into(), subject: subject.into() }
    }

    pub(super) fn critical(self) -> Self {
        Finding { severity: Severity::Critical, ..self }
    }

    pub(super) fn only_warning(self) -> Self {
        Finding { severity: Severity::Warning, ..self }
    }

    /// Whether it speaks of damage that is not history.
    pub fn is_damage(&self) -> bool {
        self.code.is_damage() && self.severity == Severity::Critical
    }
}

/// A database and its newest backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseHealth {
    /// Path relative to the root.
    pub source: String,
    /// Bytes of the file and its `-wal`.
    pub size: u64,
    /// Its newest verified, undamaged backup, not counting those dated in the future.
    pub newest_backup: Option<Timestamp>,
}

impl DatabaseHealth {
    /// Seconds from its newest good backup to `now`.
    pub fn age(&self, now: Timestamp) -> Option<u64> {
        self.newest_backup.map(|t| u64::try_from(t.seconds_until(now)).unwrap_or(0))
    }
}

/// The processes that were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessCount {
    /// How many have a database of the project open.
    pub using: u32,
    /// How many were looked at.
    pub examined: u32,
    /// How many could not be, because they belong to others.
    pub unreadable: u32,
}

/// How the project and its backups are.
#[derive(Debug, Clone)]
pub struct Health {
    /// The project.
    pub root: PathBuf,
    /// Its backups folder.
    pub backup_dir: PathBuf,
    /// When it was so.
    pub checked_at: Timestamp,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// Sorted by source.
    pub databases: Vec<DatabaseHealth>,
    /// Sets, archive-only ones not counted.
    pub backups: u32,
    /// The same by kind.
    pub kinds: [(Kind, u32); 3],
    /// Sets of which only the archive is left.
    pub archives_only: u32,
    /// Sets that are damaged, marked copies of damaged databases included.
    pub damaged: u32,
    /// Bytes of database copies in the backups folder.
    pub databases_size: u64,
    /// Bytes of archives.
    pub archives_size: u64,
    /// Bytes of everything in the backups folder.
    pub total_size: u64,
    /// What it may take.
    pub max_size: Option<u64>,
    /// Free bytes where the backups are.
    pub free: u64,
    /// What has to be free for the next backup.
    pub next_backup: u64,
    /// `None`: this system does not tell who has which file open.
    pub processes: Option<ProcessCount>,
    /// What was not looked at, and other sentences that are no findings.
    pub notes: Vec<String>,
}

impl Health {
    /// No finding is critical.
    pub fn healthy(&self) -> bool {
        self.findings.iter().all(|f| f.severity != Severity::Critical)
    }

    /// Whether a database or a backup is damaged.
    pub fn has_damage(&self) -> bool {
        self.findings.iter().any(Finding::is_damage)
    }

    /// The newest verified backup of any database.
    pub fn newest_backup(&self) -> Option<Timestamp> {
        self.databases.iter().filter_map(|d| d.newest_backup).max()
    }
}
