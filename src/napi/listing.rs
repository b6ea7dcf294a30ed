//! A set in a listing, as JSON: there may be many, and the engine's own parser makes objects of them. Their type is
//! `BackupInfo` in header.d.ts.

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::values::{bytes, paths, plain};
use crate::backup_set::metadata::Metadata;
use crate::error::{Code, Error};
use crate::operations::BackupInfo;

/// Key that makes no property when it is set, so that it is left out.
const PROTO: &str = "__proto__";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    timestamp: String,
    date: &'a str,
    files: usize,
    paths: Vec<String>,
    size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Record<'a>>,
    kind: &'static str,
    compressed: bool,
    archive_only: bool,
    complete: bool,
}

/// What `JSON.parse` makes a `BackupInfo` of.
pub fn row(i: &BackupInfo) -> Result<String, Error> {
    let row = Row {
        timestamp: i.timestamp.to_string(),
        date: &i.date,
        files: i.files.len(),
        paths: paths(&i.files),
        size: bytes(i.size),
        metadata: i.metadata.as_ref().map(Record),
        kind: i.kind.as_str(),
        compressed: i.compressed,
        archive_only: i.archive_only,
        complete: i.complete,
    };
    serde_json::to_string(&row).map_err(|e| Error::new(Code::IoError, format!("backup {} can't be listed: {e}", i.timestamp)).caused_by(e))
}

/// The record of a set, but for keys `__proto__`.
struct Record<'a>(&'a Metadata);

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if names_proto(self.0) {
            // Seldom: making it anew takes longer than all the rest.
            return plain(serde_json::to_value(self.0).map_err(S::Error::custom)?).serialize(serializer);
        }
        self.0.serialize(serializer)
    }
}

fn names_proto(metadata: &Metadata) -> bool {
    let in_database = metadata.databases().iter().any(|d| {
        let in_sqlite = d.sqlite.as_ref().is_some_and(|s| in_map(&s.extra) || s.tables.contains_key(PROTO));
        in_sqlite || in_map(&d.extra)
    });
    in_database || in_map(&metadata.extra)
}

fn in_map(map: &Map<String, Value>) -> bool {
    map.iter().any(|(key, value)| key == PROTO || in_value(value))
}

fn in_value(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(in_value),
        Value::Object(map) => in_map(map),
        _ => false,
    }
}
