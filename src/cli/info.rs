//! `info`: all that a set says of itself. Its files are not read; `verify` does that.

use clap::Args;
use serde_json::json;

use super::list::state;
use super::table::Table;
use super::text::{line, plain};
use super::units::{ago, bytes, count, now};
use super::{Answer, json, style};
use crate::backup_set::metadata::{Metadata, SqliteRecord};
use crate::error::Result;
use crate::operations::{self, BackupInfo, Context};

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup info 20250116-120000
  aqe-backup info 20250116-120000 --json | jq .backup.metadata.git_commit";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// YYYYMMDD-HHMMSS
    timestamp: String,
}

pub(super) fn run(ctx: &Context, a: &Arguments) -> Result<Answer> {
    let backup = operations::info(ctx, &a.timestamp)?;
    Ok(Answer { document: json!({ "backup": json::backup_info(&backup) }), text: text(&backup), exit: 0 })
}

fn text(b: &BackupInfo) -> String {
    let mut text = String::new();
    let mut say = |name: &str, value: String| {
        if !value.is_empty() {
            line!(text, "{} {value}", style::faint(format!("{:<10}", format!("{name}:"))));
        }
    };
    say("Timestamp", style::strong(b.timestamp).to_string());
    say("Date", format!("{} ({})", b.timestamp.to_iso(), ago(b.timestamp, now())));
    say("Kind", b.kind.as_str().to_owned());
    say("State", if b.archive_only { "only the archive is left".to_owned() } else { state(b) });
    say("Size", format!("{} in {} file(s)", bytes(b.size), b.files.len()));
    say("Archive", if b.compressed { "yes".to_owned() } else { "no".to_owned() });
    match &b.metadata {
        Some(m) => about(m, &mut say),
        None if b.archive_only => {}
        None => say("Record", "none that can be read; each file goes back to its usual place".to_owned()),
    }
    text += &b.metadata.as_ref().filter(|m| m.databases.is_some()).map_or_else(|| files(b), databases);
    text
}

/// Who made it, where, and for what.
fn about(m: &Metadata, say: &mut impl FnMut(&str, String)) {
    say("For", m.operation.as_deref().map(plain).unwrap_or_default());
    say("Label", m.label.as_deref().map(plain).unwrap_or_default());
    say("Made by", plain(&format!("{} on {}", m.user, m.hostname)));
    let in_git = m.git_commit != "N/A" && !m.git_commit.is_empty();
    say("Git", if in_git { plain(&format!("{} on {}", m.git_commit, m.git_branch)) } else { String::new() });
    say(
        "Tool",
        plain(
            &[m.tool.as_deref(), m.sqlite_version.as_deref().map(|_| "SQLite"), m.sqlite_version.as_deref()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
        ),
    );
    say(
        "Shrunk",
        m.shrunk_since.as_deref().map(|t| format!("a table had lost most of its rows since backup {}", plain(t))).unwrap_or_default(),
    );
}

fn databases(m: &Metadata) -> String {
    let mut text = String::new();
    for d in m.databases() {
        line!(text, "\n{}  {}", style::strong(plain(&d.source)), bytes(d.size));
        line!(text, "  {}  {}", style::faint("file  "), plain(&d.file));
        line!(text, "  {}  {}", style::faint("sha256"), d.sha256);
        match &d.sqlite {
            Some(sqlite) => text += &structure(sqlite),
            None => line!(text, "  not an SQLite database, kept as it was"),
        }
    }
    text
}

fn structure(s: &SqliteRecord) -> String {
    let mut text = String::new();
    let pages = format!("{} pages of {} bytes, journal {}, {}", count(s.page_count), s.page_size, s.journal_mode, s.encoding);
    line!(text, "  {}  {pages}, integrity {}", style::faint("sqlite"), s.integrity.as_str());
    let mut table = Table::new(&["TABLE", ">ROWS"]).indented(2);
    for (name, rows) in &s.tables {
        table.row(vec![plain(name), count(*rows)]);
    }
    if !s.tables.is_empty() {
        text += &table.render();
    }
    text
}

fn files(b: &BackupInfo) -> String {
    let mut text = String::from("\n");
    for f in &b.files {
        line!(text, "  {}", plain(&f.display().to_string()));
    }
    text
}
