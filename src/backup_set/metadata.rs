//! `backup-metadata.TS.json`: the commit record of a set, and what it says.

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};

/// The newest format this version writes and restores.
pub const FORMAT: u32 = 1;

/// Bytes that a record may have. Whoever reads one reads no more than that.
pub const LIMIT: u64 = 1 << 20;

/// Which retention ring a set belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Daily and other routine backups; what a set counts as when it says nothing.
    #[default]
    Automated,
    /// Made by a person; never removed by a rule.
    Manual,
    /// Made before a dangerous operation.
    Safety,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Automated, Kind::Manual, Kind::Safety];

    /// As in JavaScript and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Automated => "automated",
            Kind::Manual => "manual",
            Kind::Safety => "safety",
        }
    }

    /// The inverse of [`Kind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Kind::ALL.into_iter().find(|k| k.as_str() == text)
    }
}

/// What a check of a database's structure said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Integrity {
    /// Structure is sound.
    Ok,
    /// Structure is damaged.
    Damaged,
    /// Sound as far as could be seen, but something needed for the check is missing here (a custom collation or function).
    CannotCheck,
    /// The set was made with `verify: false`.
    NotChecked,
}

impl Integrity {
    /// As in JavaScript and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Integrity::Ok => "ok",
            Integrity::Damaged => "damaged",
            Integrity::CannotCheck => "cannot-check",
            Integrity::NotChecked => "not-checked",
        }
    }
}

/// What SQLite says of one database of a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SqliteRecord {
    /// Bytes of a page.
    pub page_size: u32,
    /// Pages of the copy.
    pub page_count: u64,
    /// `wal`, `delete`, …: of the source, when it was captured.
    pub journal_mode: String,
    /// `UTF-8`, `UTF-16le`, `UTF-16be`.
    pub encoding: String,
    /// `PRAGMA user_version`.
    pub user_version: i64,
    /// `PRAGMA application_id`.
    pub application_id: i64,
    /// Verdict of `quick_check` on the copy.
    pub integrity: Integrity,
    /// Rows of every ordinary table; empty when not checked.
    #[serde(default)]
    pub tables: BTreeMap<String, u64>,
    /// Keys of a later version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One database of a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatabaseRecord {
    /// File name of the copy, in the backups folder.
    pub file: String,
    /// Path relative to the root, `/` separated: where it goes back to.
    pub source: String,
    /// Bytes of the copy.
    pub size: u64,
    /// SHA-256 of the copy, 64 hex digits.
    pub sha256: String,
    /// `null` for a plain file.
    pub sqlite: Option<SqliteRecord>,
    /// Keys of a later version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl DatabaseRecord {
    /// Whether the copy's structure was found damaged when it was made.
    pub fn is_damaged(&self) -> bool {
        self.extra.get("damaged").and_then(Value::as_bool).unwrap_or(false)
            || self.sqlite.as_ref().is_some_and(|s| s.integrity == Integrity::Damaged)
    }
}

/// The whole record. The spec's keys come first; keys this version does not know are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The set's name.
    pub timestamp: String,
    /// ISO 8601, UTC.
    pub date: String,
    /// Machine.
    #[serde(default)]
    pub hostname: String,
    /// Account.
    #[serde(default)]
    pub user: String,
    /// Short commit, or `N/A`.
    #[serde(default)]
    pub git_commit: String,
    /// Branch, or `N/A`.
    #[serde(default)]
    pub git_branch: String,
    /// Whether an archive belongs to the set.
    #[serde(default)]
    pub compressed: bool,
    /// [`FORMAT`]; absent in legacy sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u32>,
    /// Name and version of the writer; absent in legacy sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Version of the SQLite that read the pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite_version: Option<String>,
    /// Retention ring; absent in legacy sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What a safety set precedes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// A person's note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether every copy was read back and checked before the set was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// The set against which a table lost most of its rows; retention keeps that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrunk_since: Option<String>,
    /// Whether the record has a checksum file of its own (see [`super::seal`]); absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<bool>,
    /// Root of the project, where the backups folder lies outside it; see [`crate::project::Project::mark`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Absent in legacy sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databases: Option<Vec<DatabaseRecord>>,
    /// Keys of a later version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The format of metadata whose shape this version does not understand, if it says that it is newer.
fn newer_format(bytes: &[u8]) -> Option<u64> {
    let format = serde_json::from_slice::<Value>(bytes).ok()?.get("format")?.as_u64()?;
    (format > u64::from(FORMAT)).then_some(format)
}

/// No record of ours is so long, and nobody should have to read it.
pub fn too_big(name: &str) -> Error {
    Error::new(
        Code::BackupDamaged,
        format!("{name} has more than {LIMIT} bytes, so it is no backup metadata; use another backup, or the archive of this one"),
    )
}

