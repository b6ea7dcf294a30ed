//! `check`: whether all is well, and what to do where it is not.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::bars::bar;
use super::table::Table;
use super::text::{line, plain};
use super::units::{age, bytes, parse_bytes, parse_duration, plural};
use super::{Answer, exit_code, json, prometheus, style};
use crate::error::{Code, Error, Result};
use crate::operations::{self, Context, Finding, Health, HealthOptions, Severity};

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup check                           every byte of every backup
  aqe-backup check --quick --max-age 2h      no database and no backup is read
  aqe-backup check --prometheus /var/lib/node_exporter/aqe-backup.prom

Exit codes: 0 no finding, or only warnings (with --strict these are 1 too), 1 a
critical finding, 4 a database or a backup is damaged. Nothing is changed, and
programs may go on using the databases.";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub databases: super::args::Databases,
    /// How old the newest good backup of each database may be: 90m, 26h, 7d
    #[arg(long, value_name = "TIME", default_value = "26h", value_parser = parse_duration)]
    max_age: Duration,
    /// How much the backups folder may take: 500MB, 5GB; from 80 % on there is a warning
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    max_size: Option<u64>,
    /// Read no database and no backup: look at names, sizes and records only
    #[arg(long)]
    quick: bool,
    /// Let warnings fail too
    #[arg(long)]
    strict: bool,
    /// Also write metrics for the textfile collector of Prometheus' node_exporter
    #[arg(long, value_name = "FILE")]
    prometheus: Option<PathBuf>,
}

pub(super) fn run(ctx: &Context, a: &Arguments) -> Result<Answer> {
    let started = Instant::now();
    let options = HealthOptions { max_age: a.max_age, max_size: a.max_size, quick: a.quick };
    let result = operations::check(ctx, &options);
    let exported = a.prometheus.as_deref().map_or(Ok(()), |file| match &result {
        Err(e) if e.code == Code::Abort => Ok(()),
        Ok(health) => prometheus::write(file, &prometheus::metrics(health, started.elapsed())),
        Err(_) => prometheus::write(file, &prometheus::failure(ctx)),
    });
    let mut health = match (result, &exported) {
        (Err(e), Err(other)) => return Err(also(e, other)),
        (result, _) => result?,
    };
    let mut exit = exit_of(&health, a.strict);
    // Whoever reads the metrics must not go on trusting old ones because nobody noticed this.
    if let Err(e) = exported {
        exit = exit.max(1);
        health.notes.push(format!("the metrics are not written: {e}"));
    }
    Ok(Answer { document: document(&health, json::milliseconds(started)), text: text(&health), exit })
}

fn also(e: Error, other: &Error) -> Error {
    let (code, message) = (e.code, format!("{}; and the metrics are not written: {other}", e.message));
    Error::new(code, message).caused_by(e)
}

fn exit_of(health: &Health, strict: bool) -> i32 {
    if health.has_damage() {
        exit_code(Code::BackupDamaged)
    } else {
        i32::from(!health.healthy() || (strict && !health.findings.is_empty()))
    }
}

fn text(h: &Health) -> String {
    let mut text = String::new();
    line!(text, "{}", verdict(h));
    for f in &h.findings {
        finding(&mut text, f);
    }
    line!(text);
    text += &databases(h).render();
    line!(text, "{}", storage(h));
    let room = format!("{} free, the next backup needs up to {}", bytes(h.free), bytes(h.next_backup));
    line!(text, "{}", if h.free < h.next_backup { style::bad(room) } else { style::good(room) });
    if let Some(p) = h.processes {
        let have = if p.using == 1 { "has" } else { "have" };
        line!(text, "{} {have} a database open", plural(p.using.into(), "process", "processes"));
    }
    for note in &h.notes {
        line!(text, "Note: {}", plain(note));
    }
    text
}

