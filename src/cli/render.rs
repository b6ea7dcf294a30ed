//! What people read. Some lines are looked for by scripts and never change: `Timestamp: …`, `Backup complete!`,
//! `Restore complete!`, `All files verified`, `Total backups: N`, `Removed N old backup(s)`.

use std::fmt::Write;

use crate::operations::{BackupInfo, CreateOutcome, Inspection, Recovery, RestoreOutcome};

/// Adds a line. Writing to a string can't fail.
macro_rules! line {
    ($text:expr, $($arguments:tt)*) => {{ let _ = writeln!($text, $($arguments)*); }};
}

/// `n` as people read it.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

fn warnings(text: &mut String, warnings: &[String]) {
    for w in warnings {
        line!(text, "Warning: {w}");
    }
}

pub(super) fn create(o: &CreateOutcome) -> String {
    let mut text = String::new();
    for d in &o.databases {
        line!(text, "  {}  {}  {}", d.source, bytes(d.size), d.integrity.as_deref().unwrap_or("plain file"));
    }
    if let Some(archive) = &o.archive {
        line!(text, "Archive: {}", archive.display());
    }
    line!(text, "Timestamp: {}", o.timestamp);
    if o.removed > 0 {
        line!(text, "Removed {} old backup(s)", o.removed);
    }
    warnings(&mut text, &o.warnings);
    match &o.failure {
        None => line!(text, "Backup complete!"),
        Some(e) => line!(text, "Backup failed: {} ({})", e.message, e.code),
    }
    text
}

pub(super) fn list(backups: &[BackupInfo]) -> String {
    let mut text = String::new();
    for archives in [false, true] {
        let group: Vec<_> = backups.iter().filter(|b| b.archive_only == archives).collect();
        if archives && !group.is_empty() {
            line!(text, "Archives only:");
        }
        for b in group {
            let state = if b.complete { "" } else { "  incomplete" };
            let archive = if b.compressed { "  archive" } else { "" };
            line!(text, "{}  {:<9}  {:>9}  {} file(s){archive}{state}", b.timestamp, b.kind.as_str(), bytes(b.size), b.files.len());
        }
    }
    line!(text, "Total backups: {}", backups.iter().filter(|b| !b.archive_only).count());
    text
}

pub(super) fn verify(inspections: &[Inspection]) -> String {
    let mut text = String::new();
    for i in inspections {
        line!(text, "Backup {}: {}", i.timestamp, if i.ok { "ok" } else { "NOT OK" });
        for f in &i.files {
            line!(text, "  {} {}", if f.ok { "ok     " } else { "DAMAGED" }, f.file);
            for (code, message) in &f.problems {
                line!(text, "          {message} ({code})");
            }
        }
        warnings(&mut text, &i.warnings);
    }
    if inspections.iter().all(|i| i.ok) {
        line!(text, "All files verified");
    } else {
        line!(text, "Verification failed");
    }
    text
}

/// `again`: the flags that name this project from anywhere.
pub(super) fn restore(o: &RestoreOutcome, again: &str) -> String {
    let mut text = String::new();
    for d in &o.databases {
        line!(text, "  {}  {}  {} page(s) written", d.source, d.action.as_str(), d.pages_written);
    }
    warnings(&mut text, &o.warnings);
    line!(text, "Timestamp: {}", o.timestamp);
    if let Some(safety) = o.safety_backup {
        line!(text, "Safety backup: {safety} (undo with: aqe-backup restore {safety}{again})");
    }
    line!(text, "Restore complete!");
    text
}

pub(super) fn recover(r: &Recovery) -> String {
    let mut text = String::new();
    warnings(&mut text, &r.warnings);
    if let Some(t) = r.finished_restore {
        line!(text, "Finished the restore of {t}");
    }
    if let Some(t) = r.undone_restore {
        line!(text, "Undid the restore of {t}");
    }
    if let Some(t) = r.safety_backup {
        line!(text, "Safety backup: {t}");
    }
    if r.swept > 0 {
        line!(text, "Removed what {} interrupted run(s) left", r.swept);
    }
    if r.finished_restore.is_none() && r.undone_restore.is_none() && r.swept == 0 {
        line!(text, "Nothing to recover");
    }
    text
}
