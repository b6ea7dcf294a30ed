//! What a running operation tells its caller, and how the caller tells it to stop.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use std::time::{Duration, Instant};

use crate::error::{Code, Error, Result};

/// The step an operation is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the lock of the backups folder.
    Lock,
    /// Copying pages of live databases into the set.
    Copy,
    /// Reading back and checking what was written.
    Verify,
    /// Writing pages into live databases.
    Write,
    /// Done; reported once, at 100 %, before the promise resolves.
    Done,
}

impl Phase {
    /// The phase as it appears in JavaScript.
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Lock => "lock",
            Phase::Copy => "copy",
            Phase::Verify => "verify",
            Phase::Write => "write",
            Phase::Done => "done",
        }
    }
}

/// One report. Bytes count within the phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The step.
    pub phase: Phase,
    /// The database being worked on, relative to the root; empty between databases.
    pub file: String,
    /// Bytes done in this phase.
    pub bytes_done: u64,
    /// Bytes to do in this phase; 0 when not known.
    pub bytes_total: u64,
}

type Listener = dyn Fn(Progress) + Send + Sync;

/// Handed down through every operation: progress out, cancellation in. Clones share both.
#[derive(Clone, Default)]
pub struct Monitor {
    cancelled: Arc<AtomicBool>,
    listener: Option<Arc<Listener>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    phase: Option<Phase>,
    done: u64,
    total: u64,
    last: Option<Instant>,
}

/// At most one report in this time, so that a callback can't slow a backup down.
const INTERVAL: Duration = Duration::from_millis(50);

impl Monitor {
    /// A monitor that calls `listener` from the working thread.
    pub fn with_listener(listener: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Monitor { listener: Some(Arc::new(listener)), ..Monitor::default() }
    }

    /// The same monitor, reporting to `listener` instead.
    #[must_use]
    pub fn reporting_to(self, listener: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Monitor { listener: Some(Arc::new(listener)), ..self }
    }

    /// Asks the operation to stop at its next safe point.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// Whether [`Monitor::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// `ABORT_ERR` once cancelled.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(Code::Abort, "The operation was aborted"));
        }
        Ok(())
    }

    /// Starts a phase of `total` bytes (0: unknown).
    pub fn start(&self, phase: Phase, total: u64) {
        if let Ok(mut s) = self.state.lock() {
            *s = State { phase: Some(phase), total, ..State::default() };
        }
        self.report("", true);
    }

    /// Adds `bytes` to the phase, on behalf of `file`.
    pub fn advance(&self, file: &str, bytes: u64) {
        if let Ok(mut s) = self.state.lock() {
            s.done += bytes;
        }
        self.report(file, false);
    }

    /// The last report: everything is done.
    pub fn finish(&self) {
        if let Ok(mut s) = self.state.lock() {
            s.phase = Some(Phase::Done);
            s.done = s.done.max(s.total);
            s.total = s.done;
        }
        self.report("", true);
    }

    fn report(&self, file: &str, always: bool) {
        let Some(listener) = &self.listener else { return };
        let Ok(mut s) = self.state.lock() else { return };
        let Some(phase) = s.phase else { return };
        if !always && s.last.is_some_and(|t| t.elapsed() < INTERVAL) {
            return;
        }
        s.last = Some(Instant::now());
        let progress = Progress { phase, file: file.to_owned(), bytes_done: s.done, bytes_total: s.total };
        drop(s);
        listener(progress);
    }
}
