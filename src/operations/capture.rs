//! Makes a set from databases that are already pinned or locked: one pass over the pages into file, hash and archive,
//! then everything is read back and checked, then the set is published. Shared by create and by the safety set of a
//! restore.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::provenance::Provenance;
use super::types::Context;
use crate::backup_set::archive::{self, Member};
use crate::backup_set::checksum;
use crate::backup_set::metadata::{DatabaseRecord, FORMAT, Integrity, Kind, Metadata, SqliteRecord};
use crate::backup_set::names;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::{Monitor, Phase};
use crate::project::{Database, Project};
use crate::sqlite::connection::{self, Facts, Live};
use crate::sqlite::health::{self, Verdict};
use crate::sqlite::page_stream::{self, BLOCK, Block};
use crate::sqlite::raw_file::{FileState, RawFile};
use crate::store::catalog::SetEntry;
use crate::store::lock::StoreLock;
use crate::store::staging::Staging;

/// Blocks in flight between the reader and each consumer: memory stays at a few of these, whatever the database.
const IN_FLIGHT: usize = 8;

/// Gives every block of a database to the sink it is handed.
type Producer<'a> = dyn FnMut(&mut dyn FnMut(Block) -> Result<()>) -> Result<()> + 'a;

/// How often a file that moved while it was read is read again.
const ATTEMPTS: usize = 5;

/// Key of a record that is not a database but the WAL of a damaged one.
pub(super) const SIDE_FILE_OF: &str = "side_file_of";

/// A database ready to be copied.
pub(super) struct Source<'a> {
    pub database: &'a Database,
    pub state: State<'a>,
    /// For the `-wal` of a database too damaged to be read: the database. It is kept for experts and never put back.
    pub side_file_of: Option<&'a str>,
}

/// How its bytes are had.
pub(super) enum State<'a> {
    /// Through SQLite, in a pinned snapshot or (`locked`) under our write lock.
    Pages { live: &'a mut Live, facts: &'a mut Facts, locked: bool },
    /// As they stand in the file: no SQLite database, or one too damaged to be read as one (then why).
    Raw { damaged: Option<String> },
}

/// The WAL of a database that can't be read as one: it may hold commits that somebody can still dig out.
pub(super) struct SideFile {
    database: Database,
    owner: String,
}

/// The WALs, not empty ones, of `damaged` databases.
pub(super) fn side_files<'a>(damaged: impl Iterator<Item = &'a Database>) -> Result<Vec<SideFile>> {
    let mut found = Vec::new();
    for database in damaged {
        let path = connection::side_file(&database.path, "-wal");
        if FileState::of(&path)?.is_some_and(|s| s.size > 0) {
            found
                .push(SideFile { database: Database { source: format!("{}-wal", database.source), path }, owner: database.source.clone() });
        }
    }
    Ok(found)
}

impl SideFile {
    /// To be copied as it stands.
    pub fn source(&self) -> Source<'_> {
        Source { database: &self.database, state: State::Raw { damaged: None }, side_file_of: Some(&self.owner) }
    }
}

/// What kind of set to make.
pub(super) struct Request {
    pub compress: bool,
    pub verify: bool,
    pub kind: Kind,
    pub label: Option<String>,
    pub operation: Option<String>,
}

/// A set that was published.
pub(super) struct Captured {
    pub metadata: Metadata,
    pub timestamp: Timestamp,
    pub warnings: Vec<String>,
    /// Each database that was found damaged, and how.
    pub damages: Vec<String>,
}

/// Bytes that a database will take, roughly, from the sizes of its files alone.
pub(super) fn estimate(database: &Database) -> Result<u64> {
    let size = |path: &Path| Ok::<_, Error>(FileState::of(path)?.map_or(0, |s| s.size));
    Ok(size(&database.path)? + size(&connection::side_file(&database.path, "-wal"))?)
}

