//! `compare`: how the databases differ from a set.

use clap::Args;
use serde_json::{Value, json};

use super::bars::{bar, diffstat};
use super::rows;
use super::table::Table;
use super::text::{self, line};
use super::units::{count, plural};
use super::{Answer, style};
use crate::error::Result;
use crate::operations::{
    self, CompareOptions, Comparison, Context, DatabaseComparison, Difference, MOST_ROWS, SchemaDifference, TableComparison,
};
use crate::sqlite::excerpts::Change;

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup compare 20250116-120000
  aqe-backup compare 20250116-120000 --table episodes --limit 50

Rows are told apart by their primary key, else by their rowid. Added, removed
and changed mean since the backup. Nothing is changed, and programs may go on
using the databases.";

/// Characters of the picture beside a table's numbers.
const PICTURE: usize = 10;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub databases: super::args::Databases,
    /// YYYYMMDD-HHMMSS
    timestamp: String,
    /// Compare this table only, and show its rows that differ
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// How many rows to show at most
    #[arg(long, value_name = "N", requires = "table", default_value_t = CompareOptions::default().limit, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_ROWS)))]
    limit: u32,
}

pub(super) fn run(ctx: &Context, a: &Arguments) -> Result<Answer> {
    let options = CompareOptions { table: a.table.clone(), limit: a.limit };
    let comparison = operations::compare(ctx, &a.timestamp, &options)?;
    Ok(Answer { document: document(&comparison), text: text(&comparison), exit: 0 })
}

fn text(c: &Comparison) -> String {
    let mut text = String::new();
    text::warnings(&mut text, &c.warnings);
    for d in &c.databases {
        line!(text, "{}: {}", style::strong(rows::escaped(&d.source)), verdict(d.difference));
        text += &details(d);
    }
    let all = if c.identical { style::good("IDENTICAL") } else { style::doubtful("DIFFERENT") };
    line!(text, "Compared with backup {}: {all}", c.timestamp);
    text
}

fn verdict(d: Difference) -> String {
    match d {
        Difference::Identical => style::good("identical").to_string(),
        Difference::Different => style::doubtful("different").to_string(),
        Difference::MissingHere => style::bad("missing here, the backup has it").to_string(),
        Difference::MissingThere => style::doubtful("not in the backup").to_string(),
    }
}

fn details(d: &DatabaseComparison) -> String {
    let mut text = String::new();
    if d.difference == Difference::Different && d.pages_total > 0 {
        let share = d.pages_different as f64 * 100.0 / d.pages_total as f64;
        let pages = format!("{} of {}", count(d.pages_different), plural(d.pages_total, "page", "pages"));
        line!(text, "  {pages} differ ({share:.1} %)  {}", style::doubtful(bar(d.pages_different, d.pages_total, 30)));
        if d.same_content == Some(true) {
            line!(text, "  All rows and the schema are the same.");
        }
    }
    if !d.tables.is_empty() {
        text += &tables(&d.tables);
    }
    for object in &d.schema {
        line!(text, "  {}", schema(object));
    }
    for note in &d.notes {
        text += &rows::wrapped(&rows::escaped(note), 2, 4);
    }
    for t in &d.tables {
        text += &rows::list(t);
    }
    text
}

fn tables(tables: &[TableComparison]) -> String {
    let rows = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), count);
    let most = tables.iter().filter_map(|t| t.counts).map(|c| c.total()).max().unwrap_or(0);
    let mut table = Table::new(&["TABLE", ">ROWS THEN", ">ROWS NOW", ">+ADDED", ">-REMOVED", ">~CHANGED", ""]).indented(2);
    for t in tables {
        let number = |pick: fn(&crate::sqlite::row_pair::Counts) -> u64, change| match t.counts.as_ref().map(pick) {
            None => "?".to_owned(),
            Some(0) => style::faint("0").to_string(),
            Some(n) => rows::coloured(change, count(n)),
        };
        let picture = t.counts.map_or_else(String::new, |c| {
            let parts = diffstat([c.added, c.removed, c.changed], most, PICTURE);
            let changes = [(Change::Added, "+"), (Change::Removed, "-"), (Change::Changed, "~")];
            parts.into_iter().zip(changes).map(|(n, (change, sign))| rows::coloured(change, sign.repeat(n))).collect()
        });
        table.row(vec![
            rows::escaped(&t.table),
            rows(t.backup_rows),
            rows(t.live_rows),
            number(|c| c.added, Change::Added),
            number(|c| c.removed, Change::Removed),
            number(|c| c.changed, Change::Changed),
            picture,
        ]);
    }
    table.render() + &notes(tables)
}

/// What is to be said of tables; the same of several at once.
fn notes(tables: &[TableComparison]) -> String {
    let mut said: Vec<(String, Vec<&str>)> = Vec::new();
    for t in tables {
        for note in notes_of(t) {
            match said.iter_mut().find(|(n, _)| *n == note) {
                Some((_, names)) => names.push(&t.table),
                None => said.push((note, vec![&t.table])),
            }
        }
    }
    said.iter().map(|(note, names)| rows::wrapped(&rows::escaped(&format!("{}: {note}", names.join(", "))), 2, 4)).collect()
}

fn notes_of(t: &TableComparison) -> Vec<String> {
    let columns = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("columns {what}: {}", names.join(", ")));
    let note = t.note.as_ref().map(|n| if t.counts.is_none() { format!("not compared: {n}") } else { n.clone() });
    [columns("added", &t.columns_added), columns("removed", &t.columns_removed), note].into_iter().flatten().collect()
}

fn schema(s: &SchemaDifference) -> String {
    let what = format!("{} {} {}", s.kind, rows::escaped(&s.name), s.change.as_str());
    format!("{} {what}", rows::coloured(s.change, rows::sign(s.change)))
}

fn document(c: &Comparison) -> Value {
    json!({
        "timestamp": c.timestamp.to_string(),
        "identical": c.identical,
        "databases": c.databases.iter().map(database).collect::<Vec<_>>(),
        "warnings": c.warnings,
    })
}

fn database(d: &DatabaseComparison) -> Value {
    json!({
        "source": d.source,
        "difference": d.difference.as_str(),
        "pagesDifferent": d.pages_different,
        "pagesTotal": d.pages_total,
        "sameContent": d.same_content,
        "tables": d.tables.iter().map(table).collect::<Vec<_>>(),
        "schema": d.schema.iter().map(|s| json!({ "type": s.kind, "name": s.name, "change": s.change.as_str() })).collect::<Vec<_>>(),
        "notes": d.notes,
    })
}

fn table(t: &TableComparison) -> Value {
    let mut document = json!({
        "table": t.table,
        "backupRows": t.backup_rows,
        "liveRows": t.live_rows,
        "added": t.counts.map(|c| c.added),
        "removed": t.counts.map(|c| c.removed),
        "changed": t.counts.map(|c| c.changed),
        "columnsAdded": t.columns_added,
        "columnsRemoved": t.columns_removed,
        "note": t.note,
    });
    if let Some(rows) = &t.rows {
        document["rows"] = json!(rows);
        document["rowsTruncated"] = json!(t.rows_truncated);
    }
    document
}
