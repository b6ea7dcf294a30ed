//! Work done by several threads whose outcomes are taken in the order in which the jobs were handed in.

use std::collections::VecDeque;
use std::io;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// More would wait for the disk, and each holds what it works on.
const MOST_THREADS: usize = 8;

/// A job, and where its outcome goes.
type Job<In, Out> = (In, SyncSender<Out>);

/// The next job; the others wait for the lock meanwhile instead of for the job. `None` when there will be none.
fn next<In, Out>(queue: &Mutex<Receiver<Job<In, Out>>>) -> Option<Job<In, Out>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Work that threads of ours do for whoever hands it in, in any order.
pub(super) struct Pool<In, Out> {
    jobs: Option<SyncSender<Job<In, Out>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<In: Send + 'static, Out: Send + 'static> Pool<In, Out> {
    /// Threads for every core, each with what `start` makes for it. An error if not even one can be had.
    pub fn start<W: FnMut(In) -> Out + 'static>(start: impl Fn() -> W + Send + Sync + 'static) -> io::Result<Self> {
        let wanted = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
        let (jobs, queue) = sync_channel::<Job<In, Out>>(0);
        let (queue, start) = (Arc::new(Mutex::new(queue)), Arc::new(start));
        let mut threads = Vec::new();
        for _ in 0..wanted {
            let (queue, start) = (Arc::clone(&queue), Arc::clone(&start));
            let work = move || {
                let mut work = start();
                while let Some((job, done)) = next(&queue) {
                    // Nobody listens any more when the run was given up.
                    let _ = done.send(work(job));
                }
            };
            match thread::Builder::new().name("aqe-worker".into()).spawn(work) {
                Ok(thread) => threads.push(thread),
                Err(e) if threads.is_empty() => return Err(e),
                // Fewer are slower, and enough.
                Err(_) => break,
            }
        }
        Ok(Pool { jobs: Some(jobs), threads })
    }

    /// How many jobs to keep under way.
    pub fn depth(&self) -> usize {
        self.threads.len() + 1
    }

    /// Hands a job in, waiting until a thread takes it; the outcome comes through what is returned.
    pub fn submit(&self, job: In) -> io::Result<Receiver<Out>> {
        let (done, outcome) = sync_channel(1);
        let gone = || io::Error::other("all worker threads are gone");
        self.jobs.as_ref().ok_or_else(gone)?.send((job, done)).map_err(|_| gone())?;
        Ok(outcome)
    }
}

impl<In, Out> Drop for Pool<In, Out> {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has hung up on whoever waited for it, who said so.
            let _ = thread.join();
        }
    }
}

/// The outcome of the job that was handed in first.
pub(super) fn outcome<Out>(under_way: &mut VecDeque<Receiver<io::Result<Out>>>) -> Option<io::Result<Out>> {
    under_way.pop_front().map(|receiver| receiver.recv().map_err(hung_up)?)
}

fn hung_up<T>(_: T) -> io::Error {
    io::Error::other("a worker thread panicked")
}
