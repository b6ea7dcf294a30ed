//! Databases held still, ready to be copied into a set.

use std::path::Path;

use crate::backup_set::metadata::DatabaseRecord;
use crate::error::Result;
use crate::project::Database;
use crate::sqlite::connection::{self, Facts, Live};
use crate::sqlite::raw_file::FileState;

/// Key of a record that is not a database but the WAL of a damaged one.
pub(super) const SIDE_FILE_OF: &str = "side_file_of";

/// Whether a record is of such a WAL.
pub(super) fn is_side_file(record: &DatabaseRecord) -> bool {
    record.extra.contains_key(SIDE_FILE_OF)
}

/// Whether `record` can be of the WAL of the database that `owner` is of.
pub(super) fn is_side_file_of(record: &DatabaseRecord, owner: &DatabaseRecord) -> bool {
    let named = record.extra.get(SIDE_FILE_OF).and_then(|name| name.as_str());
    named == Some(owner.source.as_str()) && record.source == format!("{}-wal", owner.source)
}

/// Key of a record whose database lies behind a symbolic link: where.
pub(super) const LINKED_TO: &str = "linked_to";

/// A database ready to be copied.
pub(super) struct Source<'a> {
    pub database: &'a Database,
    pub state: State<'a>,
    /// For the `-wal` of a database too damaged to be read: the database. It is kept for experts and never put back.
    pub side_file_of: Option<&'a str>,
}

/// How its bytes are had.
pub(super) enum State<'a> {
    /// Through SQLite, in a pinned snapshot or (`locked`) under our write lock.
    Pages { live: &'a mut Live, facts: &'a mut Facts, locked: bool },
    /// As they stand in the file: no SQLite database, or one too damaged to be read as one (then why).
    Raw { damaged: Option<String> },
}

/// The WAL of a database that can't be read as one: it may hold commits that somebody can still dig out.
pub(super) struct SideFile {
    database: Database,
    owner: String,
}

/// The WALs, not empty ones, of `damaged` databases.
pub(super) fn side_files<'a>(damaged: impl Iterator<Item = &'a Database>) -> Result<Vec<SideFile>> {
    let mut found = Vec::new();
    for database in damaged {
        let path = connection::side_file(&database.path, "-wal");
        if FileState::of(&path)?.is_some_and(|s| s.size > 0) {
            found
                .push(SideFile { database: Database { source: format!("{}-wal", database.source), path }, owner: database.source.clone() });
        }
    }
    Ok(found)
}

impl SideFile {
    /// To be copied as it stands.
    pub fn source(&self) -> Source<'_> {
        Source { database: &self.database, state: State::Raw { damaged: None }, side_file_of: Some(&self.owner) }
    }
}

/// Bytes that a database will take, roughly, from the sizes of its files alone.
pub(super) fn estimate(database: &Database) -> Result<u64> {
    let size = |path: &Path| Ok::<_, crate::error::Error>(FileState::of(path)?.map_or(0, |s| s.size));
    Ok(size(&database.path)? + size(&connection::side_file(&database.path, "-wal"))?)
}

impl Source<'_> {
    /// Bytes it will take.
    pub fn size_hint(&self) -> Result<u64> {
        match &self.state {
            State::Pages { facts, .. } => Ok(facts.size()),
            State::Raw { .. } => Ok(FileState::of(&self.database.path)?.map_or(0, |s| s.size)),
        }
    }
}
