//! Copies databases into a set in the making, each from its pinned snapshot, or again if it moved meanwhile.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::archive_run::{Archive, ArchiveRun};
use super::blocks::read_blocks;
use super::small_files;
use super::sources::{SIDE_FILE_OF, Source, State};
use super::tee::{Copied, Tee};
use crate::backup_set::checksum;
use crate::backup_set::metadata::{DatabaseRecord, Integrity, SqliteRecord};
use crate::backup_set::names;
use crate::direct_io;
use crate::durable;
use crate::error::{Code, Error, Result};
use crate::progress::Monitor;
use crate::project::Database;
use crate::sqlite::health::{self, Checked};
use crate::sqlite::page_stream;
use crate::sqlite::raw_file::{FileState, RawFile, mode_of};
use crate::store::staging::Staging;

/// How often a file that moved while it was read is read again.
const ATTEMPTS: usize = 5;

/// What copying needs to know.
pub(super) struct Copier<'a> {
    pub staging: &'a Staging,
    /// Whether to read copies back, and to check the structure of what is copied where that keeps nobody waiting.
    pub verify: bool,
    pub monitor: &'a Monitor,
}

/// A copy, durable, and its record, which does not speak of its structure yet.
pub(super) struct Copy {
    pub record: DatabaseRecord,
    /// Whether the disk has what was written, if it was asked.
    pub is_on_disk: bool,
    /// Its file as it was left.
    pub state: FileState,
    /// What the check of the snapshot found: that the copy was made from, byte for byte.
    pub checked: Option<Checked>,
}

impl Copier<'_> {
    /// Copies every source. The archive, if one is wanted, still lacks the metadata.
    pub fn copy_all(&self, sources: &mut [Source], files: &[String], compress: bool) -> Result<(Vec<Copy>, Archive)> {
        let mut archive = match compress {
            false => Archive::None,
            true if sources.iter().any(keeps_writers_waiting) => Archive::FromCopies,
            true => Archive::Running(ArchiveRun::start(self.staging)?),
        };
        let mut copies = Vec::new();
        for (source, file) in sources.iter_mut().zip(files) {
            let copy = self.copy_one(source, file, &mut archive)?;
            let line = checksum::sidecar_line(&copy.record.sha256, file);
            small_files::write(&self.staging.dir.join(names::sidecar(file)), line.as_bytes(), self.verify)?;
            if let Some(run) = archive.running() {
                run.add_bytes(&names::sidecar(file), line.into_bytes());
            }
            copies.push(copy);
        }
        Ok((copies, archive))
    }

    /// Copies one source, again if it moved meanwhile.
    fn copy_one(&self, source: &mut Source, file: &str, archive: &mut Archive) -> Result<Copy> {
        for _ in 0..ATTEMPTS {
            match self.attempt(source, file, archive) {
                Ok(Some(copy)) => return Ok(copy),
                Ok(None) => {}
                // A page that SQLite can't read: the bytes as they are are better than nothing.
                Err(e) if e.code == Code::SourceDamaged => source.state = State::Raw { damaged: Some(e.message) },
                Err(e) => return Err(e),
            }
            durable::remove_file(&self.staging.dir.join(file))?;
            archive.spoil();
            match &mut source.state {
                State::Pages { locked: true, .. } => break,
                State::Pages { live, facts, .. } => **facts = live.pin_again()?,
                State::Raw { .. } => {}
            }
        }
        let shown = source.database.path.display();
        Err(Error::new(
            Code::DatabaseBusy,
            format!("{shown} kept changing while it was read: something rewrites it without locks; stop that program meanwhile"),
        ))
    }

    /// Copies one source; `None` if it moved meanwhile, and what was written is of no use.
    fn attempt(&self, source: &Source, file: &str, archive: &Archive) -> Result<Option<Copy>> {
        let Database { source: label, path } = source.database;
        let before = match &source.state {
            State::Pages { facts, .. } => facts.file,
            State::Raw { .. } => FileState::of(path)?,
        };
        let size = match &source.state {
            State::Pages { facts, .. } => facts.size(),
            State::Raw { .. } => before.map_or(0, |s| s.size),
        };
        let target = self.staging.dir.join(file);
        let member = archive.running().map(|run| run.open(file.to_owned(), size));
        // For the archive, or for the check of its structure.
        let is_checked = matches!(source.state, State::Pages { .. }) && !self.checks_snapshot(&source.state);
        let leave_cached = is_checked || matches!(archive, Archive::FromCopies);
        let tee = Tee { target: &target, size, member, verify: self.verify, leave_cached, monitor: self.monitor };
        let produce = |sink: &mut dyn FnMut(_) -> Result<()>| {
            let mut sink = |block: direct_io::Block| {
                self.monitor.advance(label, block.len() as u64);
                sink(block)
            };
            match &source.state {
                State::Pages { live, facts, .. } => page_stream::stream(live, facts, &mut sink),
                State::Raw { .. } => read_blocks(&mut RawFile::open(path)?, path, &mut sink),
            }
        };
        let then = || {
            let stood_still = stood_still(&source.state, before, FileState::of(path)?, size);
            if stood_still { self.settle(&source.state).map(Some) } else { Ok(None) }
        };
        let (copied, settled) = tee.run(produce, then)?;
        let Some(checked) = settled.filter(|_| copied.length == size) else { return Ok(None) };
        let (is_on_disk, state) = (copied.is_on_disk, copied.state);
        Ok(Some(Copy { record: make_record(source, file, copied, mode_of(path)?), is_on_disk, state, checked }))
    }

    /// What is left to be done with a source of which all was read. Its writers wait for the copy only, not for the other
    /// databases, the archive and the check; where none has to wait, the structure is checked here, in pages that were just
    /// read: the copy has the same, and would have to be read from the disk once more, in the order of its trees.
    fn settle(&self, state: &State) -> Result<Option<Checked>> {
        let State::Pages { live, locked, .. } = state else { return Ok(None) };
        let checked = self.checks_snapshot(state).then(|| health::check_snapshot(live)).transpose()?;
        if !locked {
            live.release()?;
        }
        Ok(checked)
    }

    /// Whether the structure of a source is checked in its snapshot, and not in the copy. Not under the lock of a restore: a
    /// connection that has seen damage can't write any more.
    fn checks_snapshot(&self, state: &State) -> bool {
        self.verify && matches!(state, State::Pages { facts, locked: false, .. } if facts.is_wal())
    }
}

