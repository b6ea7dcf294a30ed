//! What compare takes and gives.

use crate::backup_set::timestamp::Timestamp;
use crate::sqlite::excerpts::{Change, RowDifference};
use crate::sqlite::row_pair::Counts;

/// Most rows that can be asked for.
pub const MOST_ROWS: u32 = 10_000;

/// Options of compare.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// Compare this table only, and show rows.
    pub table: Option<String>,
    /// How many rows to show, 1 to [`MOST_ROWS`].
    pub limit: u32,
}

impl Default for CompareOptions {
    fn default() -> Self {
        CompareOptions { table: None, limit: 20 }
    }
}

/// How a database differs from its backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Equal, but for the change counters that SQLite keeps in the header.
    Identical,
    /// Not equal.
    Different,
    /// In the set, not in the project.
    MissingHere,
    /// In the project, not in the set.
    MissingThere,
}

impl Difference {
    /// As in JavaScript.
    pub const fn as_str(self) -> &'static str {
        match self {
            Difference::Identical => "identical",
            Difference::Different => "different",
            Difference::MissingHere => "missing-here",
            Difference::MissingThere => "missing-there",
        }
    }
}

/// One table, then (in the backup) and now (live).
#[derive(Debug, Clone, PartialEq)]
pub struct TableComparison {
    /// Table name.
    pub table: String,
    /// Rows in the backup; `None`: no such table there, or it can't be counted.
    pub backup_rows: Option<u64>,
    /// Rows live; `None`: no such table here, or it can't be counted.
    pub live_rows: Option<u64>,
    /// Rows that came, went and changed; `None`: not compared, and `note` says why.
    pub counts: Option<Counts>,
    /// Columns that live has and the backup not. Rows are compared by the columns that both have.
    pub columns_added: Vec<String>,
    /// Columns that the backup has and live not.
    pub columns_removed: Vec<String>,
    /// Why it was not compared, or how rows were told apart where that is not by a key.
    pub note: Option<String>,
    /// Rows that differ, if they were asked for.
    pub rows: Option<Vec<RowDifference>>,
    /// More rows differ than `rows` has.
    pub rows_truncated: bool,
}

/// A table, index, view or trigger that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaDifference {
    /// `table`, `index`, `view` or `trigger`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Since the backup.
    pub change: Change,
}

/// One database of a comparison.
#[derive(Debug, Clone)]
pub struct DatabaseComparison {
    /// Path relative to the root.
    pub source: String,
    /// The verdict, by pages.
    pub difference: Difference,
    /// Pages that differ, over the longer of the two.
    pub pages_different: u64,
    /// Pages of the longer of the two.
    pub pages_total: u64,
    /// Whether all rows, the schema and the versions are the same, whatever the pages; `None`: not everything was compared.
    pub same_content: Option<bool>,
    /// Tables that differ, or may; with a table asked for, that one.
    pub tables: Vec<TableComparison>,
    /// Schema objects that differ.
    pub schema: Vec<SchemaDifference>,
    /// What else is different, or worth knowing.
    pub notes: Vec<String>,
}

/// A set compared with the project.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The set.
    pub timestamp: Timestamp,
    /// Nothing differs and nothing is missing.
    pub identical: bool,
    /// Sorted by source.
    pub databases: Vec<DatabaseComparison>,
    /// Sentences worth reading, for instance that the set's archive was compared, its files being damaged.
    pub warnings: Vec<String>,
}
