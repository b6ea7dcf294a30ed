//! Restore's question, on a terminal: what changes, and from what size to what size.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use super::units::bytes;
use crate::error::{Code, Error, Result};
use crate::operations::BackupInfo;

/// Asks before the databases below `root` are overwritten by `what`. Without a terminal there is nobody to ask, which
/// is an error.
pub(super) fn confirm(what: &str, backup: Option<&BackupInfo>, root: &Path) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Error::new(
            Code::NeedsForce,
            "restore asks before it overwrites databases, and there is no terminal to ask on; pass --force",
        ));
    }
    let mut question = String::new();
    for line in backup.map(|b| changes(b, root)).unwrap_or_default() {
        // Writing to a string can't fail.
        let _ = writeln!(question, "  {line}");
    }
    eprint!("{question}The databases as they are now are saved first. Restore {what}? [y/N] ");
    io::stderr().flush().map_err(|e| Error::new(Code::IoError, format!("cannot ask: {e}")))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|e| Error::new(Code::IoError, format!("cannot read the answer: {e}")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// One line for each database. Only sizes of files are looked at: nothing is opened before the answer.
fn changes(backup: &BackupInfo, root: &Path) -> Vec<String> {
    let Some(metadata) = backup.metadata.as_ref().filter(|m| m.databases.is_some()) else {
        return vec![format!("{} database(s), {} in all, of {}", backup.files.len(), bytes(backup.size), backup.date)];
    };
    let now = |source: &str| root.join(source).metadata().map_or_else(|_| "missing".to_owned(), |m| bytes(m.len()));
    metadata
        .databases()
        .iter()
        .map(|d| format!("{}: {} now, {} in the backup of {}", d.source, now(&d.source), bytes(d.size), backup.date))
        .collect()
}
