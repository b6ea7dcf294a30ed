//! `list`: every set at a glance: age, kind, health, size.

use clap::Args;
use serde_json::{Value, json};

use super::table::Table;
use super::text::{line, plain};
use super::units::{age, bytes, now};
use super::{Answer, json, style};
use crate::error::Result;
use crate::operations::{self, BackupInfo, Context};
use crate::project::Project;

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup list
  aqe-backup list --json | jq -r '.backups[0].timestamp'

STATE is what the backup says of itself, without reading it:
  verified     it was read back and checked when it was made
  unverified   it was not
  shrunk       a table had lost most of its rows
  damaged      the database was damaged
  incomplete   a file is missing or cut short
`aqe-backup verify` reads every byte.";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// With --json: also those of which only the archive is left (as text, these always have a list of their own)
    #[arg(long)]
    archives: bool,
}

pub(super) fn run(ctx: &Context, a: &Arguments) -> Result<Answer> {
    let backups = operations::list(ctx, true)?;
    let text = if backups.is_empty() { none(ctx)? } else { text(&backups) };
    Ok(Answer { document: document(&backups, a.archives), text, exit: 0 })
}

/// Where was looked, and where else it might be.
fn none(ctx: &Context) -> Result<String> {
    let project = Project::open(ctx.root.as_deref(), ctx.backup_dir.as_deref())?;
    let mut text = String::new();
    line!(text, "No backups in {}", plain(&project.backup_dir.display().to_string()));
    if let Some(parent) = project.parent_project().filter(|_| ctx.backup_dir.is_none()) {
        line!(text, "Did you mean --root {:?}?", parent.display().to_string());
    }
    line!(text, "Total backups: 0");
    Ok(text)
}

fn text(backups: &[BackupInfo]) -> String {
    let (archives, sets): (Vec<_>, Vec<_>) = backups.iter().partition(|b| b.archive_only);
    let mut text = String::new();
    if !sets.is_empty() {
        text += &table(&sets).render();
    }
    if !archives.is_empty() {
        line!(text, "Archives only (restored like any other backup):");
        text += &archive_table(&archives).render();
    }
    line!(text, "Total backups: {}", sets.len());
    text
}

fn table(sets: &[&BackupInfo]) -> Table {
    let now = now();
    let mut table = Table::new(&["TIMESTAMP (UTC)", ">AGE", "KIND", "STATE", ">SIZE", ">DBS", "ARCHIVE", "~NOTE"]);
    for b in sets {
        table.row(vec![
            b.timestamp.to_string(),
            age(b.timestamp, now),
            b.kind.as_str().to_owned(),
            state(b),
            bytes(b.size),
            b.files.len().to_string(),
            if b.compressed { "yes".to_owned() } else { String::new() },
            note(b),
        ]);
    }
    table
}

fn archive_table(archives: &[&BackupInfo]) -> Table {
    let now = now();
    let mut table = Table::new(&["TIMESTAMP (UTC)", ">AGE", ">SIZE"]).indented(2);
    for b in archives {
        table.row(vec![b.timestamp.to_string(), age(b.timestamp, now), bytes(b.size)]);
    }
    table
}

/// The worst that is known of a set without reading its files.
pub(super) fn state(b: &BackupInfo) -> String {
    let Some(m) = &b.metadata else {
        return if b.complete { style::doubtful("unverified") } else { style::bad("incomplete") }.to_string();
    };
    if !b.complete {
        style::bad("incomplete")
    } else if m.databases().iter().any(|d| d.is_damaged()) {
        style::bad("damaged")
    } else if m.shrunk_since.is_some() {
        style::doubtful("shrunk")
    } else if m.verified == Some(true) {
        style::good("verified")
    } else {
        style::doubtful("unverified")
    }
    .to_string()
}

/// What it is for, in the words of whoever made it.
fn note(b: &BackupInfo) -> String {
    let note = b.metadata.as_ref().and_then(|m| m.label.clone().or_else(|| m.operation.clone())).unwrap_or_default();
    plain(&note)
}

fn document(backups: &[BackupInfo], archives: bool) -> Value {
    let shown = backups.iter().filter(|b| archives || !b.archive_only);
    json!({ "backups": shown.map(json::backup_info).collect::<Vec<_>>() })
}
