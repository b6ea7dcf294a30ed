//! Questions before something is overwritten or removed. Without a terminal there is nobody to ask.

use std::io::{self, BufRead, IsTerminal, Write};

use super::signals::{self, Asking};
use crate::error::{Code, Error, Result};

/// Shows `about` and asks `question` on standard error; anything but yes is no. `NEEDS_FORCE` without a terminal.
pub(super) fn ask(verb: &str, about: &str, question: &str) -> Result<bool> {
    require_terminal(verb)?;
    // Before the question is seen: from then on Ctrl-C has to end the process, since nobody looks for it while an answer is
    // waited for. One that came earlier may not have been looked for either.
    let _asking = Asking::begin();
    if signals::has_come() {
        return Err(Error::new(Code::Abort, format!("{verb} was cancelled; nothing was changed")));
    }
    eprint!("{about}{question} [y/N] ");
    io::stderr().flush().map_err(|e| Error::new(Code::IoError, format!("cannot ask: {e}")).caused_by(e))?;
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
