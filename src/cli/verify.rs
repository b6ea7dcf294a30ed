//! `verify`: one set or all of them, file by file.

use clap::Args;
use console::StyledObject;
use serde_json::{Value, json};

use super::text::{self, line, plain};
use super::{Answer, exit_code, style};
use crate::error::{Code, Error, Result};
use crate::operations::{self, Context, FileReport, Inspection};

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup verify 20250116-120000   one backup
  aqe-backup verify                   all of them; exit code 4 if any is not sound";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// YYYYMMDD-HHMMSS; without it, every backup is checked
    timestamp: Option<String>,
}

pub(super) fn run(ctx: &Context, a: Arguments) -> Result<Answer> {
    let inspections = match a.timestamp {
        Some(t) => vec![operations::inspect(ctx, &t)?],
        None => operations::inspect_all(ctx)?,
    };
    if inspections.is_empty() {
        return Err(Error::new(Code::BackupNotFound, "there are no backups to verify; make one with `aqe-backup create`"));
    }
    let exit = if inspections.iter().all(|i| i.ok) { 0 } else { exit_code(Code::BackupDamaged) };
    Ok(Answer { document: document(&inspections), text: text(&inspections), exit })
}

fn text(inspections: &[Inspection]) -> String {
    let mut text = String::new();
    for i in inspections {
        line!(text, "Backup {}: {}", i.timestamp, if i.ok { style::good("ok") } else { style::bad("NOT OK") });
        for f in &i.files {
            line!(text, "  {} {}", label(f), plain(&f.file));
            for (code, message) in &f.problems {
                line!(text, "          {} ({code})", plain(message));
            }
        }
        text::warnings(&mut text, &i.warnings);
    }
    if inspections.iter().all(|i| i.ok) {
        line!(text, "{}", style::good("All files verified"));
    } else {
        line!(text, "{}", style::bad("Verification failed"));
    }
    text
}

/// A file without a checksum is not known to be damaged, and not known to be good.
fn label(f: &FileReport) -> StyledObject<&'static str> {
    if f.ok {
        style::good("ok      ")
    } else if f.problems.iter().all(|(code, _)| *code == Code::NeedsForce) {
        style::doubtful("UNPROVEN")
    } else {
        style::bad("DAMAGED ")
    }
}

fn document(inspections: &[Inspection]) -> Value {
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
