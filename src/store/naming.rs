//! The names of new sets: each later than all before it, none given twice, none far ahead of the clock.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::lock::StoreLock;
use super::{folder, retention};
use crate::backup_set::names;
use crate::backup_set::timestamp::{self, Timestamp};
use crate::error::{IoContext, Result};
use crate::progress::Monitor;

/// Names are a second apart. Where sets are made faster for long, names run ahead of the clock; from here on, a run waits
/// for its second. Well below what counts as a clock that was wrong, which retention leaves out of account.
const AHEAD_SECONDS: i64 = 300;
/// How often a waiting run looks again.
const POLL: Duration = Duration::from_millis(20);

fn now() -> Timestamp {
    Timestamp::from_instant(jiff::Timestamp::now())
}

/// Gives the next name and notes it, so that it is not given again when its set is removed. Durable on return.
pub(super) fn give(lock: &StoreLock) -> Result<Timestamp> {
    let given = next(lock, now())?;
    note(lock, given)?;
    Ok(given)
}

/// Waits, no longer than the second that a set may take, while names are far ahead of the clock. Before databases are
/// held still: nobody else should have to wait too.
pub fn wait_for_turn(lock: &StoreLock, monitor: &Monitor) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline && is_ahead(lock)? {
        monitor.check()?;
        thread::sleep(POLL);
    }
    Ok(())
}

fn is_ahead(lock: &StoreLock) -> Result<bool> {
    let now = now();
    Ok(now.seconds_until(next(lock, now)?) > AHEAD_SECONDS)
}

/// `now`, or the second after the newest name if that is not earlier. A free second before the newest one (left by a
/// clean-up) is no use: the order of sets is the order of their names. Only names far in the future, given by a clock
/// that was wrong, don't count.
fn next(lock: &StoreLock, now: Timestamp) -> Result<Timestamp> {
    let mut taken = folder::timestamps(&lock.dir)?;
    taken.extend(last_given(lock)?);
    let newest = taken.iter().rev().find(|t| !retention::is_future(**t, now));
    let mut next = newest.map_or(now, |t| now.max(t.next()));
    while taken.contains(&next) {
        next = next.next();
    }
    Ok(next)
}

/// The content of the lock file. Anything but a name (an empty file, one that a dying machine left half written) tells
/// nothing; then there are still the sets.
fn last_given(lock: &StoreLock) -> Result<Option<Timestamp>> {
    noted_in(&lock.file).context("read", &lock.dir.join(names::LOCK))
}

/// Bytes of a name as it is noted.
pub(super) const NOTE_LEN: u64 = timestamp::LEN as u64 + 1;

/// The name that a lock file begins with.
pub(super) fn noted_in(mut file: &File) -> io::Result<Option<Timestamp>> {
    let mut text = Vec::with_capacity(timestamp::LEN);
    file.seek(SeekFrom::Start(0)).and_then(|_| file.take(timestamp::LEN as u64).read_to_end(&mut text))?;
    Ok(std::str::from_utf8(&text).ok().and_then(|t| t.parse().ok()))
}

fn note(lock: &StoreLock, given: Timestamp) -> Result<()> {
    let mut file = &lock.file;
    let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(format!("{given}\n").as_bytes()));
    written.and_then(|()| file.sync_data()).context("note the name of the set in", &lock.dir.join(names::LOCK))
}
