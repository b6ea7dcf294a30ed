//! `restore`: asks, restores, says how to undo it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::table::Table;
use super::text::{self, line};
use super::units::count;
use super::{Answer, json, preview, question, style};
use crate::error::{Code, Error, Result};
use crate::operations::{self, Action, Context, RestoreOptions, RestoreOutcome, RestorePreview};
use crate::project::Project;

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup restore 20250116-120000                  shows what will change and asks
  aqe-backup restore 20250116-120000 --force          without a question, for scripts
  aqe-backup restore --archive ~/downloads/databases-backup-20250116-120000.tar.gz

Programs may go on using the databases. The state before is kept as a safety backup;
its timestamp is printed, and restoring that one undoes this.";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// YYYYMMDD-HHMMSS
    #[arg(required_unless_present = "archive", conflicts_with = "archive")]
    timestamp: Option<String>,
    /// Restore from an archive that lies anywhere
    #[arg(long, value_name = "FILE")]
    archive: Option<PathBuf>,
    /// Check the backup first (the default)
    #[arg(long, overrides_with_all = ["verify", "no_verify"])]
    verify: bool,
    /// Don't check (not recommended)
    #[arg(long, overrides_with_all = ["verify", "no_verify"])]
    no_verify: bool,
    /// Don't ask, and go on where the restore can't be undone or is suspect
    #[arg(long, overrides_with = "force")]
    force: bool,
}

pub(super) fn run(ctx: &Context, a: Arguments) -> Result<Answer> {
    let started = Instant::now();
    let options = RestoreOptions { verify: a.verify || !a.no_verify, force: a.force };
    let project = Project::open(ctx.root.as_deref(), ctx.backup_dir.as_deref())?;
    let what = a.archive.as_ref().map_or_else(|| format!("backup {}", a.timestamp.as_deref().unwrap_or("")), |f| f.display().to_string());
    if !a.force {
        // A wrong name is told as such, whether or not there is anybody to ask.
        if let Some(timestamp) = &a.timestamp {
            operations::info(ctx, timestamp)?;
        }
        question::require_terminal("restore")?;
        let question = format!("The databases as they are now are saved first.\nRestore {what}?");
        if !question::ask("restore", &preview::text(&look(ctx, &a)?), &question)? {
            return Err(Error::new(Code::Abort, "Not restored; nothing was changed"));
        }
    }
    let outcome = match (&a.archive, &a.timestamp) {
        (Some(file), _) => operations::restore_archive(ctx, Path::new(file), &options)?,
        (None, timestamp) => operations::restore(ctx, timestamp.as_deref().unwrap_or(""), &options)?,
    };
    let document = document(&outcome, json::milliseconds(started));
    Ok(Answer { document, text: text(&outcome, &flags(ctx, &project)), exit: 0 })
}

fn look(ctx: &Context, a: &Arguments) -> Result<RestorePreview> {
    match (&a.archive, &a.timestamp) {
        (Some(file), _) => operations::preview_archive(ctx, file),
        (None, timestamp) => operations::preview(ctx, timestamp.as_deref().unwrap_or("")),
    }
}

/// The flags with which the same project is found from any folder.
fn flags(ctx: &Context, project: &Project) -> String {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
    let backup_dir = ctx.backup_dir.as_ref().map(|_| format!(" --backup-dir {}", quoted(&project.backup_dir)));
    format!(" --root {}{}", quoted(&project.root), backup_dir.unwrap_or_default())
}

fn text(o: &RestoreOutcome, again: &str) -> String {
    let mut table = Table::new(&["DATABASE", "", ">PAGES WRITTEN"]).indented(2);
    for d in &o.databases {
        let action = match d.action {
            Action::Unchanged => style::faint(d.action.as_str()).to_string(),
            Action::Created | Action::Updated => d.action.as_str().to_owned(),
        };
        table.row(vec![d.source.clone(), action, count(d.pages_written)]);
    }
    let mut text = table.render();
    text::warnings(&mut text, &o.warnings);
    line!(text, "Timestamp: {}", style::strong(o.timestamp));
    if let Some(safety) = o.safety_backup {
        line!(text, "Safety backup: {safety} (undo with: aqe-backup restore {safety}{again})");
    }
    line!(text, "{}", style::good("Restore complete!"));
    text
}

pub(super) fn document(o: &RestoreOutcome, duration: u64) -> Value {
    json!({
        "success": true,
        "timestamp": o.timestamp.to_string(),
        "filesRestored": o.databases.len(),
        "safetyBackup": o.safety_backup.map(|t| t.to_string()),
        "databases": o.databases.iter().map(|d| json!({
            "source": d.source, "action": d.action.as_str(), "pagesWritten": d.pages_written,
        })).collect::<Vec<_>>(),
        "warnings": o.warnings,
        "durationMs": duration,
    })
}
