//! What programs read: the API's results under the API's names.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::operations::{BackupInfo, CreateOutcome, Inspection, Recovery, RestoreOutcome};

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

fn milliseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn create(o: &CreateOutcome, elapsed: Duration) -> Value {
    let mut result = json!({
        "success": o.failure.is_none(),
        "timestamp": o.timestamp.to_string(),
        "files": o.databases.iter().map(|d| &d.file).collect::<Vec<_>>(),
        "totalSize": o.databases.iter().map(|d| d.size).sum::<u64>(),
        "compressed": o.compressed,
        "kind": o.kind,
        "archive": o.archive,
        "databases": o.databases.iter().map(|d| json!({
            "source": d.source, "file": d.file, "size": d.size, "sha256": d.sha256, "integrity": d.integrity,
        })).collect::<Vec<_>>(),
        "removed": o.removed,
        "warnings": o.warnings,
        "durationMs": milliseconds(elapsed),
    });
    if let Some(e) = &o.failure {
        result["error"] = json!(e.message);
        result["code"] = json!(e.code.as_str());
    }
    result
}

pub(super) fn list(backups: &[BackupInfo]) -> Value {
    let each = |b: &BackupInfo| {
        json!({
            "timestamp": b.timestamp.to_string(), "date": b.date, "files": b.files.len(), "paths": b.files, "size": b.size, "metadata": b.metadata,
            "kind": b.kind, "compressed": b.compressed, "archiveOnly": b.archive_only, "complete": b.complete,
        })
    };
    json!({ "backups": backups.iter().map(each).collect::<Vec<_>>() })
}

pub(super) fn verify(inspections: &[Inspection]) -> Value {
    let each = |i: &Inspection| {
        json!({
            "timestamp": i.timestamp.to_string(),
            "ok": i.ok,
            "files": i.files.iter().map(|f| json!({
                "file": f.file, "source": f.source, "ok": f.ok,
                "problems": f.problems.iter().map(|(code, message)| json!({ "code": code.as_str(), "message": message })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "warnings": i.warnings,
        })
    };
    json!({ "backups": inspections.iter().map(each).collect::<Vec<_>>() })
}

pub(super) fn restore(o: &RestoreOutcome, elapsed: Duration) -> Value {
    json!({
        "success": true,
        "timestamp": o.timestamp.to_string(),
        "filesRestored": o.databases.len(),
        "safetyBackup": o.safety_backup.map(|t| t.to_string()),
        "databases": o.databases.iter().map(|d| json!({
            "source": d.source, "action": d.action.as_str(), "pagesWritten": d.pages_written,
        })).collect::<Vec<_>>(),
        "warnings": o.warnings,
        "durationMs": milliseconds(elapsed),
    })
}

pub(super) fn recover(r: &Recovery) -> Value {
    json!({
        "finishedRestore": r.finished_restore.map(|t| t.to_string()),
        "undoneRestore": r.undone_restore.map(|t| t.to_string()),
        "safetyBackup": r.safety_backup.map(|t| t.to_string()),
        "swept": r.swept,
        "warnings": r.warnings,
    })
}