/// Makes and publishes a set from `sources` (sorted by source). `earlier`: the sets there are, for comparison.
pub(super) fn capture(
    ctx: &Context,
    project: &Project,
    lock: &StoreLock,
    sources: &mut [Source],
    request: &Request,
    earlier: &[SetEntry],
) -> Result<Captured> {
    let staging = Staging::begin(lock, Timestamp::from_instant(jiff::Timestamp::now()))?;
    let labels: Vec<&str> = sources.iter().map(|s| s.database.source.as_str()).collect();
    let files: Vec<String> = names::assign(&labels).iter().map(|n| names::database(n, staging.timestamp)).collect();
    let total = sources.iter().map(Source::size_hint).sum::<Result<u64>>()?;
    ctx.monitor.start(Phase::Copy, total);

    let copier = Copier { staging: &staging, monitor: &ctx.monitor };
    let (mut records, archive) = copier.copy_all(sources, &files, request.compress)?;
    let mut damages = Vec::new();
    let mut warnings = Vec::new();
    if request.verify {
        ctx.monitor.start(Phase::Verify, records.iter().map(|r| r.size).sum());
        for record in &mut records {
            verify_copy(&staging, record, &ctx.monitor, &mut damages, &mut warnings)?;
        }
    }
    note_raw_damage(sources, &mut damages);
    let mut metadata = describe(project, &staging, request, records);
    metadata.shrunk_since = find_shrinkage(&metadata, earlier, &mut warnings);

    let json = metadata.to_json()?;
    finish_archive(&staging, archive, &metadata, &json, request, &ctx.monitor)?;
    durable::write_new(&staging.dir.join(names::metadata(staging.timestamp)), &json)?;
    ctx.monitor.check()?;
    let timestamp = staging.timestamp;
    staging.publish()?;
    Ok(Captured { metadata, timestamp, warnings, damages })
}

impl Source<'_> {
    fn size_hint(&self) -> Result<u64> {
        match &self.state {
            State::Pages { facts, .. } => Ok(facts.size()),
            State::Raw { .. } => Ok(FileState::of(&self.database.path)?.map_or(0, |s| s.size)),
        }
    }
}

struct Copier<'a> {
    staging: &'a Staging,
    monitor: &'a Monitor,
}

