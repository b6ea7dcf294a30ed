//! Signals, as the program that hosts the command reports them: which one came, and whether it may end the process.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// The command is a process of its own, so there is one of each.
static LAST: AtomicI32 = AtomicI32::new(0);
static SEEN: AtomicBool = AtomicBool::new(false);
static SHIELDED: AtomicBool = AtomicBool::new(false);
static ASKING: AtomicBool = AtomicBool::new(false);

/// Notes `signal`. False if the process should end at once: at a question, when nothing has been done yet; and the
/// second one while nothing is shielded, from somebody who can't wait for an orderly end.
pub fn note(signal: i32) -> bool {
    LAST.store(signal, Ordering::SeqCst);
    let first = !SEEN.swap(true, Ordering::SeqCst);
    !ASKING.load(Ordering::SeqCst) && (first || SHIELDED.load(Ordering::SeqCst))
}

/// The signal that came since the last call, if one did.
pub(super) fn take() -> Option<i32> {
    match LAST.swap(0, Ordering::SeqCst) {
        0 => None,
        signal => Some(signal),
    }
}

/// Whether a signal came that nobody has taken yet.
pub(super) fn has_come() -> bool {
    LAST.load(Ordering::SeqCst) != 0
}

/// From here to its end no signal ends the process: what it is about to say, and its exit code, are all that is left of it
/// when the work is done.
pub(super) fn shield() {
    SHIELDED.store(true, Ordering::SeqCst);
}

/// While it lives, a person is asked, and nothing waits but the answer.
pub(super) struct Asking;

impl Asking {
    pub fn begin() -> Self {
        ASKING.store(true, Ordering::SeqCst);
        Asking
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        ASKING.store(false, Ordering::SeqCst);
    }
}
