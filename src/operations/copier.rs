//! Copies databases into a set in the making: one pass over the bytes into file, hash and archive.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use serde_json::{Map, Value};

use super::archive_run::{Archive, ArchiveRun};
use super::blocks::{HashingFile, IN_FLIGHT, panicked, read_blocks};
use super::sources::{SIDE_FILE_OF, Source, State};
use crate::backup_set::checksum;
use crate::backup_set::metadata::{DatabaseRecord, Integrity, SqliteRecord};
use crate::backup_set::names;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Monitor;
use crate::project::Database;
use crate::sqlite::page_stream::{self, Block};
use crate::sqlite::raw_file::{FileState, RawFile, mode_of};
use crate::store::staging::Staging;

/// Gives every block of a database to the sink it is handed.
type Producer<'a> = dyn FnMut(&mut dyn FnMut(Block) -> Result<()>) -> Result<()> + 'a;

/// How often a file that moved while it was read is read again.
const ATTEMPTS: usize = 5;

/// What copying needs to know.
pub(super) struct Copier<'a> {
    pub staging: &'a Staging,
    pub monitor: &'a Monitor,
}

impl Copier<'_> {
    /// Copies every source. The archive, if one is wanted, still lacks the metadata.
    pub fn copy_all(&self, sources: &mut [Source], files: &[String], compress: bool) -> Result<(Vec<DatabaseRecord>, Archive)> {
        let mut archive = match compress {
            false => Archive::None,
            true if sources.iter().any(keeps_writers_waiting) => Archive::FromCopies,
            true => Archive::Running(ArchiveRun::start(self.staging)?),
        };
        let mut records = Vec::new();
        for (source, file) in sources.iter_mut().zip(files) {
            let record = self.copy_one(source, file, &mut archive)?;
            let line = checksum::sidecar_line(&record.sha256, file);
            durable::write_new(&self.staging.dir.join(names::sidecar(file)), line.as_bytes())?;
            if let Some(run) = archive.running() {
                run.add_bytes(&names::sidecar(file), line.into_bytes());
            }
            records.push(record);
        }
        Ok((records, archive))
    }

    /// Copies one source, again if it moved meanwhile.
    fn copy_one(&self, source: &mut Source, file: &str, archive: &mut Archive) -> Result<DatabaseRecord> {
        let target = self.staging.dir.join(file);
        let Database { source: label, path } = source.database;
        for _ in 0..ATTEMPTS {
            let attempt = match &mut source.state {
                State::Pages { live, facts, .. } => {
                    let copied = self.tee(label, facts.size(), &target, file, archive, &mut |sink| page_stream::stream(live, facts, sink));
                    copied.map(|(size, hash)| (size, hash, facts.file))
                }
                State::Raw { .. } => {
                    let before = FileState::of(path)?;
                    let mut raw = RawFile::open(path)?;
                    let copied = self
                        .tee(label, before.map_or(0, |s| s.size), &target, file, archive, &mut |sink| read_blocks(&mut raw, path, sink));
                    copied.map(|(size, hash)| (size, hash, before))
                }
            };
            match attempt {
                Ok((size, sha256, before)) if stood_still(&source.state, before, FileState::of(path)?, size) => {
                    // Its writers wait for the copy only, not for the other databases, the archive and the check.
                    if let State::Pages { live, locked: false, .. } = &mut source.state {
                        live.release()?;
                    }
                    return Ok(make_record(source, file, size, sha256, mode_of(path)?));
                }
                Ok(_) => {}
                // A page that SQLite can't read: the bytes as they are are better than nothing.
                Err(e) if e.code == Code::SourceDamaged => source.state = State::Raw { damaged: Some(e.message) },
                Err(e) => return Err(e),
            }
            durable::remove_file(&target)?;
            archive.spoil();
            match &mut source.state {
                State::Pages { locked: true, .. } => break,
                State::Pages { live, facts, .. } => **facts = live.pin_again()?,
                State::Raw { .. } => {}
            }
        }
        let shown = path.display();
        Err(Error::new(
            Code::DatabaseBusy,
            format!("{shown} kept changing while it was read: something rewrites it without locks; stop that program meanwhile"),
        ))
    }

    /// Runs `produce` and sends every block to the file with its hash, on a thread of its own, and to the archive.
    fn tee(&self, label: &str, size: u64, target: &Path, file: &str, archive: &Archive, produce: &mut Producer) -> Result<(u64, String)> {
        let out = HashingFile::create(target)?;
        let member = archive.running().map(|run| run.open(file.to_owned(), size));
        thread::scope(|scope| {
            let (blocks, received) = sync_channel::<Block>(IN_FLIGHT);
            let writer = thread::Builder::new().name("backup-writer".into());
            let writer = writer.spawn_scoped(scope, move || write_blocks(out, &received)).map_err(Error::no_thread)?;
            let produced = produce(&mut |block| {
                self.monitor.check()?;
                self.monitor.advance(label, block.len() as u64);
                if let Some(member) = &member {
                    // A compressor that failed hung up; its error comes out when the archive is finished.
                    let _ = member.send(Arc::clone(&block));
                }
                // A writer that failed hung up too, and its error comes out below; reading on would only hold the locks.
                blocks.send(block).map_err(|e| Error::new(Code::IoError, "the copy can't be written").caused_by(e.to_string()))
            });
            drop(blocks);
            let written = writer.join().unwrap_or_else(|_| Err(panicked())).context("write", target);
            // A full disk makes the producer fail too; the writer's error is the cause.
            let (bytes, sha256) = written?;
            produced?;
            Ok((bytes, sha256))
        })
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

fn write_blocks(mut out: HashingFile, blocks: &Receiver<Block>) -> io::Result<(u64, String)> {
    while let Ok(block) = blocks.recv() {
        out.write_all(&block)?;
    }
    out.finish()
}

fn make_record(source: &Source, file: &str, size: u64, sha256: String, mode: Option<u32>) -> DatabaseRecord {
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
    DatabaseRecord { file: file.to_owned(), source: source.database.source.clone(), size, sha256, sqlite, extra }
}
