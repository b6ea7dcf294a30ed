//! Puts a backup's pages into a live database, inside the write lock that the caller holds.

use std::io::Read;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, Statement, params};

use super::connection::{Facts, Live, Patience, immutable_uri};
use super::failure::translate;
use super::header;
use super::posix_locks::with_private_files;
use crate::durable;
use crate::error::{Code, Error, Result};

/// What [`write_delta`] did, still uncommitted.
pub struct Delta {
    /// Pages that differed; 0: nothing was written and there is nothing to commit.
    pub pages_written: u64,
    /// The schema cookie the database will have; unchanged if nothing was written.
    pub cookie: u32,
}

/// The byte at which SQLite's lock page lies; no content is ever there.
const LOCK_BYTE: u64 = 1 << 30;

/// Makes the locked database equal to the backup read from `backup`, writing only pages that differ. Both must have
/// the same [`header::Layout`]. Nothing is durable before the commit. `wrote` hears of the bytes gone through.
pub fn write_delta(live: &Live, facts: &Facts, backup: &mut dyn Read, pages: u64, wrote: &mut dyn FnMut(u64)) -> Result<Delta> {
    let mut backup = Pages { inner: backup, size: facts.page_size as usize, wrote, live, page: Vec::new() };
    let mut compared = compare(live, facts, &mut backup, pages)?;
    let mut written = compared.differing.len() as u64;
    for (number, page) in std::mem::take(&mut compared.differing) {
        put(live, number, Some(&page))?;
    }
    let mut live_page =
        live.connection().prepare("SELECT data FROM sqlite_dbpage WHERE pgno = ?1").map_err(|e| live.translate(e, "read"))?;
    for number in compared.next..=pages {
        let page = backup.next(number)?;
        if number == 1 {
            compared.page1 = page.to_vec();
        } else if number != lock_page(facts) && !equals_live(live, facts, &mut live_page, number, page)? {
            put(live, number, Some(page))?;
            written += 1;
        }
    }
    drop(live_page);
    written += empty_the_tail(live, facts, pages)?;
    let (page1_written, cookie) = write_page1(live, facts, &compared.page1, pages, written > 0)?;
    Ok(Delta { pages_written: written + page1_written, cookie })
}

/// The page in which the lock byte lies.
fn lock_page(facts: &Facts) -> u64 {
    LOCK_BYTE / u64::from(facts.page_size) + 1
}

/// The pages of a backup, one after the other.
struct Pages<'a> {
    inner: &'a mut dyn Read,
    size: usize,
    wrote: &'a mut dyn FnMut(u64),
    live: &'a Live,
    page: Vec<u8>,
}

impl Pages<'_> {
    /// The next page, which is number `number`.
    fn next(&mut self, number: u64) -> Result<&[u8]> {
        if number.is_multiple_of(256) {
            self.live.monitor().check()?;
        }
        self.page.resize(self.size, 0);
        self.inner.read_exact(&mut self.page).map_err(|e| Error::io(e, "read the backup of", self.live.path()))?;
        (self.wrote)(self.size as u64);
        Ok(&self.page)
    }
}

/// Bytes of differing pages that are held in memory at most.
const HELD: usize = 16 << 20;

/// How far the two were compared, and what differs so far.
struct Compared {
    /// The backup's first page; it is not among the others.
    page1: Vec<u8>,
    /// Number and content in the backup.
    differing: Vec<(u64, Vec<u8>)>,
    /// The first page that was not compared.
    next: u64,
}

/// Compares live and backup in one scan, which takes a third of the time that it takes to ask for every page. Nothing may be
/// written meanwhile, so it ends early where much differs.
fn compare(live: &Live, facts: &Facts, backup: &mut Pages<'_>, pages: u64) -> Result<Compared> {
    let mut found = Compared { page1: Vec::new(), differing: Vec::new(), next: 1 };
    let translate = |e| live.translate(e, "read");
    let mut statement = live.connection().prepare("SELECT data FROM sqlite_dbpage").map_err(translate)?;
    let mut rows = statement.query([]).map_err(translate)?;
    while found.next <= pages.min(facts.page_count) && found.differing.len() * backup.size < HELD {
        let Some(row) = rows.next().map_err(translate)? else { break };
        let number = found.next;
        let theirs = backup.next(number)?;
        let same = row.get_ref(0).and_then(|data| Ok(data.as_blob()? == theirs)).map_err(translate)?;
        match number {
            1 => found.page1 = theirs.to_vec(),
            _ if same || number == lock_page(facts) => {}
            _ => found.differing.push((number, theirs.to_vec())),
        }
        found.next += 1;
    }
    Ok(found)
}

fn equals_live(live: &Live, facts: &Facts, live_page: &mut Statement<'_>, number: u64, page: &[u8]) -> Result<bool> {
    if number > facts.page_count {
        return Ok(false);
    }
    let same = live_page.query_row([number as i64], |r| Ok(r.get_ref(0)?.as_blob()? == page));
    same.map_err(|e| live.translate(e, "read"))
}

