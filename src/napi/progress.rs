//! `onProgress`: reports wait in a short queue, JavaScript is woken to fetch them, and the last one comes before the promise settles.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::Env;
use napi::bindgen_prelude::{FnArgs, FunctionRef, Unknown};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;

use super::error::{Failure, caught, words};
use crate::progress::{Monitor, Phase, Progress};

/// The arguments of a progress callback.
pub type ProgressArgs = FnArgs<(ProgressEvent,)>;

/// The caller's function, shared between the queue's reader and the last report.
pub type Callback = Arc<FunctionRef<ProgressArgs, Unknown<'static>>>;

/// One report on a running operation, at most one per 50 ms and at the start of each phase.
#[napi(object, object_from_js = false)]
pub struct ProgressEvent {
    /// `lock`: waiting for another run. `copy`: reading live databases. `verify`: checking what was written, or the backup
    /// that is about to be restored. `write`: writing into live databases. `done`: the last report of a call that succeeded;
    /// it comes before the promise resolves.
    #[napi(ts_type = "'lock' | 'copy' | 'verify' | 'write' | 'done'")]
    pub phase: &'static str,
    /// The database being worked on, relative to the root; empty between databases.
    pub file: String,
    /// Bytes done in this phase.
    pub bytes_done: i64,
    /// Bytes to do in this phase; 0 when not known.
    pub bytes_total: i64,
    /// Share of this phase that is done, 0 to 100; 0 while the total is not known, 100 when done.
    pub percent: f64,
}

impl From<Progress> for ProgressEvent {
    fn from(p: Progress) -> Self {
        let share = if p.bytes_total == 0 { 0.0 } else { p.bytes_done as f64 / p.bytes_total as f64 };
        let percent = if p.phase == Phase::Done { 100.0 } else { (share * 1000.0).round().min(1000.0) / 10.0 };
        let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        ProgressEvent { phase: p.phase.as_str(), file: p.file, bytes_done: bytes(p.bytes_done), bytes_total: bytes(p.bytes_total), percent }
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Progress>,
    /// JavaScript has been woken and has not come yet.
    woken: bool,
    /// Nothing more is delivered: the promise is settling, or the callback threw.
    closed: bool,
    /// The operation's own last report, kept for [`Reporter::end`].
    done: Option<Progress>,
    /// What the callback threw.
    thrown: Option<String>,
}

impl Queue {
    /// Takes a report in. Where JavaScript lags behind, a phase's newer report replaces its older one, so the queue stays short.
    /// Says whether JavaScript has to be woken.
    fn push(&mut self, progress: Progress) -> bool {
        if self.closed {
            return false;
        }
        if progress.phase == Phase::Done {
            self.done = Some(progress);
            return false;
        }
        match self.waiting.back_mut() {
            Some(last) if last.phase == progress.phase => *last = progress,
            _ => self.waiting.push_back(progress),
        }
        !std::mem::replace(&mut self.woken, true)
    }
}

type Shared = Arc<Mutex<Queue>>;

fn lock(queue: &Shared) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Delivers the reports of one call.
pub struct Reporter {
    queue: Shared,
    callback: Callback,
}

impl Reporter {
    /// A monitor whose reports reach `callback`, and the reporter that closes the account.
    pub fn new(env: &Env, callback: Callback) -> napi::Result<(Monitor, Self)> {
        let queue = Shared::default();
        let (theirs, call) = (queue.clone(), callback.clone());
        let drain = env.create_function_from_closure::<(), (), _>("onProgress", move |context| {
            lock(&theirs).woken = false;
            drain(&*context.env, &theirs, &call);
            Ok(())
        })?;
        // Weak: waiting for reports is no reason to keep the process alive; the promise is.
        let wake = drain.build_threadsafe_function::<()>().weak::<true>().build()?;
        let ours = queue.clone();
        let monitor = Monitor::with_listener(move |progress| {
            if lock(&ours).push(progress) {
                // Refused only while the environment is going away, when there is no one left to tell.
                wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
            }
        });
        Ok((monitor, Reporter { queue, callback }))
    }

    /// Delivers what is still waiting and, after a success, the last report. Returns what the callback threw, if it did.
    pub fn end(self, env: &Env, success: bool) -> Option<String> {
        drain(env, &self.queue, &self.callback);
        let last = {
            let mut queue = lock(&self.queue);
            let open = !std::mem::replace(&mut queue.closed, true);
            let done = queue.done.take().unwrap_or(Progress { phase: Phase::Done, file: String::new(), bytes_done: 0, bytes_total: 0 });
            (open && success).then_some(done)
        };
        if let Some(last) = last {
            deliver(env, &self.queue, &self.callback, last);
        }
        lock(&self.queue).thrown.take()
    }
}

fn drain(env: &Env, queue: &Shared, callback: &Callback) {
    // The lock is not held while the callback runs: it may call us.
    while let Some(progress) = { lock(queue).waiting.pop_front() } {
        deliver(env, queue, callback, progress);
    }
}

/// Calls the callback. One that throws is not called again, and the operation goes on: a backup does not fail over its display.
fn deliver(env: &Env, queue: &Shared, callback: &Callback, progress: Progress) {
    let result = callback.borrow_back(env).and_then(|f| f.apply((), FnArgs::from((ProgressEvent::from(progress),))));
    let Err(error) = result else { return };
    let message = match caught(env, error) {
        Failure::Thrown(value) => words(&value).to_owned(),
        _ => String::new(),
    };
    let mut queue = lock(queue);
    queue.waiting.clear();
    queue.closed = true;
    queue.thrown = Some(message);
}
