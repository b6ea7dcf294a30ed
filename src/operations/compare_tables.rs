//! Which tables of a backup and its live database are compared, and what is said of those that can't be.

use std::collections::BTreeSet;

use super::comparison::TableComparison;
use super::meter::Meter;
use crate::error::{Code, Error, Result};
use crate::sqlite::excerpts::Sample;
use crate::sqlite::row_compare::{self, Stop};
use crate::sqlite::row_pair::{Counts, Pair};
use crate::sqlite::shapes::{Kind, Shape};
use crate::sqlite::side::Side;

/// Names that are offered for one that is nobody's.
const NEAREST: usize = 3;

/// The one table that was asked for, and whether any database has it.
pub(super) struct Asked {
    table: String,
    limit: usize,
    found: bool,
    others: BTreeSet<String>,
}

impl Asked {
    pub fn new(table: &str, limit: u32) -> Self {
        Asked { table: table.to_owned(), limit: limit as usize, found: false, others: BTreeSet::new() }
    }

    /// Notes the tables of a side.
    pub fn look_for(&mut self, side: &Side<'_>) {
        self.found |= side.tables.contains_key(&self.key());
        self.others.extend(side.tables.values().map(|t| t.name.clone()));
    }

    fn key(&self) -> String {
        self.table.to_ascii_lowercase()
    }

    /// `ERR_INVALID_ARG_VALUE`, with the nearest names, if no database had the table.
    pub fn require_found(&self) -> Result<()> {
        if self.found {
            return Ok(());
        }
        let distance = |name: &&String| strsim::damerau_levenshtein(&self.key(), &name.to_ascii_lowercase());
        let mut names: Vec<&String> = self.others.iter().collect();
        names.sort_by_key(distance);
        let nearest: Vec<String> = names.into_iter().take(NEAREST).map(|n| format!("{n:?}")).collect();
        let way_out =
            if nearest.is_empty() { "there is no table at all".to_owned() } else { format!("the nearest: {}", nearest.join(", ")) };
        Err(Error::new(
            Code::InvalidArgValue,
            format!("no database has a table {:?}, neither in the backup nor now; {way_out}", self.table),
        ))
    }
}

/// The table that was asked for, in a database that is equal to its backup.
pub(super) fn unchanged(backup: &Side<'_>, asked: &mut Asked) -> Result<Vec<TableComparison>> {
    asked.look_for(backup);
    let Some(shape) = backup.tables.get(&asked.key()) else { return Ok(Vec::new()) };
    let rows = if shape.kind == Kind::Virtual { None } else { backup.count(shape)?.ok() };
    Ok(vec![TableComparison {
        backup_rows: rows,
        live_rows: rows,
        counts: Some(Counts::default()),
        rows: Some(Vec::new()),
        ..nothing_known(&shape.name)
    }])
}

fn nothing_known(table: &str) -> TableComparison {
    TableComparison {
        table: table.to_owned(),
        backup_rows: None,
        live_rows: None,
        counts: None,
        columns_added: Vec::new(),
        columns_removed: Vec::new(),
        note: None,
        rows: None,
        rows_truncated: false,
    }
}

/// One table, and its rows as they were counted: `None` for none, an error for why they can't be.
struct Counted<'s> {
    before: Option<&'s Shape>,
    after: Option<&'s Shape>,
    rows: [Result<Option<u64>, String>; 2],
}

/// Compares all tables, or the one asked for. Those that are the same are left out, unless asked for.
pub(super) fn compare(
    then: &Side<'_>,
    now: &Side<'_>,
    mut asked: Option<&mut Asked>,
    meter: &mut Meter<'_>,
) -> Result<Vec<TableComparison>> {
    if let Some(asked) = asked.as_deref_mut() {
        asked.look_for(then);
        asked.look_for(now);
    }
    let asked = asked.as_deref();
    let names: BTreeSet<&String> = then.tables.keys().chain(now.tables.keys()).collect();
    let mut tables = Vec::new();
    for name in names.into_iter().filter(|n| asked.is_none_or(|a| **n == a.key())) {
        let (before, after) = (then.tables.get(name), now.tables.get(name));
        tables.push(Counted { before, after, rows: [count(then, before)?, count(now, after)?] });
    }
    let all: u64 = tables.iter().flat_map(|t| &t.rows).filter_map(|r| r.as_ref().ok().copied().flatten()).sum();
    let weight = meter.left() as f64 / all.max(1) as f64;
    // Positive, and no more than a file has bytes.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let mut progress = |rows: u64| meter.advance((rows as f64 * weight) as u64);
    let mut compared = Vec::new();
    for table in &tables {
        compared.extend(compare_table(then, now, table, asked, &mut progress)?);
    }
    Ok(compared)
}

fn count(side: &Side<'_>, shape: Option<&Shape>) -> Result<Result<Option<u64>, String>> {
    match shape {
        Some(shape) if shape.kind != Kind::Virtual => Ok(side.count(shape)?.map(Some)),
        _ => Ok(Ok(None)),
    }
}