impl Metadata {
    /// Parses `bytes` of the file called `name`. What is not JSON of this shape is `BACKUP_DAMAGED`; a newer format
    /// parses as long as its shape still fits (see [`Metadata::require_known_format`]).
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| {
            if let Some(newer) = newer_format(bytes) {
                let message = format!("{name} has metadata format {newer}; this version knows up to {FORMAT}. Update @agentic-qe/backup");
                return Error::new(Code::UnsupportedFormat, message);
            }
            Error::new(
                Code::BackupDamaged,
                format!("{name} is not valid backup metadata ({e}); if the database copies beside it are good, move this file away to treat the set as one without metadata"),
            )
            .caused_by(e)
        })
    }

    /// The bytes of a record, no more than [`LIMIT`] of them.
    pub fn read_bytes(body: &mut dyn Read, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        body.take(LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::new(Code::BackupDamaged, format!("{name} can't be read: {e}")).caused_by(e))?;
        if bytes.len() as u64 <= LIMIT { Ok(bytes) } else { Err(too_big(name)) }
    }

    /// Whether the record says that it has a checksum file.
    pub fn is_sealed(&self) -> bool {
        self.sealed == Some(true)
    }

    /// Pretty JSON with a final newline.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::new(Code::IoError, format!("cannot write backup metadata: {e}")).caused_by(e))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// `UNSUPPORTED_FORMAT` if a newer version wrote this.
    pub fn require_known_format(&self) -> Result<()> {
        match self.format {
            Some(f) if f > FORMAT => Err(Error::new(
                Code::UnsupportedFormat,
                format!(
                    "backup {} has metadata format {f}; this version knows up to {FORMAT}. Update @agentic-qe/backup to restore it",
                    self.timestamp
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Kind, `automated` when the set says nothing.
    pub fn kind(&self) -> Kind {
        self.kind.unwrap_or_default()
    }

    /// Whether this is what a restore saved before it changed anything, or its finishing or undoing.
    pub fn precedes_restore(&self) -> bool {
        let verbs = ["restore ", "finish restore ", "undo restore "];
        self.kind() == Kind::Safety && self.operation.as_deref().is_some_and(|o| verbs.iter().any(|v| o.starts_with(v)))
    }

    /// The databases, none for a legacy set.
    pub fn databases(&self) -> &[DatabaseRecord] {
        self.databases.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = DatabaseRecord> {
        (
            "[ -~äß☃]{1,20}",
            "[a-z/.]{1,20}",
            any::<u32>(),
            "[0-9a-f]{64}",
            proptest::option::of((any::<u32>(), any::<i32>(), proptest::collection::btree_map(".{1,8}", any::<u32>(), 0..4))),
        )
            .prop_map(|(file, source, size, sha256, sqlite)| DatabaseRecord {
                file,
                source,
                size: size.into(),
                sha256,
                sqlite: sqlite.map(|(page_count, user_version, tables)| SqliteRecord {
                    page_size: 4096,
                    page_count: page_count.into(),
                    journal_mode: "wal".into(),
                    encoding: "UTF-8".into(),
                    user_version: user_version.into(),
                    application_id: 0,
                    integrity: Integrity::Ok,
                    tables: tables.into_iter().map(|(k, v)| (k, v.into())).collect(),
                    extra: Map::new(),
                }),
                extra: Map::new(),
            })
    }

    proptest! {
        #[test]
        fn metadata_survives_the_trip_through_json_with_keys_it_does_not_know(databases in proptest::collection::vec(record(), 0..4), branch in ".{0,20}", key in "x_[a-z]{1,8}", value in any::<i32>()) {
            let m = Metadata {
                timestamp: "20250116-120000".into(), date: "2025-01-16T12:00:00Z".into(), hostname: "h".into(), user: "u".into(),
                git_commit: "N/A".into(), git_branch: branch, compressed: true, format: Some(FORMAT), tool: None, sqlite_version: None,
                kind: Some(Kind::Safety), operation: Some("op".into()), label: None, verified: Some(true), shrunk_since: None, sealed: Some(true),
                project: Some("/p".into()), databases: Some(databases), extra: Map::from_iter([(key, Value::from(value))]),
            };
            let json = m.to_json()?;
            prop_assert_eq!(&Metadata::parse(&json, "m")?, &m);
        }

        #[test]
        fn arbitrary_bytes_are_refused_as_damaged_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(e) = Metadata::parse(&bytes, "m") { prop_assert_eq!(e.code, Code::BackupDamaged); }
        }
    }

    #[test]
    fn the_specs_seven_keys_alone_are_a_legacy_set() {
        let text = br#"{"timestamp":"20250116-120000","date":"2025-01-16T12:00:00Z","hostname":"dev-machine","user":"developer","git_commit":"4a58796","git_branch":"main","compressed":true}"#;
        let m = Metadata::parse(text, "m").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((m.kind(), m.databases().len(), m.require_known_format().is_ok()), (Kind::Automated, 0, true));
    }

    #[test]
    fn a_newer_format_parses_but_is_refused_for_restore() {
        let m = Metadata::parse(br#"{"timestamp":"20250116-120000","date":"d","format":2,"later":true}"#, "m")
            .unwrap_or_else(|e| panic!("{e}"));
        assert!(matches!(m.require_known_format(), Err(e) if e.code == Code::UnsupportedFormat));
    }
}
