//! What the backups take.

use napi_derive::napi;

use crate::napi::values::{bytes, path};
use crate::operations as op;

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