fn compare_table(
    then: &Side<'_>,
    now: &Side<'_>,
    table: &Counted<'_>,
    asked: Option<&Asked>,
    progress: &mut row_compare::Progress<'_>,
) -> Result<Option<TableComparison>> {
    let Some(shape) = table.after.or(table.before) else { return Ok(None) };
    let mut result = nothing_known(&shape.name);
    result.rows = asked.map(|_| Vec::new());
    if let (Some(a), Some(b)) = (table.before, table.after) {
        result.columns_added = lacking(b, a);
        result.columns_removed = lacking(a, b);
    }
    if let Some(why) = not_comparable(then, now, table) {
        result.note = Some(why);
        return Ok((asked.is_some() || !is_virtual_on_all_sides(table)).then_some(result));
    }
    let [backup_rows, live_rows] = [&table.rows[0], &table.rows[1]].map(|r| r.as_ref().ok().copied().flatten());
    (result.backup_rows, result.live_rows) = (backup_rows, live_rows);
    if let Some(why) = table.rows.iter().find_map(|r| r.as_ref().err()) {
        result.note = Some(format!("can't be read here: {why}"));
        return Ok(Some(result));
    }
    let rows = [backup_rows.unwrap_or(0), live_rows.unwrap_or(0)];
    let pair = Pair { then, before: table.before, now, after: table.after, rows };
    match counted(&pair, asked, progress, &mut result) {
        Ok(counts) => result.counts = Some(counts),
        Err(Stop::Cannot(why)) => result.note = Some(why),
        Err(Stop::Failed(e)) => return Err(e),
    }
    result.note = result.note.or_else(|| owner(then, now, shape));
    let differs = result.counts != Some(Counts::default())
        || table.before.is_none()
        || table.after.is_none()
        || !result.columns_added.is_empty()
        || !result.columns_removed.is_empty();
    Ok((differs || asked.is_some()).then_some(result))
}

fn counted(
    pair: &Pair<'_, '_>,
    asked: Option<&Asked>,
    progress: &mut row_compare::Progress<'_>,
    result: &mut TableComparison,
) -> Result<Counts, Stop> {
    if asked.is_none() && (pair.before.is_none() || pair.after.is_none()) {
        // All of its rows came, or went; nobody wants to see them.
        return Ok(Counts { added: pair.rows[1], removed: pair.rows[0], changed: 0 });
    }
    let mut sample = Sample::new(asked.map_or(0, |a| a.limit));
    let compared = row_compare::compare(pair, &mut sample, progress)?;
    result.note = compared.note.map(str::to_owned);
    if asked.is_some() {
        result.rows_truncated = compared.counts.total() > sample.rows.len() as u64;
        result.rows = Some(sample.rows);
    }
    Ok(compared.counts)
}

/// Columns of `a` that `b` lacks.
fn lacking(a: &Shape, b: &Shape) -> Vec<String> {
    a.columns.iter().filter(|c| !b.columns.iter().any(|d| d.eq_ignore_ascii_case(c))).cloned().collect()
}

fn is_virtual_on_all_sides(table: &Counted<'_>) -> bool {
    [table.before, table.after].into_iter().flatten().all(|s| s.kind == Kind::Virtual)
}

/// Why a virtual table is not compared.
fn not_comparable(then: &Side<'_>, now: &Side<'_>, table: &Counted<'_>) -> Option<String> {
    let shape = [table.before, table.after].into_iter().flatten().find(|s| s.kind == Kind::Virtual)?;
    if !is_virtual_on_all_sides(table) {
        return Some("a virtual table on one side only".into());
    }
    let prefix = format!("{}_", shape.name.to_ascii_lowercase());
    let shadows = |side: &Side<'_>| -> Vec<String> {
        side.tables.iter().filter(|(n, s)| s.kind == Kind::Shadow && n.starts_with(&prefix)).map(|(_, s)| s.name.clone()).collect()
    };
    let names: BTreeSet<String> = shadows(then).into_iter().chain(shadows(now)).collect();
    let content = if names.is_empty() {
        String::new()
    } else {
        format!("; what it holds is in {}", names.into_iter().collect::<Vec<_>>().join(", "))
    };
    Some(format!("a virtual table is not compared itself{content}"))
}

/// For a shadow table, whose it is.
fn owner(then: &Side<'_>, now: &Side<'_>, shape: &Shape) -> Option<String> {
    if shape.kind != Kind::Shadow {
        return None;
    }
    let name = shape.name.to_ascii_lowercase();
    let owners = now.tables.iter().chain(&then.tables).filter(|(n, s)| s.kind == Kind::Virtual && name.starts_with(&format!("{n}_")));
    owners.max_by_key(|(n, _)| n.len()).map(|(_, s)| format!("content of the virtual table {}", s.name))
}
