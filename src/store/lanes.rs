//! Does the same with each of many small things, on a few threads.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use crate::error::{Code, Error, Result};

/// More would wait for the disk or for each other.
const MOST_THREADS: usize = 4;
/// What is done with fewer is done before a thread has started.
const FEW: usize = 64;
/// Taken at a time.
const BATCH: usize = 16;

/// `work` for each of `all`: the outcomes in the same order, or an error of one of them. Where no more threads are to be
/// had, it takes longer.
pub(super) fn each<In: Send, Out: Send>(all: Vec<In>, work: impl Fn(In) -> Result<Out> + Sync) -> Result<Vec<Out>> {
    if all.len() < FEW {
        return all.into_iter().map(work).collect();
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
    let queue = Mutex::new(all.into_iter().enumerate());
    let lane = || lane(&queue, &work);
    let lanes = thread::scope(|scope| {
        let start = |_| thread::Builder::new().name("aqe-reader".into()).spawn_scoped(scope, lane).ok();
        let others: Vec<ScopedJoinHandle<'_, _>> = (1..threads).map_while(start).collect();
        let own = lane();
        let panicked = |_| Err(Error::new(Code::IoError, "a worker thread panicked"));
        let lanes: Vec<Result<_>> = std::iter::once(own).chain(others.into_iter().map(|o| o.join().unwrap_or_else(panicked))).collect();
        lanes.into_iter().collect::<Result<Vec<_>>>()
    })?;
    let mut done: Vec<(usize, Out)> = lanes.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, out)| out).collect())
}

/// What one thread does: takes some, until there are none left.
fn lane<In, Out>(queue: &Mutex<impl Iterator<Item = (usize, In)>>, work: &impl Fn(In) -> Result<Out>) -> Result<Vec<(usize, Out)>> {
    let mut done = Vec::new();
    loop {
        let batch: Vec<(usize, In)> = queue.lock().unwrap_or_else(PoisonError::into_inner).by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return Ok(done);
        }
        for (at, one) in batch {
            done.push((at, work(one)?));
        }
    }
}
