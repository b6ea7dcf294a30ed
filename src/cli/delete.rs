//! `delete`: removes one set for good, whatever its kind.

use clap::Args;
use serde_json::{Value, json};

use super::text::{self, line};
use super::units::{ago, bytes, now};
use super::{Answer, question};
use crate::error::{Code, Error, Result};
use crate::operations::{self, BackupInfo, Context, DeleteOutcome};

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup delete 20250116-120000             asks first
  aqe-backup delete 20250116-120000 --dry-run   shows what would go
  aqe-backup delete 20250116-120000 --force     without a question, for scripts

The newest verified backup of a database is not deleted unless --even-newest says so.";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// YYYYMMDD-HHMMSS
    timestamp: String,
    /// Don't ask
    #[arg(long, overrides_with = "force")]
    force: bool,
    /// Also if it is the newest verified backup of a database
    #[arg(long)]
    even_newest: bool,
    /// Delete nothing, say what would go
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(ctx: &Context, a: &Arguments) -> Result<Answer> {
    let planned = operations::delete(ctx, &a.timestamp, a.even_newest, true)?;
    if !a.dry_run && !a.force && !confirmed(ctx, &planned)? {
        return Err(Error::new(Code::Abort, "Not deleted; nothing was changed"));
    }
    let outcome = if a.dry_run { planned } else { operations::delete(ctx, &a.timestamp, a.even_newest, false)? };
    Ok(Answer { document: document(&outcome, a.dry_run), text: text(&outcome, a.dry_run), exit: 0 })
}

fn confirmed(ctx: &Context, planned: &DeleteOutcome) -> Result<bool> {
    let backups = operations::list(ctx, true)?;
    let about = backups.iter().find(|b| b.timestamp == planned.timestamp).map(describe).unwrap_or_default();
    let question = format!("Delete backup {} for good? It has {}.", planned.timestamp, bytes(planned.freed));
    question::ask("delete", &about, &question)
}

fn describe(b: &BackupInfo) -> String {
    let note = b.metadata.as_ref().and_then(|m| m.label.as_deref().or(m.operation.as_deref()));
    let note = note.map(|n| format!(", {n:?}")).unwrap_or_default();
    format!("  {} backup, made {}, {} file(s){note}\n", b.kind.as_str(), ago(b.timestamp, now()), b.files.len())
}

fn text(o: &DeleteOutcome, dry_run: bool) -> String {
    let mut text = String::new();
    text::warnings(&mut text, &o.warnings);
    let done = if dry_run { "Dry run: would have deleted" } else { "Deleted" };
    line!(text, "{done} backup {}: {} file(s), {}", o.timestamp, o.files, bytes(o.freed));
    text
}

fn document(o: &DeleteOutcome, dry_run: bool) -> Value {
    json!({ "timestamp": o.timestamp.to_string(), "dryRun": dry_run, "files": o.files, "freedBytes": o.freed, "warnings": o.warnings })
}
