//! Work done by several threads whose outcomes are taken in the order in which the jobs were handed in.

use std::collections::VecDeque;
use std::io;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::priority;

/// More would wait for the disk, and each holds what it works on.
const MOST_THREADS: usize = 8;

/// What is done with a job; each thread has its own.
type Work<In, Out> = Box<dyn FnMut(In) -> io::Result<Out>>;

/// A job, and where its outcome goes.
type Job<In, Out> = (In, SyncSender<io::Result<Out>>);

/// The next job; the others wait for the lock meanwhile instead of for the job. `None` when there will be none.
fn next<In, Out>(queue: &Mutex<Receiver<Job<In, Out>>>) -> Option<Job<In, Out>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Threads that work for whoever hands a job in, and the outcomes that are still to be taken.
pub(super) struct Pool<In, Out> {
    jobs: Option<SyncSender<Job<In, Out>>>,
    threads: Vec<JoinHandle<()>>,
    /// For the thread that hands jobs in, where no other is to be had.
    own: Work<In, Out>,
    under_way: VecDeque<Receiver<io::Result<Out>>>,
}

impl<In: Send + 'static, Out: Send + 'static> Pool<In, Out> {
    /// A thread for every core, each with the work that `start` makes for it. Where fewer can be had, or none, it takes
    /// longer.
    pub fn start(start: impl Fn() -> Work<In, Out> + Send + Sync + 'static) -> Self {
        let wanted = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
        let (jobs, queue) = sync_channel::<Job<In, Out>>(0);
        let (queue, start) = (Arc::new(Mutex::new(queue)), Arc::new(start));
        let own = start();
        let mut threads = Vec::new();
        for _ in 0..wanted {
            let (queue, start) = (Arc::clone(&queue), Arc::clone(&start));
            let work = move || {
                priority::give_way();
                let mut work = start();
                while let Some((job, done)) = next(&queue) {
                    // Nobody listens any more when the run was given up.
                    let _ = done.send(work(job));
                }
            };
            match thread::Builder::new().name("aqe-worker".into()).spawn(work) {
                Ok(thread) => threads.push(thread),
                Err(_) => break,
            }
        }
        Pool { jobs: Some(jobs), threads, own, under_way: VecDeque::new() }
    }

    /// Whether another job would only wait.
    pub fn is_full(&self) -> bool {
        self.under_way.len() > self.threads.len()
    }

    /// Hands a job in, waiting until a thread takes it.
    pub fn submit(&mut self, job: In) -> io::Result<()> {
        let (done, outcome) = sync_channel(1);
        let gone = || io::Error::other("all worker threads are gone");
        if self.threads.is_empty() {
            done.send((self.own)(job)).map_err(|_| gone())?;
        } else {
            self.jobs.as_ref().ok_or_else(gone)?.send((job, done)).map_err(|_| gone())?;
        }
        self.under_way.push_back(outcome);
        Ok(())
    }

    /// The outcome of the job that was handed in first, of those that were not taken yet; waits for it.
    pub fn take(&mut self) -> Option<io::Result<Out>> {
        let panicked = |_| io::Error::other("a worker thread panicked");
        self.under_way.pop_front().map(|outcome| outcome.recv().map_err(panicked)?)
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
