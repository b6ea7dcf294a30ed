//! What retention needs to know of a set, and how it is seen from the set.

use super::catalog::SetEntry;
use crate::backup_set::metadata::{Kind, Metadata};
use crate::backup_set::timestamp::Timestamp;

/// A set, as far as retention goes by it.
#[derive(Debug, Clone, PartialEq)]
pub struct SetFacts {
    /// Its name and age.
    pub timestamp: Timestamp,
    /// Its ring; `None`: it has a record that can't be read or believed, so it may be of any kind.
    pub kind: Option<Kind>,
    /// Whether it has an archive.
    pub archive: bool,
    /// Whether the archive is all there is.
    pub archive_only: bool,
    /// Whose databases they are, where it says so: several projects may have one backups folder.
    pub project: Option<String>,
    /// Its databases.
    pub sources: Vec<String>,
    /// It was read back and checked, is complete and not damaged.
    pub verified: bool,
    /// It says itself that a database in it is damaged, or it is incomplete.
    pub damaged: bool,
    /// Somebody living may still need it.
    pub in_use: bool,
    /// The earlier set against which one of its tables had shrunk.
    pub shrunk_since: Option<Timestamp>,
    /// What a restore saved: commits may be in it that are nowhere else.
    pub before_restore: bool,
}

impl From<&SetEntry> for SetFacts {
    fn from(set: &SetEntry) -> Self {
        let metadata = set.metadata();
        let damaged = !set.complete() || metadata.is_some_and(|m| m.databases().iter().any(|d| d.is_damaged()));
        SetFacts {
            timestamp: set.timestamp,
            // A newer version may mean more by it than this one knows.
            kind: (!matches!(set.metadata, Some(Err(_)))
                && !set.seal.is_broken()
                && metadata.is_none_or(|m| m.require_known_format().is_ok()))
            .then(|| set.kind()),
            archive: set.archive.is_some(),
            archive_only: set.archive_only(),
            project: metadata.and_then(|m| m.project.clone()),
            sources: set.sources(),
            // One that this version can't restore protects nothing.
            verified: !damaged && metadata.is_some_and(|m| m.verified == Some(true) && m.require_known_format().is_ok()),
            damaged,
            in_use: false,
            shrunk_since: metadata.and_then(|m| m.shrunk_since.as_deref()).and_then(|t| t.parse().ok()),
            before_restore: metadata.is_some_and(Metadata::precedes_restore),
        }
    }
}
