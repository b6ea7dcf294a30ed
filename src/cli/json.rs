//! What programs read: one document a run, the API's results under the API's names.

use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::operations::BackupInfo;

/// Version of every document.
const VERSION: u32 = 1;

/// One document: `version`, `command`, `ok`, then the result's own keys.
pub(super) fn document(command: &str, ok: bool, result: Value) -> String {
    let mut all = Map::from_iter([("version".into(), json!(VERSION)), ("command".into(), json!(command)), ("ok".into(), json!(ok))]);
    if let Value::Object(own) = result {
        all.extend(own);
    }
    format!("{}\n", Value::Object(all))
}

/// The document of a verb that failed.
pub(super) fn failure(command: &str, e: &Error) -> String {
    document(command, false, json!({ "success": false, "error": e.message, "code": e.code.as_str() }))
}

/// `durationMs` of what began at `started`.
pub(super) fn milliseconds(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// `BackupInfo`.
pub(super) fn backup_info(b: &BackupInfo) -> Value {
    json!({
        "timestamp": b.timestamp.to_string(), "date": b.date, "files": b.files.len(), "paths": b.files, "size": b.size, "metadata": b.metadata,
        "kind": b.kind, "compressed": b.compressed, "archiveOnly": b.archive_only, "complete": b.complete,
    })
}
