//! Notices tables that lost most of their rows, and databases that are gone, since an earlier set. Pure: metadata in,
//! warnings out.

use std::collections::BTreeMap;

use super::sources::SIDE_FILE_OF;
use crate::backup_set::metadata::{DatabaseRecord, Integrity, Metadata};
use crate::project::{Project, Selection, quoted};
use crate::store::catalog::SetEntry;

/// A table with this many rows or fewer may shrink without a word.
const FEW_ROWS: u64 = 100;

/// Looks for tables that lost more than half of their rows, and over [`FEW_ROWS`], since the newest earlier set that
/// counted them, or since the set from before an earlier such loss. Warns of each; names the set from before the loss.
pub(super) fn find(metadata: &Metadata, earlier: &[SetEntry], warnings: &mut Vec<String>) -> Option<String> {
    let newest_first = || earlier.iter().rev().filter_map(SetEntry::metadata);
    let mut before_loss: Option<&str> = None;
    for database in metadata.databases() {
        let Some(now) = database.sqlite.as_ref().filter(|s| !matches!(s.integrity, Integrity::NotChecked)) else { continue };
        let holds = |m: &&Metadata| tables_of(m, &database.source).is_some();
        let Some(last) = newest_first().find(holds) else { continue };
        let baseline = last.shrunk_since.as_deref().and_then(|t| newest_first().find(|m| m.timestamp == t)).filter(holds);
        for then in [Some(last), baseline].into_iter().flatten() {
            let losses = tables_of(then, &database.source).map(|tables| losses(tables, &now.tables)).unwrap_or_default();
            if losses.is_empty() {
                continue;
            }
            warnings.extend(
                losses
                    .iter()
                    .map(|(t, a, b)| format!("{}: table {t} shrank from {a} rows in backup {} to {b}", database.source, then.timestamp)),
            );
            before_loss = Some(before_loss.map_or(then.timestamp.as_str(), |b| b.min(then.timestamp.as_str())));
        }
    }
    before_loss.map(str::to_owned)
}

/// Databases that the set before this one has and this one has not: somebody may have removed them by mistake, and from
/// now on the newest backup lacks them. `asked`: what was to be backed up. `is_there`: whether a source is a file now; one
/// that is was only not looked for this time.
pub(super) fn find_missing(
    metadata: &Metadata,
    earlier: &[SetEntry],
    project: &Project,
    asked: &Selection,
    is_there: impl Fn(&str) -> bool,
    warnings: &mut Vec<String>,
) {
    let Some(last) = earlier.iter().rev().filter_map(SetEntry::metadata).find(|m| m.kind() == metadata.kind()) else { return };
    let here = |source: &str| metadata.databases().iter().any(|d| d.source == source);
    let is_database = |d: &&DatabaseRecord| !d.extra.contains_key(SIDE_FILE_OF);
    let gone = last.databases().iter().filter(is_database).filter(|d| asked.has(&d.source) && !here(&d.source) && !is_there(&d.source));
    warnings.extend(gone.map(|d| {
        let (source, then) = (&d.source, &last.timestamp);
        let command = format!("aqe-backup restore {then} --database {}{}", quoted(source), project.flags());
        format!("{source} is gone: it is in backup {then}, and not in this one; to put it back: {command}")
    }));
}

fn tables_of<'a>(metadata: &'a Metadata, source: &str) -> Option<&'a BTreeMap<String, u64>> {
    let sqlite = metadata.databases().iter().find(|d| d.source == source)?.sqlite.as_ref()?;
    (sqlite.integrity != Integrity::NotChecked).then_some(&sqlite.tables)
}

/// Whether the rows of `source` were counted for the set `then`.
pub(super) fn is_counted(then: &Metadata, source: &str) -> bool {
    tables_of(then, source).is_some()
}

/// Tables of a live database with the rows `now` that lost as much since the set `then`: name, rows then, rows now.
pub(super) fn since<'a>(then: &'a Metadata, source: &str, now: &'a BTreeMap<String, u64>) -> Vec<(&'a str, u64, u64)> {
    tables_of(then, source).map(|tables| losses(tables, now)).unwrap_or_default()
}

/// A database without any table has lost all that it had, however little that was.
fn losses<'a>(then: &'a BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Vec<(&'a str, u64, u64)> {
    let rows = then.iter().map(|(table, before)| (table.as_str(), *before, now.get(table).copied().unwrap_or(0)));
    let few = if now.is_empty() { 0 } else { FEW_ROWS };
    rows.filter(|(_, before, after)| before - after.min(before) > few && after * 2 < *before).collect()
}
