//! `restore`: asks, restores, says how to undo it.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::table::Table;
use super::text::{self, line, plain};
use super::units::count;
use super::{Answer, json, preview, question, style};
use crate::error::{Code, Error, Result};
use crate::operations::{self, Action, Context, RestoreOptions, RestoreOutcome, RestorePreview};
use crate::project::Project;

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup restore 20250116-120000            shows what will change, and asks
  aqe-backup restore 20250116-120000 --force    without a question, for scripts
  aqe-backup restore 20250116-120000 --database .agentic-qe/memory.db
  aqe-backup restore --archive ~/databases-backup-20250116-120000.tar.gz

`aqe-backup list` shows the backups there are. Programs may go on using the
databases. The state before is kept as a safety backup, and the command that
undoes the restore is printed.";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub databases: super::args::Databases,
    /// YYYYMMDD-HHMMSS
    #[arg(conflicts_with = "archive")]
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
    let what = what(ctx, a)?;
    if !options.force {
        ask(ctx, &what)?;
    }
    let outcome = match what.restore(ctx, &options) {
        // Somebody is there who can say whether to go on.
        Err(e) if e.code == Code::NeedsForce && !options.force => {
            // Takes the progress bar away.
            ctx.monitor.finish();
            let about = format!("{}\n", plain(&e.message));
            if !question::ask("restore", &about, "Go on all the same (--force)?")? {
                return Err(Error::new(Code::Abort, "Not restored; nothing was changed"));
            }
            what.restore(ctx, &RestoreOptions { force: true, ..options })?
        }
        other => other?,
    };
    let undo = undo(ctx, &project, &outcome);
    let document = document(&outcome, json::milliseconds(started));
    Ok(Answer { document, text: text(&outcome, undo.as_deref()), exit: 0 })
}

/// What is put back.
enum What {
    Set(String),
    Archive(PathBuf),
}

fn what(ctx: &Context, a: Arguments) -> Result<What> {
    match (a.timestamp, a.archive) {
        (_, Some(file)) => Ok(What::Archive(file)),
        // A wrong name is told as such, whether or not there is anybody to ask.
        (Some(timestamp), None) => operations::info(ctx, &timestamp).map(|_| What::Set(timestamp)),
        (None, None) => {
            let newest: Vec<String> = operations::list(ctx, true)?.iter().take(3).map(|b| b.timestamp.to_string()).collect();
            let there = if newest.is_empty() { "there are none".to_owned() } else { format!("the newest are {}", newest.join(", ")) };
            let message = format!("restore needs the timestamp of a backup: {there}; `aqe-backup list` shows all. Or --archive FILE");
            Err(Error::new(Code::InvalidArgValue, message))
        }
    }
}

impl What {
    fn restore(&self, ctx: &Context, options: &RestoreOptions) -> Result<RestoreOutcome> {
        match self {
            What::Set(timestamp) => operations::restore(ctx, timestamp, options),
            What::Archive(file) => operations::restore_archive(ctx, file, options),
        }
    }

    fn preview(&self, ctx: &Context) -> Result<RestorePreview> {
        match self {
            What::Set(timestamp) => operations::preview(ctx, timestamp),
            What::Archive(file) => operations::preview_archive(ctx, file),
        }
    }

    fn name(&self) -> String {
        match self {
            What::Set(timestamp) => format!("backup {timestamp}"),
            What::Archive(file) => plain(&file.display().to_string()),
        }
    }
}

fn ask(ctx: &Context, what: &What) -> Result<()> {
    question::require_terminal("restore")?;
    let question = format!("The databases as they are now are saved first.\nRestore {}?", what.name());
    if question::ask("restore", &preview::text(&what.preview(ctx)?), &question)? {
        return Ok(());
    }
    Err(Error::new(Code::Abort, "Not restored; nothing was changed"))
}

/// The command that undoes this, if anything was saved. Raw bytes of a damaged database pass no check.
fn undo(ctx: &Context, project: &Project, o: &RestoreOutcome) -> Option<String> {
    let safety = o.safety_backup?;
    // The restore is done: where this can't be looked at, there is only a hint less.
    let saved = operations::info(ctx, &safety.to_string()).ok()?;
    let raw = saved.metadata.is_some_and(|m| m.databases().iter().any(|d| d.is_damaged()));
    Some(format!("aqe-backup restore {safety}{}{}", if raw { " --no-verify --force" } else { "" }, project.flags()))
}

fn text(o: &RestoreOutcome, undo: Option<&str>) -> String {
    let mut table = Table::new(&["DATABASE", "", ">PAGES WRITTEN"]).indented(2);
    for d in &o.databases {
        let action = match d.action {
            Action::Unchanged => style::faint(d.action.as_str()).to_string(),
            Action::Created | Action::Updated => d.action.as_str().to_owned(),
        };
        table.row(vec![plain(&d.source), action, count(d.pages_written)]);
    }
    let mut text = table.render();
    text::warnings(&mut text, &o.warnings);
    line!(text, "Timestamp: {}", style::strong(o.timestamp));
    if let Some(safety) = o.safety_backup {
        let hint = undo.map_or_else(String::new, |undo| format!(" (undo with: {undo})"));
        line!(text, "Safety backup: {safety}{hint}");
        if o.databases.iter().any(|d| d.action == Action::Created) {
            line!(text, "What was created and had been missing would stay.");
        }
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
