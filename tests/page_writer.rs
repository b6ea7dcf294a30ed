//! Pages of one database put into another: like onto like, unlike, and onto what is no database any more.
//! The application's connections are closed first: here they would belong to the same SQLite copy as ours, of which
//! there may be one connection per file. Live applications are tested from Node, with a SQLite of their own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentic_qe_backup::progress::Monitor;
use agentic_qe_backup::sqlite::connection::{Live, Patience};
use agentic_qe_backup::sqlite::{header, page_stream, page_writer, posix_locks};
use rusqlite::Connection;

/// Ruins the bytes of a database.
type Damage = fn(&mut Vec<u8>);
type Outcome = Result<(), Box<dyn std::error::Error>>;

fn patience(ms: u64) -> Patience {
    Patience { timeout: Duration::from_millis(ms), monitor: Monitor::default() }
}

/// A database of `rows` rows of 1,000 bytes at `path`, made by `pragmas`.
fn make(path: &Path, pragmas: &str, rows: u32, byte: u8) -> rusqlite::Result<Connection> {
    // A lock taken before the shim is installed could not be given back through it.
    posix_locks::install().map_err(|e| rusqlite::Error::InvalidParameterName(e.to_string()))?;
    let c = Connection::open(path)?;
    c.execute_batch(pragmas)?;
    c.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB); BEGIN")?;
    for i in 0..rows {
        c.execute("INSERT INTO t VALUES(?1, ?2)", (i, vec![byte; 1000]))?;
    }
    c.execute_batch("COMMIT")?;
    Ok(c)
}

fn backup_of(dir: &Path, pragmas: &str, rows: u32) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let path = dir.join("backup.db");
    make(&path, pragmas, rows, 1)?.close().map_err(|(_, e)| e)?;
    Ok(path)
}

fn rows(path: &Path) -> rusqlite::Result<(i64, String)> {
    let c = Connection::open(path)?;
    Ok((c.query_row("SELECT count(*) FROM t", [], |r| r.get(0))?, c.query_row("PRAGMA integrity_check", [], |r| r.get(0))?))
}

fn delta(path: &Path, backup: &Path) -> Result<(Live, u64), Box<dyn std::error::Error>> {
    let (live, facts) = Live::open_locked(path, &patience(300))?;
    let pages = fs::metadata(backup)?.len() / u64::from(facts.page_size);
    let delta = page_writer::write_delta(&live, &facts, &mut File::open(backup)?, pages, &mut |_| ())?;
    Ok((live, delta.pages_written))
}

#[test]
fn a_delta_makes_the_live_database_equal_to_the_backup_in_every_journal_mode() -> Outcome {
    for mode in ["wal", "delete", "truncate", "persist"] {
        for (then, now) in [(500, 20), (20, 500), (100, 100), (0, 300), (300, 0)] {
            let dir = tempfile::tempdir()?;
            let backup = backup_of(dir.path(), "", then)?;
            let path = dir.path().join("live.db");
            drop(make(&path, &format!("PRAGMA journal_mode = {mode}"), now, 2)?);
            let (live, _) = delta(&path, &backup)?;
            live.flush()?;
            live.commit()?;
            assert_eq!(rows(&path)?, (i64::from(then), "ok".into()), "{mode} {now}→{then}");
            assert_eq!(fs::metadata(&path)?.len(), fs::metadata(&backup)?.len(), "{mode} {now}→{then}: what was too much is cut off");
        }
    }
    Ok(())
}

#[test]
fn after_a_restore_the_streamed_pages_are_the_backups_but_for_the_volatile_bytes() -> Outcome {
    let dir = tempfile::tempdir()?;
    let backup = backup_of(dir.path(), "", 50)?;
    let path = dir.path().join("live.db");
    drop(make(&path, "PRAGMA journal_mode = wal", 300, 2)?);
    let (live, written) = delta(&path, &backup)?;
    assert!(written > 0);
    live.flush()?;
    live.commit()?;
    let (live, facts) = Live::open_pinned(&path, &patience(300))?;
    let mut bytes = Vec::new();
    page_stream::stream(&live, &facts, &mut |b| {
        bytes.extend_from_slice(&b);
        Ok(())
    })?;
    drop(live);
    let expected = fs::read(&backup)?;
    assert!(header::same_page1(&bytes[..4096], &expected[..4096]) && bytes[4096..] == expected[4096..]);
    assert_eq!(delta(&path, &backup)?.1, 0, "a second restore has nothing to write");
    Ok(())
}

