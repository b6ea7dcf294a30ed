//! `clean`: removes old sets, or shows which and why.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::table::Table;
use super::text::{self, line};
use super::units::{age, bytes, now, plural};
use super::{Answer, style};
use crate::backup_set::metadata::Kind;
use crate::error::Result;
use crate::operations::{self, CleanDecision, CleanOptions, CleanOutcome, Context};
use crate::store::retention::{self, Fate, Rule};

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup clean                 keep the newest 10 of each kind
  aqe-backup clean 5 --dry-run     show what keeping 5 would remove, and why
  aqe-backup clean --policy        remove by age

By age: automated backups stay 30 days (--environment staging 60, production
90), safety backups 7, archives 90. Never removed are manual backups, the newest
verified backup of each database, the last backup from before a table lost most
of its rows, and backups dated in the future.";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many automated and, counted apart, how many safety backups to keep [default: 10]
    #[arg(value_name = "N", conflicts_with = "policy", allow_negative_numbers = true, value_parser = super::units::keep)]
    keep: Option<u32>,
    /// Remove by age instead
    #[arg(long)]
    policy: bool,
    /// Where the databases are used, which decides how long automated backups stay
    #[arg(long, value_enum, value_name = "NAME", requires = "policy", default_value = "development")]
    environment: Environment,
    /// Remove nothing; show what becomes of every backup, and why
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Environment {
    /// Automated backups 30 days
    Development,
    /// 60 days
    Staging,
    /// 90 days
    Production,
}

impl From<Environment> for retention::Environment {
    fn from(e: Environment) -> Self {
        match e {
            Environment::Development => retention::Environment::Development,
            Environment::Staging => retention::Environment::Staging,
            Environment::Production => retention::Environment::Production,
        }
    }
}

pub(super) fn run(ctx: &Context, a: &Arguments) -> Result<Answer> {
    let rule = if a.policy { Rule::Ages(a.environment.into()) } else { Rule::Newest(a.keep.unwrap_or(10)) };
    let outcome = operations::clean(ctx, &CleanOptions { rule, dry_run: a.dry_run })?;
    Ok(Answer { document: document(&outcome, rule), text: text(&outcome), exit: 0 })
}

fn text(o: &CleanOutcome) -> String {
    let mut text = String::new();
    if o.dry_run {
        text += &decisions(&o.decisions);
    }
    text::warnings(&mut text, &o.warnings);
    let would = if o.dry_run { "Dry run: would have removed" } else { "Removed" };
    line!(text, "{would} {} old backup(s)", o.removed);
    if o.archives_removed > 0 {
        let archives = plural(u64::from(o.archives_removed), "archive", "archives");
        line!(text, "{would} {archives} of backups that had been removed before");
    }
    if o.freed > 0 {
        line!(text, "{} {}", if o.dry_run { "That would free" } else { "Freed" }, bytes(o.freed));
    }
    text
}

fn decisions(all: &[CleanDecision]) -> String {
    let now = now();
    let mut table = Table::new(&["TIMESTAMP (UTC)", ">AGE", "KIND", "", ">FREES", "~WHY"]).wrapped();
    for d in all {
        let fate = match d.fate {
            Fate::Keep => style::good("keep"),
            Fate::Trim => style::doubtful("trim"),
            Fate::Remove => style::bad("remove"),
        };
        let frees = if d.frees == 0 { String::new() } else { bytes(d.frees) };
        table.row(vec![
            d.timestamp.to_string(),
            age(d.timestamp, now),
            d.kind.map_or("unknown", Kind::as_str).to_owned(),
            fate.to_string(),
            frees,
            d.reason.clone(),
        ]);
    }
    if all.is_empty() { String::new() } else { table.render() }
}

fn document(o: &CleanOutcome, rule: Rule) -> Value {
    let fate = |f: Fate| match f {
        Fate::Keep => "keep",
        Fate::Trim => "trim",
        Fate::Remove => "remove",
    };
    let (keep, environment) = match rule {
        Rule::Newest(n) => (Some(n), None),
        Rule::Ages(e) => (None, Some(e.as_str())),
    };
    json!({
        "dryRun": o.dry_run,
        "keep": keep,
        "environment": environment,
        "removed": o.removed,
        "archivesRemoved": o.archives_removed,
        "freedBytes": o.freed,
        "decisions": o.decisions.iter().map(|d| json!({
            "timestamp": d.timestamp.to_string(), "kind": d.kind, "decision": fate(d.fate), "freesBytes": d.frees, "reason": d.reason,
        })).collect::<Vec<_>>(),
        "warnings": o.warnings,
    })
}