impl Copier<'_> {
    /// Copies every source. The archive, if one is wanted, still lacks the metadata.
    fn copy_all(&self, sources: &mut [Source], files: &[String], compress: bool) -> Result<(Vec<DatabaseRecord>, Option<ArchiveRun>)> {
        let mut archive = if compress { Some(ArchiveRun::start(self.staging)?) } else { None };
        let mut records = Vec::new();
        for (source, file) in sources.iter_mut().zip(files) {
            let record = self.copy_one(source, file, &mut archive)?;
            let line = checksum::sidecar_line(&record.sha256, file);
            durable::write_new(&self.staging.dir.join(names::sidecar(file)), line.as_bytes())?;
            if let Some(run) = &archive {
                run.add_bytes(&names::sidecar(file), line.into_bytes());
            }
            records.push(record);
        }
        Ok((records, archive))
    }

    /// Copies one source, again if it moved meanwhile.
    fn copy_one(&self, source: &mut Source, file: &str, archive: &mut Option<ArchiveRun>) -> Result<DatabaseRecord> {
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
                    return Ok(make_record(source, file, size, sha256, mode_of(path)));
                }
                Ok(_) => {}
                // A page that SQLite can't read: the bytes as they are are better than nothing.
                Err(e) if e.code == Code::SourceDamaged => source.state = State::Raw { damaged: Some(e.message) },
                Err(e) => return Err(e),
            }
            durable::remove_file(&target)?;
            if let Some(run) = archive {
                run.spoiled = true;
            }
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
    fn tee(
        &self,
        label: &str,
        size: u64,
        target: &Path,
        file: &str,
        archive: &mut Option<ArchiveRun>,
        produce: &mut Producer,
    ) -> Result<(u64, String)> {
        let out = HashingFile::create(target)?;
        let member = archive.as_ref().filter(|a| !a.spoiled).map(|a| a.open(file.to_owned(), size));
        thread::scope(|scope| {
            let (blocks, received) = sync_channel::<Block>(IN_FLIGHT);
            let writer = scope.spawn(move || write_blocks(out, &received));
            let produced = produce(&mut |block| {
                self.monitor.check()?;
                self.monitor.advance(label, block.len() as u64);
                if let Some(member) = &member {
                    // A compressor that failed hung up; its error comes out when the archive is finished.
                    let _ = member.send(Arc::clone(&block));
                }
                // The same for the writer, whose error is looked at next.
                let _ = blocks.send(block);
                Ok(())
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

fn panicked() -> io::Error {
    io::Error::other("a worker thread panicked")
}

/// Whether what was read is what is there. In WAL mode checkpoints change the file under our pin, which is as it should
/// be; in rollback mode our lock keeps every honest writer out, so any change is one made behind SQLite's back.
fn stood_still(state: &State, before: Option<FileState>, after: Option<FileState>, size: u64) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    match state {
        State::Pages { facts, .. } if facts.is_wal() => before.same_file(&after),
        State::Pages { .. } => before == after,
        State::Raw { .. } => before == after && size == before.size,
    }
}

fn read_blocks(file: &mut dyn Read, path: &Path, sink: &mut dyn FnMut(Block) -> Result<()>) -> Result<()> {
    loop {
        let mut block = Vec::with_capacity(BLOCK);
        file.take(BLOCK as u64).read_to_end(&mut block).context("read", path)?;
        if block.is_empty() {
            return Ok(());
        }
        sink(Arc::new(block))?;
    }
}

/// A new file that knows the hash of everything written to it.
struct HashingFile {
    file: File,
    hash: Sha256,
    length: u64,
}

impl HashingFile {
    fn create(path: &Path) -> Result<Self> {
        Ok(HashingFile { file: durable::create_exclusive(path)?, hash: Sha256::new(), length: 0 })
    }

    /// Flushes to disk; length and hash of what was written.
    fn finish(self) -> io::Result<(u64, String)> {
        self.file.sync_all()?;
        Ok((self.length, checksum::hex(&self.hash.finalize())))
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.length += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn write_blocks(mut out: HashingFile, blocks: &Receiver<Block>) -> io::Result<(u64, String)> {
    while let Ok(block) = blocks.recv() {
        out.write_all(&block)?;
    }
    out.finish()
}

/// A running archive: members go in, the finished file comes out.
struct ArchiveRun {
    members: SyncSender<Member>,
    thread: thread::JoinHandle<io::Result<HashingFile>>,
    /// A database had to be read twice; its first attempt is in the stream, which is of no use any more.
    spoiled: bool,
}

impl ArchiveRun {
    /// Starts the compressor on a thread of its own, writing into `staging`.
    fn start(staging: &Staging) -> Result<Self> {
        let out = HashingFile::create(&staging.dir.join(names::archive(staging.timestamp)))?;
        let (members, received) = sync_channel(1);
        let modified = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        let thread = thread::spawn(move || {
            let out = archive::write(io::BufWriter::with_capacity(BLOCK, out), modified, &received)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)
        });
        Ok(ArchiveRun { members, thread, spoiled: false })
    }

    /// Begins a member of `size` bytes. If the compressor has failed, the blocks go nowhere; [`ArchiveRun::finish`] says why.
    fn open(&self, name: String, size: u64) -> SyncSender<Block> {
        let (parts, body) = sync_channel(IN_FLIGHT);
        let _ = self.members.send(Member { name, size, body });
        parts
    }

    fn add_bytes(&self, name: &str, bytes: Vec<u8>) {
        let part = self.open(name.to_owned(), bytes.len() as u64);
        let _ = part.send(Arc::new(bytes));
    }

    /// Ends the archive; durable, length and hash of it.
    fn finish(self, path: &Path) -> Result<(u64, String)> {
        drop(self.members);
        let out = self.thread.join().unwrap_or_else(|_| Err(panicked())).context("write", path)?;
        out.finish().context("flush", path)
    }
}

/// Adds the metadata to the archive and ends it, reads it back if asked to, and writes its checksum.
fn finish_archive(
    staging: &Staging,
    run: Option<ArchiveRun>,
    metadata: &Metadata,
    json: &[u8],
    request: &Request,
    monitor: &Monitor,
) -> Result<()> {
    let Some(run) = run else { return Ok(()) };
    let path = staging.dir.join(names::archive(staging.timestamp));
    let run = if run.spoiled { repeat_archive(staging, run, metadata, &path, monitor)? } else { run };
    run.add_bytes(&names::metadata(staging.timestamp), json.to_vec());
    let (_, sha256) = run.finish(&path)?;
    if request.verify {
        verify_archive(&path, &sha256, metadata, monitor)?;
    }
    let line = checksum::sidecar_line(&sha256, &names::archive(staging.timestamp));
    durable::write_new(&staging.dir.join(names::sidecar(&names::archive(staging.timestamp))), line.as_bytes())
}

/// Writes the archive anew, from the copies.
fn repeat_archive(staging: &Staging, spoiled: ArchiveRun, metadata: &Metadata, path: &Path, monitor: &Monitor) -> Result<ArchiveRun> {
    drop(spoiled.members);
    // It fails, since a member broke off; that is why we are here.
    let _ = spoiled.thread.join();
    durable::remove_file(path)?;
    let run = ArchiveRun::start(staging)?;
    for record in metadata.databases() {
        let copy = staging.dir.join(&record.file);
        let parts = run.open(record.file.clone(), record.size);
        let mut file = File::open(&copy).context("open", &copy)?;
        read_blocks(&mut file, &copy, &mut |block| {
            monitor.check()?;
            let _ = parts.send(block);
            Ok(())
        })?;
        drop(parts);
        run.add_bytes(&names::sidecar(&record.file), checksum::sidecar_line(&record.sha256, &record.file).into_bytes());
    }
    Ok(run)
}

/// Reads a finished archive back: the file's own hash, and every database in it.
fn verify_archive(path: &Path, sha256: &str, metadata: &Metadata, monitor: &Monitor) -> Result<()> {
    let mut file = File::open(path).context("open", path)?;
    let (on_disk, _) = checksum::hash_reader(&mut file, |_| Ok::<_, io::Error>(())).context("read back", path)?;
    if on_disk != sha256 {
        return Err(bad_disk(path));
    }
    let mut expected: BTreeMap<&str, &str> = metadata.databases().iter().map(|d| (d.file.as_str(), d.sha256.as_str())).collect();
    archive::read(path, |_, _, name, body| {
        let (hash, _) = checksum::hash_reader(body, |_| monitor.check().map_err(io::Error::other))
            .map_err(|e| monitor.check().err().unwrap_or_else(|| Error::io(e, "read back", path)))?;
        match expected.remove(name) {
            Some(wanted) if wanted != hash => Err(bad_disk(path)),
            _ => Ok(()),
        }
    })?;
    if expected.is_empty() { Ok(()) } else { Err(bad_disk(path)) }
}

fn bad_disk(path: &Path) -> Error {
    Error::new(
        Code::ChecksumMismatch,
        format!(
            "{} was read back with other bytes than were written to it; the disk or memory of this machine is failing. No backup was made",
            path.display()
        ),
    )
}

/// Reads a copy back from disk: its hash must be that of the pages as SQLite gave them. Its structure goes on record.
fn verify_copy(
    staging: &Staging,
    record: &mut DatabaseRecord,
    monitor: &Monitor,
    damages: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let path = staging.dir.join(&record.file);
    let mut file = File::open(&path).context("open", &path)?;
    let saw = |n| {
        monitor.advance(&record.source, n);
        monitor.check().map_err(io::Error::other)
    };
    let (hash, length) =
        checksum::hash_reader(&mut file, saw).map_err(|e| monitor.check().err().unwrap_or_else(|| Error::io(e, "read back", &path)))?;
    if hash != record.sha256 || length != record.size {
        return Err(bad_disk(&path));
    }
    let Some(sqlite) = &mut record.sqlite else { return Ok(()) };
    let checked = health::check_copy(&path)?;
    sqlite.tables = checked.tables;
    sqlite.integrity = match checked.verdict {
        Verdict::Sound => Integrity::Ok,
        Verdict::Damaged(why) => {
            damages.push(format!("{} is damaged: {why}", record.source));
            Integrity::Damaged
        }
        Verdict::CannotCheck(why) => {
            warnings.push(format!("{}: its structure can't be fully checked here ({why}); its bytes are verified", record.source));
            Integrity::CannotCheck
        }
    };
    Ok(())
}

fn note_raw_damage(sources: &[Source], damages: &mut Vec<String>) {
    for source in sources {
        if let State::Raw { damaged: Some(why) } = &source.state {
            damages.push(format!("{} can't be read as a database: {why}; its bytes were saved as they are", source.database.source));
        }
    }
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

/// Permission bits, for a restore that has to make the file anew.
fn mode_of(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        path.metadata().ok().map(|m| m.permissions().mode() & 0o777)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

fn describe(project: &Project, staging: &Staging, request: &Request, databases: Vec<DatabaseRecord>) -> Metadata {
    let provenance = Provenance::of(&project.root);
    Metadata {
        timestamp: staging.timestamp.to_string(),
        date: staging.timestamp.to_iso(),
        hostname: provenance.hostname,
        user: provenance.user,
        git_commit: provenance.git_commit,
        git_branch: provenance.git_branch,
        compressed: request.compress,
        format: Some(FORMAT),
        tool: Some(concat!("@agentic-qe/backup ", env!("CARGO_PKG_VERSION")).to_owned()),
        sqlite_version: Some(crate::sqlite::version().to_owned()),
        kind: Some(request.kind),
        operation: request.operation.clone(),
        label: request.label.clone(),
        verified: Some(request.verify),
        shrunk_since: None,
        databases: Some(databases),
        extra: Map::new(),
    }
}

/// A table with this many rows or fewer may shrink without a word.
const FEW_ROWS: u64 = 100;

/// Looks for tables that lost more than half of their rows, and over [`FEW_ROWS`], since the newest earlier set that
/// counted them, or since the set from before an earlier such loss. Warns of each; names the set from before the loss.
fn find_shrinkage(metadata: &Metadata, earlier: &[SetEntry], warnings: &mut Vec<String>) -> Option<String> {
    let newest_first = || earlier.iter().rev().filter_map(SetEntry::metadata);
    let mut before_loss: Option<&str> = None;
    for database in metadata.databases() {
        let Some(now) = database.sqlite.as_ref().filter(|s| !matches!(s.integrity, Integrity::NotChecked)) else { continue };
        let holds = |m: &&Metadata| tables_of(m, &database.source).is_some();
        let Some(last) = newest_first().find(holds) else { continue };
        let baseline = last.shrunk_since.as_deref().and_then(|t| newest_first().find(|m| m.timestamp == t)).filter(holds);
        for then in [Some(last), baseline].into_iter().flatten() {
            let losses = tables_of(then, &database.source).map(|tables| losses(tables, &now.tables)).unwrap_or_default();
            if losses.is_empty() {
                continue;
            }
            warnings.extend(
                losses
                    .iter()
                    .map(|(t, a, b)| format!("{}: table {t} shrank from {a} rows in backup {} to {b}", database.source, then.timestamp)),
            );
            before_loss = Some(before_loss.map_or(then.timestamp.as_str(), |b| b.min(then.timestamp.as_str())));
        }
    }
    before_loss.map(str::to_owned)
}

fn tables_of<'a>(metadata: &'a Metadata, source: &str) -> Option<&'a BTreeMap<String, u64>> {
    let sqlite = metadata.databases().iter().find(|d| d.source == source)?.sqlite.as_ref()?;
    (sqlite.integrity != Integrity::NotChecked).then_some(&sqlite.tables)
}

fn losses<'a>(then: &'a BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Vec<(&'a str, u64, u64)> {
    let rows = then.iter().map(|(table, before)| (table.as_str(), *before, now.get(table).copied().unwrap_or(0)));
    rows.filter(|(_, before, after)| before - after.min(before) > FEW_ROWS && after * 2 < *before).collect()
}
