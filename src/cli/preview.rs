//! What restore's question shows: for each database its size and rows, now and in the backup.

use std::collections::{BTreeMap, BTreeSet};

use super::style;
use super::table::Table;
use super::text::{line, plain};
use super::units::{ago, bytes, count, now, plural};
use crate::operations::{LiveState, PreviewedDatabase, RestorePreview};

/// Tables of one database that are shown; the others are counted.
const TABLES: usize = 6;

pub(super) fn text(p: &RestorePreview) -> String {
    let mut text = String::new();
    line!(text, "Backup {}, made {}, would put back:\n", p.timestamp, ago(p.timestamp, now()));
    let mut table = Table::new(&["DATABASE", ">SIZE NOW", ">THEN", ">ROWS NOW", ">THEN", "CHANGES"]).indented(2);
    for d in &p.databases {
        table.row(vec![
            plain(&d.source),
            d.live_size.map_or_else(|| style::doubtful("missing").to_string(), bytes),
            bytes(d.backup_size),
            rows_now(d),
            d.backup_rows.as_ref().map_or_else(String::new, |r| count(r.values().sum())),
            pages(d),
        ]);
    }
    text += &table.render();
    for d in &p.databases {
        text += &changes(d);
    }
    line!(text);
    text
}

fn rows_now(d: &PreviewedDatabase) -> String {
    match &d.live {
        LiveState::Rows { tables, .. } => count(tables.values().sum()),
        LiveState::Missing | LiveState::Plain => String::new(),
        LiveState::Unreadable(_) => style::bad("?").to_string(),
    }
}

/// How much of it the restore would write.
fn pages(d: &PreviewedDatabase) -> String {
    match &d.live {
        LiveState::Rows { pages: Some((0, _)), .. } => style::faint("none").to_string(),
        LiveState::Rows { pages: Some((different, total)), .. } => format!("{} of {} pages", count(*different), count(*total)),
        LiveState::Missing => "created".to_owned(),
        LiveState::Plain if d.backup_rows.is_some() => style::bad("no database now").to_string(),
        LiveState::Unreadable(_) => style::bad("can't be read").to_string(),
        LiveState::Rows { .. } | LiveState::Plain => String::new(),
    }
}

/// The tables whose number of rows would change, the greatest change first.
fn changes(d: &PreviewedDatabase) -> String {
    let mut text = String::new();
    match (&d.live, &d.backup_rows) {
        (LiveState::Unreadable(why), _) => line!(text, "  {}: {}", plain(&d.source), plain(why)),
        (LiveState::Rows { tables: now, .. }, Some(then)) => {
            let all = differing(now, then);
            for (table, now, then) in all.iter().take(TABLES) {
                let rows = |n: &Option<u64>| n.map_or_else(|| "no such table".to_owned(), |n| plural(n, "row", "rows"));
                line!(text, "  {}: table {}: {} now, {} then", plain(&d.source), plain(table), rows(now), rows(then));
            }
            if all.len() > TABLES {
                line!(text, "  {}: {} more tables have another number of rows", plain(&d.source), all.len() - TABLES);
            }
        }
        _ => {}
    }
    text
}

type Rows<'a> = (&'a str, Option<u64>, Option<u64>);

fn differing<'a>(now: &'a BTreeMap<String, u64>, then: &'a BTreeMap<String, u64>) -> Vec<Rows<'a>> {
    let names: BTreeSet<&String> = now.keys().chain(then.keys()).collect();
    let both = names.into_iter().map(|n| (n.as_str(), now.get(n).copied(), then.get(n).copied()));
    let mut differing: Vec<Rows<'a>> = both.filter(|(_, now, then)| now != then).collect();
    differing.sort_by_key(|(_, now, then)| std::cmp::Reverse(now.unwrap_or(0).abs_diff(then.unwrap_or(0))));
    differing
}