fn put(live: &Live, number: u64, data: Option<&[u8]>) -> Result<()> {
    live.patiently("write", || {
        live.connection()
            .prepare_cached("INSERT INTO sqlite_dbpage(pgno, data, schema) VALUES(?1, ?2, 'main')")?
            .execute(params![number as i64, data])
    })
    .map(drop)
}

/// Writes zeros over the pages beyond `pages`, which are about to be cut off; returns how many there are. That puts
/// their old content into the rollback journal, from which a crash during the commit must be able to bring it back.
fn empty_the_tail(live: &Live, facts: &Facts, pages: u64) -> Result<u64> {
    if facts.page_count <= pages {
        return Ok(0);
    }
    let zeros = vec![0u8; facts.page_size as usize];
    for number in (pages + 1..=facts.page_count).filter(|n| *n != lock_page(facts)) {
        if number % 256 == 0 {
            live.monitor().check()?;
        }
        put(live, number, Some(&zeros))?;
    }
    Ok(facts.page_count - pages)
}

/// Page 1, the cut and the cookie, in the only order that works:
///
/// - page 1 comes after all others: once it is written, this connection's own idea of it is stale;
/// - the cut comes after page 1: any page written through `sqlite_dbpage` after a cut silently cancels it;
/// - the cookie comes last, and not with page 1: a changed cookie would make the cut's statement read the schema anew,
///   from a page 1 that the connection does not know yet. `PRAGMA schema_version` writes it past `sqlite_dbpage`.
///
/// Returns pages written (0 or 1) and the cookie. When nothing differs, nothing is written.
fn write_page1(live: &Live, facts: &Facts, backup: &[u8], pages: u64, anything_written: bool) -> Result<(u64, u32)> {
    let now = live.page(1).map_err(|e| live.translate(e, "read"))?;
    let cookie = header::parse(&now).map_or(0, |h| h.schema_cookie);
    if !anything_written && header::same_page1(backup, &now) {
        return Ok((0, cookie));
    }
    put(live, 1, Some(&header::merge_page1(backup, &now, cookie)))?;
    if facts.page_count > pages {
        put(live, pages + 1, None)?;
    }
    let cookie = header::next_cookie(cookie);
    // The pragma takes the same 32 bits as a signed number.
    let set = format!("PRAGMA schema_version = {}", cookie.cast_signed());
    live.patiently("write", || live.connection().execute_batch(&set))?;
    Ok((1, cookie))
}

/// Replaces everything in an exclusively held database by the backup at `backup`, whatever its page size, encoding or
/// present damage. One transaction, durable when it returns; the exclusive lock is held until then. Returns the pages
/// written. A database that was in WAL mode must be put back into it by [`enter_wal`].
pub fn rebuild(mut live: Live, backup: &Path, facts: Option<&Facts>) -> Result<u64> {
    if facts.is_some_and(Facts::is_wal) {
        // A page size can't change in WAL mode.
        leave_wal(&live)?;
    } else {
        live.end_transaction()?;
    }
    with_private_files(|| copy_into(&mut live, backup))
}

/// Takes an exclusively held database out of WAL mode, which needs it to ourselves; ends the transaction, keeps the lock.
pub fn leave_wal(live: &Live) -> Result<()> {
    live.end_transaction()?;
    set_journal_mode(live, "delete")?;
    // A WAL that came back with the power would be replayed into what comes now. A transaction flushes the folder only if
    // its journal is new.
    durable::sync_dir(durable::parent_of(live.path()))
}

/// Puts a database back into WAL mode after a [`rebuild`], by a connection that knows its new encoding.
pub fn enter_wal(path: &Path, patience: &Patience) -> Result<()> {
    let live = Live::open_writable(path, patience)?;
    set_journal_mode(&live, "wal")
}

fn set_journal_mode(live: &Live, mode: &str) -> Result<()> {
    let now: String = live.patiently("change the journal mode of", || {
        live.connection().query_row(&format!("PRAGMA journal_mode = {mode}"), [], |r| r.get(0))
    })?;
    if now == mode {
        return Ok(());
    }
    Err(Error::new(
        Code::DatabaseBusy,
        format!(
            "{} is open elsewhere, and its page size, encoding or vacuum mode differs from the backup's: stop the programs that have it open, then restore again",
            live.path().display()
        ),
    ))
}

fn copy_into(live: &mut Live, backup: &Path) -> Result<u64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(immutable_uri(backup)?, flags).map_err(|e| translate(e, "open", backup))?;
    let path = live.path().to_path_buf();
    let fail = |e| translate(e, "write", &path);
    let run = Backup::new(&source, live.connection_mut()).map_err(fail)?;
    // One step: the whole copy is one transaction, and stepping again would let a reader's lock come between.
    match run.step(-1).map_err(fail)? {
        StepResult::Done => Ok(u64::try_from(run.progress().pagecount).unwrap_or(0)),
        _ => Err(Error::new(Code::DatabaseBusy, format!("{} is busy: another connection holds its lock", path.display()))),
    }
}
