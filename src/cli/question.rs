//! Restore's question, on a terminal.

use std::io::{self, IsTerminal, Write};

use crate::error::{Code, Error, Result};
use crate::operations::BackupInfo;

/// Asks before the databases are overwritten. Without a terminal there is nobody to ask, which is an error.
pub(super) fn confirm(what: &str, backup: Option<&BackupInfo>) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Error::new(
            Code::NeedsForce,
            "restore asks before it overwrites databases, and there is no terminal to ask on; pass --force",
        ));
    }
    let mut question = format!("Restore {what}?");
    if let Some(b) = backup {
        question = format!("{question} It holds {} file(s), {} bytes, from {}.", b.files.len(), b.size, b.date);
    }
    eprint!("{question} The databases as they are now are saved first. [y/N] ");
    io::stderr().flush().map_err(|e| Error::new(Code::IoError, format!("cannot ask: {e}")))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|e| Error::new(Code::IoError, format!("cannot read the answer: {e}")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
