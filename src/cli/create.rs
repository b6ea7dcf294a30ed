//! `create`: backs up, tells people, programs and the workflow it runs in.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::table::Table;
use super::text::{self, line, plain};
use super::units::bytes;
use super::{Answer, exit_code, json, style};
use crate::backup_set::metadata::Kind;
use crate::error::{IoContext, Result};
use crate::operations::{self, Context, CreateOptions, CreateOutcome};

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup create                                     what is here
  aqe-backup create --root my-project --no-compress     without an archive
  aqe-backup create --kind manual --label 'before 2.0'  never cleaned up

Prints the backup's timestamp; in a GitHub workflow it also sets
BACKUP_TIMESTAMP and the output `timestamp`.";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub databases: super::args::Databases,
    /// Also write one .tar.gz of the whole set (the default)
    #[arg(long, overrides_with_all = ["compress", "no_compress"])]
    compress: bool,
    /// No archive
    #[arg(long, overrides_with_all = ["compress", "no_compress"])]
    no_compress: bool,
    /// Read back and check what was written (the default)
    #[arg(long, overrides_with_all = ["verify", "no_verify"])]
    verify: bool,
    /// Don't check (not recommended); nothing is cleaned up then
    #[arg(long, overrides_with_all = ["verify", "no_verify"])]
    no_verify: bool,
    /// What the backup is for: automated, manual (never removed by a rule) or safety
    #[arg(long, value_name = "KIND", default_value = "automated", value_parser = kind)]
    kind: Kind,
    /// A note
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// How many backups of each kind to keep; `all` removes none
    #[arg(long, value_name = "N", default_value = "10", allow_negative_numbers = true, value_parser = keep)]
    keep: Keep,
}

/// What is cleaned up afterwards.
#[derive(Debug, Clone, Copy)]
enum Keep {
    All,
    Newest(u32),
}

fn keep(text: &str) -> Result<Keep, String> {
    if text == "all" { Ok(Keep::All) } else { super::units::keep(text).map(Keep::Newest).map_err(|e| format!("{e}, or all")) }
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| "use automated, manual or safety".to_owned())
}

pub(super) fn run(ctx: &Context, a: Arguments) -> Result<Answer> {
    let started = Instant::now();
    let options = CreateOptions {
        compress: a.compress || !a.no_compress,
        verify: a.verify || !a.no_verify,
        kind: a.kind,
        label: a.label,
        operation: None,
        pin: false,
        keep_last: match a.keep {
            Keep::All => None,
            Keep::Newest(n) => Some(n),
        },
    };
    let mut outcome = operations::create(ctx, &options)?;
    // The backup is made: a workflow's file that can't be written must not hide it.
    if let Err(e) = tell_github(&outcome) {
        outcome.warnings.push(e.message);
    }
    let exit = outcome.failure.as_ref().map_or(0, |e| exit_code(e.code));
    Ok(Answer { document: document(&outcome, json::milliseconds(started)), text: text(&outcome), exit })
}

/// Later steps of a workflow find the backup under these names.
fn tell_github(outcome: &CreateOutcome) -> Result<()> {
    for (variable, key) in [("GITHUB_ENV", "BACKUP_TIMESTAMP"), ("GITHUB_OUTPUT", "timestamp")] {
        if let Some(path) = std::env::var_os(variable).filter(|p| !p.is_empty()).map(PathBuf::from) {
            let mut file = OpenOptions::new().append(true).create(true).open(&path).context("open", &path)?;
            writeln!(file, "{key}={}", outcome.timestamp).context("write", &path)?;
        }
    }
    Ok(())
}

fn text(o: &CreateOutcome) -> String {
    let mut table = Table::new(&["DATABASE", ">SIZE", "STATE"]).indented(2);
    for d in &o.databases {
        table.row(vec![plain(&d.source), bytes(d.size), state(d.integrity.as_deref())]);
    }
    let mut text = table.render();
    if let Some(archive) = &o.archive {
        line!(text, "Archive: {}", plain(&archive.display().to_string()));
    }
    line!(text, "Timestamp: {}", style::strong(o.timestamp));
    if o.removed > 0 {
        line!(text, "Removed {} old backup(s)", o.removed);
    }
    text::warnings(&mut text, &o.warnings);
    match &o.failure {
        None => line!(text, "{}", style::good("Backup complete!")),
        Some(e) => line!(text, "{} {} ({})", style::bad("Backup failed:"), plain(&e.message), e.code),
    }
    text
}

/// What the check of a copy's structure said.
fn state(integrity: Option<&str>) -> String {
    match integrity {
        None => "plain file".to_owned(),
        Some("ok") => style::good("ok").to_string(),
        Some("damaged") => style::bad("damaged").to_string(),
        Some(other) => style::doubtful(other).to_string(),
    }
}

fn document(o: &CreateOutcome, duration: u64) -> Value {
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
        "durationMs": duration,
    });
    if let Some(e) = &o.failure {
        result["error"] = json!(e.message);
        result["code"] = json!(e.code.as_str());
    }
    result
}
