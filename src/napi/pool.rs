//! The threads on which operations run: started when needed, ended when idle; where there are none to be had, an error
//! and no panic.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

/// How many operations run at a time; more wait their turn.
const MAX_RUNNING: usize = 16;
/// How long an idle thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// What a thread is given to do.
pub type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    waiting: VecDeque<Job>,
    /// Seats that are taken and have no job yet.
    reserved: usize,
    threads: usize,
    idle: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { waiting: VecDeque::new(), reserved: 0, threads: 0, idle: 0 });
static WORK: Condvar = Condvar::new();

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that will come to one more job.
pub struct Seat(());

impl Seat {
    /// Starts a thread if none is free. An error only if there is not even a busy one that will come to it.
    pub fn take() -> Result<Self> {
        let mut pool = pool();
        if pool.idle <= pool.waiting.len() + pool.reserved && pool.threads < MAX_RUNNING {
            match thread::Builder::new().name("aqe-backup".into()).spawn(work) {
                Ok(_) => {
                    pool.threads += 1;
                    // On its way, and as good as idle: the next call must not count on it too.
                    pool.idle += 1;
                }
                Err(_) if pool.threads > 0 => {}
                Err(e) => return Err(Error::no_thread(e)),
            }
        }
        pool.reserved += 1;
        Ok(Seat(()))
    }

    /// Has `job` run.
    pub fn run(self, job: Job) {
        pool().waiting.push_back(job);
        WORK.notify_one();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        pool().reserved -= 1;
    }
}

fn work() {
    ignore_file_size_signal();
    let mut pool = pool();
    loop {
        if let Some(job) = pool.waiting.pop_front() {
            pool.idle -= 1;
            drop(pool);
            // A panic is reported by the job itself, to the caller; whatever comes after that must not cost the thread.
            drop(catch_unwind(AssertUnwindSafe(job)));
            pool = self::pool();
            pool.idle += 1;
            continue;
        }
        let (back, wait) = WORK.wait_timeout(pool, IDLE).unwrap_or_else(PoisonError::into_inner);
        pool = back;
        if wait.timed_out() && pool.waiting.is_empty() && pool.idle > pool.reserved {
            pool.idle -= 1;
            pool.threads -= 1;
            return;
        }
    }
}

/// A file that grows beyond the limit is an error of the write; the signal that comes with it would end the process, in a
/// host that does not ignore it. The threads that this one starts inherit it.
#[cfg(unix)]
#[allow(unsafe_code)]
fn ignore_file_size_signal() {
    // SAFETY: a signal set of our own, filled in before use; the mask is this thread's alone, and the thread is ours.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGXFSZ);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

#[cfg(not(unix))]
fn ignore_file_size_signal() {}
