//! `size`: what the backups use, by kind and by day, as bars.

use serde_json::{Value, json};

use super::bars::bar;
use super::table::Table;
use super::text::line;
use super::units::{bytes, plural};
use super::{Answer, style};
use crate::error::Result;
use crate::operations::{self, Context, Share, Usage};

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup size
  aqe-backup size --json | jq .totalSize";

/// Characters of the longest bar.
const WIDTH: usize = 30;
/// Days that are shown; older ones are one line.
const DAYS: usize = 14;

pub(super) fn run(ctx: &Context) -> Result<Answer> {
    let usage = operations::usage(ctx)?;
    Ok(Answer { document: document(&usage), text: text(&usage), exit: 0 })
}

fn text(u: &Usage) -> String {
    let mut text = String::new();
    line!(text, "{}", u.backup_dir.display());
    text += &groups("KIND", &kinds(u));
    text += &groups("DAY", &days(u));
    line!(text, "In copies {}, in archives {}, in the rest {}", bytes(u.databases_size), bytes(u.archives_size), bytes(u.other_size));
    line!(text, "Total size: {} of {}", style::strong(bytes(u.total_size)), plural(u64::from(u.backups), "backup", "backups"));
    if u.archives_only > 0 {
        line!(text, "Archives only: {}", u.archives_only);
    }
    line!(text, "Free: {}", bytes(u.free));
    text
}

/// A name, how many sets, how many bytes.
type Group = (String, Share);

fn kinds(u: &Usage) -> Vec<Group> {
    let mut kinds: Vec<Group> = u.by_kind.iter().map(|(kind, share)| ((*kind).to_owned(), *share)).collect();
    let in_sets: u64 = u.by_kind.values().map(|s| s.bytes).sum();
    if u.archives_only > 0 {
        let left = (u.databases_size + u.archives_size).saturating_sub(in_sets);
        kinds.push(("archive only".to_owned(), Share { backups: u.archives_only, bytes: left }));
    }
    kinds
}

/// The newest days, newest first, and the others together.
fn days(u: &Usage) -> Vec<Group> {
    let mut days: Vec<Group> = u.by_day.iter().rev().take(DAYS).map(|(day, share)| (day.clone(), *share)).collect();
    let older: Vec<&Share> = u.by_day.values().rev().skip(DAYS).collect();
    if !older.is_empty() {
        let sum = Share { backups: older.iter().map(|s| s.backups).sum(), bytes: older.iter().map(|s| s.bytes).sum() };
        days.push(("older".to_owned(), sum));
    }
    days
}

fn groups(title: &'static str, groups: &[Group]) -> String {
    let most = groups.iter().map(|(_, s)| s.bytes).max().unwrap_or(0);
    let mut table = Table::new(&[title, ">BACKUPS", ">SIZE", ""]);
    for (name, share) in groups {
        let bar = style::good(bar(share.bytes, most, WIDTH)).to_string();
        table.row(vec![format!("{name:<12}"), share.backups.to_string(), format!("{:>9}", bytes(share.bytes)), bar]);
    }
    if groups.is_empty() { String::new() } else { format!("{}\n", table.render()) }
}

fn document(u: &Usage) -> Value {
    json!({
        "backupDir": u.backup_dir,
        "totalSize": u.total_size,
        "databasesSize": u.databases_size,
        "archivesSize": u.archives_size,
        "otherSize": u.other_size,
        "backups": u.backups,
        "archivesOnly": u.archives_only,
        "byKind": u.by_kind.iter().map(|(kind, s)| json!({ "kind": kind, "backups": s.backups, "bytes": s.bytes })).collect::<Vec<_>>(),
        "byDay": u.by_day.iter().map(|(day, s)| json!({ "day": day, "backups": s.backups, "bytes": s.bytes })).collect::<Vec<_>>(),
        "free": u.free,
    })
}
