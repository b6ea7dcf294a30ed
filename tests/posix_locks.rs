//! The guarded system calls of our SQLite, beside POSIX locks of the same process: the unsafe code of this crate, in a form
//! that valgrind and the address sanitizer can watch (`npm run test:memory`). Linux: it looks into /proc.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentic_qe_backup::progress::Monitor;
use agentic_qe_backup::sqlite::connection::{Live, Patience};
use agentic_qe_backup::sqlite::posix_locks::{close_nameless, install, open_parked, release, with_private_files};
use rusqlite::Connection;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Descriptors are counted, so only one test may have some open at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn patience() -> Patience {
    Patience { timeout: Duration::from_secs(5), monitor: Monitor::default() }
}

fn database(dir: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let path = dir.join("app.db");
    with_private_files(|| {
        let c = Connection::open(&path)?;
        c.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (1), (2)")
    })?;
    Ok(path)
}

/// Descriptors of this process that are open on `path`.
fn descriptors_on(path: &Path) -> std::io::Result<usize> {
    let (device, inode) = fs::metadata(path).map(|m| (m.dev(), m.ino()))?;
    Ok(all_descriptors()?.iter().filter(|m| (m.dev(), m.ino()) == (device, inode)).count())
}

/// What every descriptor of this process is open on, but for the one that lists them.
fn all_descriptors() -> std::io::Result<Vec<fs::Metadata>> {
    Ok(fs::read_dir("/proc/self/fd")?.flatten().filter_map(|e| fs::metadata(e.path()).ok()).filter(|m| m.is_file()).collect())
}

fn lock_on_first_byte(kind: libc::c_int) -> libc::flock {
    // SAFETY: plain integers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_len = 1;
    lock
}

/// Takes a POSIX write lock on the first byte, as another SQLite of this process takes its own.
fn take_posix_lock(file: &File) {
    let mut lock = lock_on_first_byte(libc::F_WRLCK);
    // SAFETY: the descriptor is open and the lock valid for the call.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &mut lock) }, 0);
}

/// Whether somebody's lock is in the way of a write lock on the first byte.
fn is_locked(path: &Path) -> std::io::Result<bool> {
    let mut file = open_parked(path)?;
    let mut lock = lock_on_first_byte(libc::F_WRLCK);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) }, 0);
    release(&mut file);
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}

#[test]
fn a_posix_lock_of_this_process_outlives_every_use_that_we_make_of_its_file() -> Outcome {
    let _alone = alone();
    install()?;
    let dir = tempfile::tempdir()?;
    let path = database(dir.path())?;
    let application = File::options().read(true).write(true).open(&path)?;
    take_posix_lock(&application);
    for _ in 0..3 {
        let (live, facts) = Live::open_pinned(&path, &patience())?;
        assert!(facts.page_count > 0);
        drop(live);
        assert!(is_locked(&path)?, "a pinned look took the lock away");
        let (live, _) = Live::open_locked(&path, &patience())?;
        drop(live);
        assert!(is_locked(&path)?, "a write lock of ours took the lock away");
        let mut raw = open_parked(&path)?;
        let mut bytes = Vec::new();
        raw.read_to_end(&mut bytes)?;
        release(&mut raw);
        assert!(is_locked(&path)?, "a raw read took the lock away");
    }
    drop(application);
    assert!(!is_locked(&path)?, "the lock that was looked for is not the application's");
    Ok(())
}

#[test]
fn descriptors_do_not_grow_with_use() -> Outcome {
    let _alone = alone();
    install()?;
    let dir = tempfile::tempdir()?;
    let path = database(dir.path())?;
    let mut most = 0;
    for _ in 0..50 {
        let (live, _) = Live::open_locked(&path, &patience())?;
        drop(live);
        let mut raw = open_parked(&path)?;
        raw.rewind()?;
        release(&mut raw);
        most = most.max(descriptors_on(&path)?);
    }
    assert!((1..=3).contains(&most), "{most} descriptors of one file");
    Ok(())
}

#[test]
fn a_parked_descriptor_goes_when_its_file_has_lost_its_name() -> Outcome {
    let _alone = alone();
    install()?;
    let dir = tempfile::tempdir()?;
    let path = database(dir.path())?;
    let mut raw = open_parked(&path)?;
    let inode = raw.metadata()?.ino();
    release(&mut raw);
    let open = || all_descriptors().map(|all| all.iter().any(|m| m.ino() == inode && m.nlink() == 0));
    fs::remove_file(&path)?;
    assert!(open()?, "the descriptor was not parked");
    close_nameless();
    assert!(!open()?);
    Ok(())
}

#[test]
fn a_parked_descriptor_is_not_taken_for_a_new_file_of_the_same_name() -> Outcome {
    let _alone = alone();
    install()?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("note.db");
    fs::write(&path, "then")?;
    let mut raw = open_parked(&path)?;
    release(&mut raw);
    fs::write(dir.path().join("new"), "now!")?;
    fs::rename(dir.path().join("new"), &path)?;
    let mut raw = open_parked(&path)?;
    raw.rewind()?;
    let mut text = String::new();
    raw.read_to_string(&mut text)?;
    release(&mut raw);
    assert_eq!(text, "now!");
    Ok(())
}

#[test]
fn files_that_are_ours_alone_are_closed_at_once() -> Outcome {
    let _alone = alone();
    install()?;
    let dir = tempfile::tempdir()?;
    let path = database(dir.path())?;
    assert_eq!(descriptors_on(&path)?, 0);
    with_private_files(|| Connection::open(&path)?.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0)))?;
    assert_eq!(descriptors_on(&path)?, 0);
    Ok(())
}
