//! A table on both sides, and how many of its rows differ.

use super::excerpts::Change;
use super::shapes::Shape;
use super::side::Side;

/// How many rows came, went and changed since the backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Live has them, the backup not.
    pub added: u64,
    /// The backup has them, live not.
    pub removed: u64,
    /// Both have them, with other values.
    pub changed: u64,
}

impl Counts {
    /// All of them.
    pub fn total(self) -> u64 {
        self.added + self.removed + self.changed
    }

    /// Rows that went and came, a changed one being one of each.
    pub(super) fn moves(self) -> u64 {
        self.added + self.removed + 2 * self.changed
    }

    /// Counts a row.
    pub(super) fn add(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Added) => self.added += 1,
            Some(Change::Removed) => self.removed += 1,
            Some(Change::Changed) => self.changed += 1,
            None => {}
        }
    }
}

/// A table of the backup and the live one of its name; one of them may be missing.
pub struct Pair<'s, 'c> {
    /// The backup.
    pub then: &'s Side<'c>,
    /// Its table.
    pub before: Option<&'s Shape>,
    /// The live database.
    pub now: &'s Side<'c>,
    /// Its table.
    pub after: Option<&'s Shape>,
    /// Rows of both, as counted.
    pub rows: [u64; 2],
}
