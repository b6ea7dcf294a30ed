//! How a set differs from the project.

use napi::bindgen_prelude::{Either, Null};
use napi_derive::napi;
use serde_json::Value;

use crate::napi::values::{bytes, nullable, plain};
use crate::operations as op;

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