fn verdict(h: &Health) -> String {
    let critical = h.findings.iter().filter(|f| f.severity == Severity::Critical).count() as u64;
    let warnings = h.findings.len() as u64 - critical;
    let warned = plural(warnings, "warning", "warnings");
    match (critical, warnings) {
        (0, 0) => style::good("Healthy").to_string(),
        (0, _) if h.findings.iter().any(|f| f.code.is_about_nothing_known()) => {
            format!("{}, {}", style::doubtful("No trouble found, but not everything could be checked"), style::doubtful(warned))
        }
        (0, _) => format!("{}, {}", style::good("Healthy"), style::doubtful(warned)),
        (_, 0) => style::bad(plural(critical, "problem", "problems")).to_string(),
        _ => format!("{}, {}", style::bad(plural(critical, "problem", "problems")), style::doubtful(warned)),
    }
}

fn finding(text: &mut String, f: &Finding) {
    let word = format!("{:8}", f.severity.as_str());
    let word = if f.severity == Severity::Critical { style::bad(word) } else { style::doubtful(word) };
    line!(text, "  {word}  {}", style::strong(f.code.as_str()));
    line!(text, "            {}", plain(&f.message));
    line!(text, "            {} {}", style::faint("What to do:"), plain(&f.remedy));
}

fn databases(h: &Health) -> Table {
    let stale = |source: &str| h.findings.iter().any(|f| f.severity == Severity::Critical && f.subject == source);
    let mut table = Table::new(&["DATABASE", ">SIZE", "NEWEST GOOD BACKUP", ">AGE"]);
    for d in &h.databases {
        let (newest, age) = match d.newest_backup {
            Some(t) => (t.to_string(), age(t, h.checked_at)),
            None => ("none".to_owned(), String::new()),
        };
        let name = plain(&d.source);
        let name = if stale(&d.source) { style::bad(name) } else { style::good(name) };
        table.row(vec![name.to_string(), bytes(d.size), newest, age]);
    }
    table
}

fn storage(h: &Health) -> String {
    let sets = plural(h.backups.into(), "backup", "backups");
    let archives =
        if h.archives_only > 0 { format!(" and {}", plural(h.archives_only.into(), "archive", "archives")) } else { String::new() };
    let Some(max) = h.max_size else { return format!("{sets}{archives}, {}", bytes(h.total_size)) };
    let percent = h.total_size as f64 * 100.0 / max as f64;
    let bar = bar(h.total_size, max, 30);
    let bar = match percent {
        p if p > 100.0 => style::bad(bar),
        p if p >= 80.0 => style::doubtful(bar),
        _ => style::good(bar),
    };
    format!("{sets}{archives}, {} of {} ({percent:.0} %)  {bar}", bytes(h.total_size), bytes(max))
}

fn document(h: &Health, duration: u64) -> Value {
    json!({
        "healthy": h.healthy(),
        "findings": h.findings.iter().map(|f| json!({
            "code": f.code.as_str(), "severity": f.severity.as_str(), "message": f.message, "remedy": f.remedy, "subject": f.subject,
        })).collect::<Vec<_>>(),
        "newestBackup": h.newest_backup().map(|t| t.to_string()),
        "databases": h.databases.iter().map(|d| json!({
            "source": d.source, "size": d.size, "newestBackup": d.newest_backup.map(|t| t.to_string()), "ageSeconds": d.age(h.checked_at),
        })).collect::<Vec<_>>(),
        "backups": h.backups,
        "archivesOnly": h.archives_only,
        "damagedBackups": h.damaged,
        "totalSize": h.total_size,
        "maxSizeBytes": h.max_size,
        "free": h.free,
        "nextBackupSize": h.next_backup,
        "processes": h.processes.map(|p| json!({ "using": p.using, "examined": p.examined, "unreadable": p.unreadable })),
        "checkedAt": h.checked_at.to_iso(),
        "notes": h.notes,
        "durationMs": duration,
    })
}
