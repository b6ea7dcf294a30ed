//! Questions before something is overwritten or removed. Without a terminal there is nobody to ask.

use std::io::{self, BufRead, IsTerminal, Write};

use super::signals::Asking;
use crate::error::{Code, Error, Result};

/// Shows `about` and asks `question` on standard error; anything but yes is no. `NEEDS_FORCE` without a terminal.
pub(super) fn ask(verb: &str, about: &str, question: &str) -> Result<bool> {
    require_terminal(verb)?;
    eprint!("{about}{question} [y/N] ");
    io::stderr().flush().map_err(|e| Error::new(Code::IoError, format!("cannot ask: {e}")).caused_by(e))?;
    let _asking = Asking::begin();
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| Error::new(Code::IoError, format!("cannot read the answer: {e}")).caused_by(e))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Whether there is anybody to ask, before work is done for the question's sake.
pub(super) fn require_terminal(verb: &str) -> Result<()> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Error::new(Code::NeedsForce, format!("{verb} asks first, and there is no terminal to ask on; pass --force")))
}
