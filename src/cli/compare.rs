//! `compare`: how the databases differ from a set.

use clap::Args;
use serde_json::{Value, json};

use super::bars::bar;
use super::table::Table;
use super::text::line;
use super::units::{count, plural};
use super::{Answer, style};
use crate::error::Result;
use crate::operations::{self, Comparison, Context, DatabaseComparison, Difference};

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup compare 20250116-120000

Nothing is changed, and programs may go on using the databases.";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// YYYYMMDD-HHMMSS
    timestamp: String,
}

pub(super) fn run(ctx: &Context, a: &Arguments) -> Result<Answer> {
    let comparison = operations::compare(ctx, &a.timestamp)?;
    Ok(Answer { document: document(&comparison), text: text(&comparison), exit: 0 })
}

fn text(c: &Comparison) -> String {
    let mut text = String::new();
    for d in &c.databases {
        line!(text, "{}: {}", style::strong(&d.source), verdict(d.difference));
        if d.difference == Difference::Different {
            text += &details(d);
        }
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
    if d.pages_total > 0 {
        let share = d.pages_different as f64 * 100.0 / d.pages_total as f64;
        let pages = format!("{} of {}", count(d.pages_different), plural(d.pages_total, "page", "pages"));
        line!(text, "  {pages} differ ({share:.1} %)  {}", style::doubtful(bar(d.pages_different, d.pages_total, 30)));
    }
    if !d.tables.is_empty() {
        let rows = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), count);
        let mut table = Table::new(&["TABLE", ">ROWS THEN", ">ROWS NOW"]).indented(2);
        for t in &d.tables {
            table.row(vec![t.table.clone(), rows(t.backup_rows), rows(t.live_rows)]);
        }
        text += &table.render();
    }
    for object in &d.schema {
        line!(text, "  schema: {object}");
    }
    text
}

fn document(c: &Comparison) -> Value {
    let each = |d: &DatabaseComparison| {
        json!({
            "source": d.source,
            "difference": d.difference.as_str(),
            "pagesDifferent": d.pages_different,
            "pagesTotal": d.pages_total,
            "tables": d.tables.iter().map(|t| json!({ "table": t.table, "backupRows": t.backup_rows, "liveRows": t.live_rows })).collect::<Vec<_>>(),
            "schema": d.schema,
        })
    };
    json!({ "timestamp": c.timestamp.to_string(), "identical": c.identical, "databases": c.databases.iter().map(each).collect::<Vec<_>>() })
}