/// Whether nobody can write to a database while it is read, for our sake: not in WAL mode, and not where a restore has
/// locked it anyway.
fn keeps_writers_waiting(source: &Source) -> bool {
    matches!(&source.state, State::Pages { facts, locked: false, .. } if !facts.is_wal())
}

/// Whether what was read is what is there. In WAL mode checkpoints change the file under our pin, which is as it should
/// be; in rollback mode our lock keeps every honest writer out, so any change is one made behind SQLite's back.
fn stood_still(state: &State, before: Option<FileState>, after: Option<FileState>, size: u64) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    match state {
        State::Pages { facts, .. } if facts.is_wal() => before.same_file(&after),
        // Also for a WAL database that had to be opened as unchanging: SQLite then calls its journal mode `delete`.
        State::Pages { .. } => before == after,
        State::Raw { .. } => before == after && size == before.size,
    }
}

fn make_record(source: &Source, file: &str, copied: Copied, mode: Option<u32>) -> DatabaseRecord {
    let mut extra = Map::new();
    if let Some(mode) = mode {
        extra.insert("mode".into(), Value::from(format!("{mode:04o}")));
    }
    if let Some(owner) = source.side_file_of {
        extra.insert(SIDE_FILE_OF.into(), Value::from(owner));
    }
    let sqlite = match &source.state {
        State::Pages { facts, .. } => Some(SqliteRecord {
            page_size: facts.page_size,
            page_count: facts.page_count,
            journal_mode: facts.journal_mode.clone(),
            encoding: facts.encoding.clone(),
            user_version: facts.user_version,
            application_id: facts.application_id,
            integrity: Integrity::NotChecked,
            tables: BTreeMap::new(),
            extra: Map::new(),
        }),
        State::Raw { damaged } => {
            if damaged.is_some() {
                extra.insert("damaged".into(), Value::Bool(true));
            }
            None
        }
    };
    DatabaseRecord {
        file: file.to_owned(),
        source: source.database.source.clone(),
        size: copied.length,
        sha256: copied.sha256,
        sqlite,
        extra,
    }
}
