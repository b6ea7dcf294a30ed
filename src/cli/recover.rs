//! `recover`: finishes or undoes what a dead run left.

use serde_json::{Value, json};

use super::text::{self, line};
use super::{Answer, style};
use crate::error::Result;
use crate::operations::{self, Context, Recovery};

pub(super) const EXAMPLES: &str = "Example:
  aqe-backup recover --root my-project

Every verb that changes the backups folder does this too before it begins.";

pub(super) fn run(ctx: &Context) -> Result<Answer> {
    let recovery = operations::recover(ctx)?;
    Ok(Answer { document: document(&recovery), text: text(&recovery), exit: 0 })
}

fn text(r: &Recovery) -> String {
    let mut text = String::new();
    text::warnings(&mut text, &r.warnings);
    if let Some(t) = r.finished_restore {
        line!(text, "{} the restore of {t}", style::good("Finished"));
    }
    if let Some(t) = r.undone_restore {
        line!(text, "{} the restore of {t}", style::good("Undid"));
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

fn document(r: &Recovery) -> Value {
    json!({
        "finishedRestore": r.finished_restore.map(|t| t.to_string()),
        "undoneRestore": r.undone_restore.map(|t| t.to_string()),
        "safetyBackup": r.safety_backup.map(|t| t.to_string()),
        "swept": r.swept,
        "warnings": r.warnings,
    })
}