#[test]
fn a_restore_that_is_dropped_before_its_commit_changes_nothing() -> Outcome {
    for mode in ["wal", "delete"] {
        let dir = tempfile::tempdir()?;
        let backup = backup_of(dir.path(), "", 10)?;
        let path = dir.path().join("live.db");
        drop(make(&path, &format!("PRAGMA journal_mode = {mode}"), 300, 2)?);
        let (live, _) = delta(&path, &backup)?;
        live.flush()?;
        drop(live);
        assert_eq!(rows(&path)?, (300, "ok".into()), "{mode}");
    }
    Ok(())
}

#[test]
fn a_rebuild_changes_page_size_encoding_and_vacuum_mode_under_the_exclusive_lock() -> Outcome {
    for mode in ["wal", "delete"] {
        for pragmas in ["PRAGMA page_size = 512", "PRAGMA page_size = 65536", "PRAGMA encoding = 'UTF-16'", "PRAGMA auto_vacuum = FULL"] {
            let dir = tempfile::tempdir()?;
            let backup = backup_of(dir.path(), pragmas, 100)?;
            let path = dir.path().join("live.db");
            drop(make(&path, &format!("PRAGMA journal_mode = {mode}"), 300, 2)?);
            let (pinned, facts) = Live::open_pinned(&path, &patience(300))?;
            drop(pinned);
            let live = Live::open_exclusive(&path, &patience(300), false).map_err(|e| format!("{mode} {pragmas} open {e}"))?;
            page_writer::rebuild(live, &backup, Some(&facts)).map_err(|e| format!("{mode} {pragmas} rebuild {e}"))?;
            if facts.is_wal() {
                page_writer::enter_wal(&path, &patience(300))?;
            }
            let c = Connection::open(&path)?;
            assert_eq!(c.query_row("PRAGMA journal_mode", [], |r| r.get::<_, String>(0))?, mode);
            c.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
            drop(c);
            let (a, b) = (fs::read(&path)?, fs::read(&backup)?);
            let size = header::parse(&b).map_or(0, |h| h.layout.page_size as usize);
            assert!(a.len() == b.len() && header::same_page1(&a[..size], &b[..size]) && a[size..] == b[size..], "{mode} {pragmas}");
            assert_eq!(rows(&path)?, (100, "ok".into()), "{mode} {pragmas}");
        }
    }
    Ok(())
}

#[test]
fn a_rebuild_writes_over_what_is_no_database_any_more() -> Outcome {
    let damages: [(&str, Damage); 5] = [
        ("garbage", |b| b.fill(b'x')),
        ("zeroed header", |b| b[..100].fill(0)),
        ("truncated", |b| b.truncate(5000)),
        ("text", |b| *b = b"hello".to_vec()),
        ("bad schema page", |b| b[100..4096].fill(0xff)),
    ];
    for mode in ["wal", "delete"] {
        for (name, damage) in damages {
            let dir = tempfile::tempdir()?;
            let backup = backup_of(dir.path(), "", 100)?;
            let path = dir.path().join("live.db");
            drop(make(&path, &format!("PRAGMA journal_mode = {mode}"), 300, 2)?);
            let mut bytes = fs::read(&path)?;
            damage(&mut bytes);
            fs::write(&path, bytes)?;
            let live = Live::open_exclusive(&path, &patience(300), true).map_err(|e| format!("{mode} {name}: open: {e}"))?;
            page_writer::rebuild(live, &backup, None).map_err(|e| format!("{mode} {name}: rebuild: {e}"))?;
            assert_eq!(rows(&path).map_err(|e| format!("{mode} {name}: {e}"))?, (100, "ok".into()), "{mode} {name}");
        }
    }
    Ok(())
}

#[test]
fn looking_at_a_database_leaves_its_side_files_as_they_were() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("live.db");
    drop(make(&path, "PRAGMA journal_mode = wal", 10, 2)?);
    let names = || -> std::io::Result<Vec<_>> { fs::read_dir(dir.path())?.map(|e| e.map(|e| e.file_name())).collect() };
    let before = names()?;
    drop(Live::open_pinned(&path, &patience(300))?);
    assert_eq!(names()?, before, "closed cleanly by the application");
    let app = Connection::open(&path)?;
    app.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    app.execute("INSERT INTO t(b) VALUES(x'00')", [])?;
    drop(app);
    drop(Live::open_pinned(&path, &patience(300))?);
    assert!(dir.path().join("live.db-wal").metadata()?.len() > 0, "as after a crash: the rows are only there");
    assert_eq!(rows(&path)?, (11, "ok".into()));
    Ok(())
}
